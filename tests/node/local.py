"""A cluster of this machine's own: a node in namespaces, kept by a process that ends with the one that started it."""

import os
import subprocess
from pathlib import Path

import parts
from demo.processes import DemoError, Processes, free_ports, python
from tests.cluster.cluster import NodeCluster
from tests.images.builder import builder
from tests.node import keeper, machine
from tests.node.node import PROGRAMS, READY

START_SECONDS = 300.0


class LocalCluster(NodeCluster):
    """One in `folder`, in which its logs stay when it has gone."""

    def __init__(self, folder: Path, *, stays: bool = False) -> None:
        """Where it `stays`, it goes on when this process ends; another one may take it `down`."""
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._processes = Processes(folder, tied=not stays)

    def up(self) -> None:
        machine.install()
        for name in PROGRAMS:
            parts.path(name)
        command = python("tests.node.keeper", str(self.folder), str(*free_ports(1)))
        environment = {**os.environ, "PYTHONPATH": str(keeper.REPOSITORY)}
        child = self._processes.start("keeper", command, environment)
        try:
            self._processes.wait(child, (self.folder / READY).exists, START_SECONDS)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        keeper.stop(self.folder)  # it takes its time, and may
        self._processes.stop()

    def load(self, image: str) -> None:
        archive = self.folder / "image.tar"
        builder().save(image, archive)
        self.enter("ctr", "--namespace=k8s.io", "images", "import", str(archive))
        archive.unlink()

    def enter(self, *command: str) -> str:
        parent = keeper.state(self.folder)["unshare"]
        (first,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        head = ["nsenter", f"--target={first}", "--mount", "--net", "--pid", "--ipc", "--uts", "--"]
        done = subprocess.run([*head, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout
