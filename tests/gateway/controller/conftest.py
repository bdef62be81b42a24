"""A real API server with the official CRDs, our RBAC, and the controller as a process under its ServiceAccount."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from demo.processes import Child, Processes, free_ports, python
from tests.cluster import envoy_gateway, official
from tests.cluster.control_plane import ControlPlane
from tests.gateway.controller.scene import SYSTEM, Scene
from tests.manifests.render import objects

REPOSITORY = Path(__file__).resolve().parents[3]
ACCOUNT = "token-meter-gateway"
_NUMBERS = count(1)


class Run:
    """`token-meter gateway`, from start to `stop` or `kill`."""

    def __init__(self, folder: Path, kubeconfig: Path, settings: dict[str, str]) -> None:
        (self.port,) = free_ports(1)
        given = {"HOST": "127.0.0.1", "ADMIN_PORT": str(self.port), "NAMESPACE": SYSTEM, **settings}
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(REPOSITORY),
            **{f"TOKEN_METER_GATEWAY_{name}": value for name, value in given.items()},
        }
        self._processes = Processes(folder)
        self._child: Child = self._processes.start(
            f"gateway-{next(_NUMBERS)}", python("cli.main", "gateway"), environment
        )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._child.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, as when its node dies."""
        self._child.process.kill()
        self._processes.stop()

    def stop(self) -> None:
        """SIGTERM, as when its pod is deleted."""
        self._processes.stop()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running API server with what the controller needs to be installed."""
    with ControlPlane(tmp_path_factory.mktemp("controller")) as plane:
        official.install(plane.client)
        ours = [o for o in objects() if o["metadata"]["name"] in (ACCOUNT, SYSTEM, "token-meter")]
        plane.apply([o for o in ours if o["kind"] not in ("Deployment", "Secret")])
        envoy_gateway.install_crds(plane.client)
        yield plane


Start = Callable[..., Run]


@pytest.fixture
def start(plane: ControlPlane) -> Iterator[Start]:
    """Starts the controller; what a test starts ends with it."""
    runs: list[Run] = []
    kubeconfig = plane.folder / "gateway.kubeconfig"
    token = plane.kubectl("create", "token", ACCOUNT, f"--namespace={SYSTEM}", "--duration=1h").strip()
    plane.write_kubeconfig(kubeconfig, token, SYSTEM)

    def begin(**settings: str) -> Run:
        runs.append(Run(plane.folder, kubeconfig, settings))
        return runs[-1]

    yield begin
    for run in runs:
        run.stop()


@pytest.fixture
def scene(plane: ControlPlane) -> Iterator[Scene]:
    """Namespaces of its own and a Gateway; all of it goes with the test."""
    with Scene(plane) as scene:
        yield scene
