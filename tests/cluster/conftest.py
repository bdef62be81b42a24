"""One control plane for each test process that needs one, with the official CRDs in it."""

from collections.abc import Iterator

import pytest

from tests.cluster import official
from tests.cluster.control_plane import ControlPlane


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server; what a test puts into it stands in a namespace of its own."""
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as plane:
        official.install(plane.client)
        yield plane
