"""The whole flow in a cluster with nodes: installed by its manifests, used as the guide says, upgraded, taken away."""
