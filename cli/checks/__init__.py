"""What `token-meter check` looks at: `snapshot` reads the cluster, the others judge what was read (pure)."""
