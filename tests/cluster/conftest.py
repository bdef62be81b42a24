"""One control plane for each test process that needs one, with the official CRDs in it."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests.cluster import official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installation import LABEL, Installation
from tests.cluster.kserve_server import LABEL as KSERVE_LABEL

Namespace = Callable[..., str]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server; what a test puts into it stands in a namespace of its own."""
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as plane:
        official.install(plane.client)
        yield plane


@pytest.fixture(scope="session")
def installed(cluster: ControlPlane) -> Iterator[Installation]:
    """token-meter installed, with one replica of the webhook."""
    with Installation(cluster) as installation:
        yield installation


@pytest.fixture
def namespace(installed: Installation) -> Namespace:
    """Makes namespaces: labelled for injection or not, with KServe's webhooks asked `first`, `last` or not at all."""

    def make(*, injection: str | None = "enabled", kserve: str | None = None) -> str:
        labels = {LABEL: injection, KSERVE_LABEL: kserve}
        name = f"models-{uuid4().hex[:8]}"
        metadata = {"name": name, "labels": {key: value for key, value in labels.items() if value}}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        assert installed.plane.client.request("POST", "/api/v1/namespaces", body).status == 201
        return name

    return make
