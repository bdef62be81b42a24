"""One cluster with a node for all tests of this folder: they are one group, so they run in one process."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import NodeCluster
from tests.node import choice


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCluster]:
    """Up, with nothing in it."""
    if reason := choice.unavailable():
        pytest.skip(reason)
    with choice.cluster(tmp_path_factory.mktemp("node"), "token-meter-tests") as up:
        yield up
