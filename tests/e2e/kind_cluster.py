"""A cluster by `kind`, which needs Docker: behind the interface that the other clusters of the tests have."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from demo.processes import DemoError
from tests.cluster.cluster import NodeCluster
from tests.e2e.settings import FOLDER, VERSIONS

TOOLS = ("docker", "kind", "helm")


def unavailable(tools: Sequence[str] = TOOLS) -> str | None:
    """Why there can be no such cluster here; None where there can."""
    missing = [name for name in tools if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not found: install it, or use a machine that has it"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers `docker info`: start it, or let this user reach it"
    return None


def run(*command: str) -> str:
    """What a tool prints; raises DemoError with it where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Kind(NodeCluster):
    """A cluster of this name; its kubeconfig stands in `folder` and nowhere else."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.kubeconfig = folder / "kubeconfig"

    def up(self) -> None:
        config, image = f"--config={FOLDER / 'kind.yaml'}", f"--image={VERSIONS['kind-node']}"
        run("kind", "create", "cluster", f"--name={self.name}", self._kubeconfig, config, image, "--wait=3m")

    def down(self) -> None:
        run("kind", "delete", "cluster", f"--name={self.name}", self._kubeconfig)

    def load(self, image: str) -> None:
        """Bring an image of the Docker engine onto the node."""
        run("kind", "load", "docker-image", image, f"--name={self.name}")

    def enter(self, *command: str) -> str:
        return run("docker", "exec", f"{self.name}-control-plane", *command)

    @property
    def _kubeconfig(self) -> str:
        return f"--kubeconfig={self.kubeconfig}"
