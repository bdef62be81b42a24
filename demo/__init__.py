"""The guide, played on this machine: a real model, the injected sidecar, valkey, ratelimit and Envoy."""
