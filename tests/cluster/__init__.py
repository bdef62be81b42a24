"""A real kube-apiserver for the tests: its control plane, what is installed in it, and the tests themselves.

`control_plane.ControlPlane` is one way to have a cluster (`cluster.Cluster`): no node, so no pod ever runs.
`make e2e-cluster` (`python -m tests.cluster`) keeps one up to be used by hand.
"""
