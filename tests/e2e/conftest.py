"""The cluster is that of the other tests."""

from tests.cluster.conftest import cluster

__all__ = ["cluster"]
