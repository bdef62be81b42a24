"""A real API server with the official CRDs, our RBAC, and the controller as a process under its ServiceAccount."""

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import envoy_gateway, official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import ACCOUNT, SYSTEM, Run, kubeconfig
from tests.gateway.controller.scene import Scene
from tests.manifests.render import objects


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server with what the controller needs to be installed."""
    with ControlPlane(tmp_path_factory.mktemp("controller")) as plane:
        official.install(plane.client)
        install(plane)
        envoy_gateway.install_crds(plane.client)
        yield plane


def install(plane: ControlPlane) -> None:
    """What the controller's own manifests put into a cluster, but for its Deployment."""
    ours = [o for o in objects() if o["metadata"]["name"] in (ACCOUNT, SYSTEM, "token-meter")]
    plane.apply([o for o in ours if o["kind"] not in ("Deployment", "Secret")])


Start = Callable[..., Run]


@pytest.fixture
def start(plane: ControlPlane) -> Iterator[Start]:
    """Starts the controller; what a test starts ends with it."""
    runs: list[Run] = []
    token = kubeconfig(plane)

    def begin(**settings: str) -> Run:
        runs.append(Run(plane.folder, token, settings))
        return runs[-1]

    yield begin
    for run in runs:
        run.stop()


@pytest.fixture
def scene(plane: ControlPlane) -> Iterator[Scene]:
    """Namespaces of its own and a Gateway; all of it goes with the test."""
    with Scene(plane) as scene:
        yield scene
