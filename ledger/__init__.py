"""Usage events in, the gateway's missing charges and the users' sums out. Imports nothing of the product."""
