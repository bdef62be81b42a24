"""What the sidecar costs, beside Envoy as a plain proxy, as ratios of one run (`make bench`)."""
