"""The metering proxy that stands in front of a model server, in the model's pod.

From the wire inwards: `client` and `upstream` speak HTTP/1.1, `exchange` leads one request through, and the
pure modules decide: `endpoints` (what is metered), `request_body` (what the server is asked), `stream` and
`answer` (what reaches the client, and what was counted), `usage` (what a count is).
"""
