"""A cluster with a node, so that pods run. `local.LocalCluster` needs Linux, root and containerd, kind a Docker engine.

`choice.cluster` gives the one that this machine can have, `make cluster` keeps one up to be used by hand.
"""
