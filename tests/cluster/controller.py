"""`token-meter gateway` as a process of this machine, under its ServiceAccount: what its pod would be."""

import os
from itertools import count
from pathlib import Path

from demo.processes import Child, Processes, free_ports, python
from tests.cluster.control_plane import ControlPlane

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM = "token-meter-system"
ACCOUNT = "token-meter-gateway"
_NUMBERS = count(1)


def kubeconfig(plane: ControlPlane) -> Path:
    """One that holds the ServiceAccount's token and nothing else."""
    file = plane.folder / "gateway.kubeconfig"
    token = plane.kubectl("create", "token", ACCOUNT, f"--namespace={SYSTEM}", "--duration=2h").strip()
    plane.write_kubeconfig(file, token, SYSTEM)
    return file


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
    def pid(self) -> int:
        """The process."""
        return self._child.process.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._child.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as when its node dies."""
        self._child.process.kill()
        self._processes.stop()

    def stop(self) -> None:
        """SIGTERM, as when its pod is deleted."""
        self._processes.stop()
