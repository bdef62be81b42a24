"""A control plane with a node, run inside the namespaces that `init` has prepared.

All programs speak to the API server as its administrator. One that dies is started again, as systemd would.
`python -m tests.node.node FOLDER PORT CGROUP`.
"""

import io
import json
import platform
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import parts
from demo.processes import Child, python
from tests.cluster.control_plane import START_SECONDS, ControlPlane
from tests.cluster.pki import write_self_signed
from tests.node import machine, settings

PROGRAMS = ("kube-apiserver", "kubelet", "coredns")
"""One of each part that a node is made of."""
READY = "ready"


class Node(ControlPlane):
    """Pods run, Services work, names are found; `cgroup` is above every container's."""

    controllers = ("*",)
    reach = (
        "--bind-address=0.0.0.0",
        f"--advertise-address={settings.ADDRESS}",
        "--kubelet-preferred-address-types=InternalIP",
    )

    def __init__(self, folder: Path, port: int, cgroup: str) -> None:
        super().__init__(folder, port)
        self._cgroup = cgroup
        self._services: dict[str, tuple[Child, list[str | Path]]] = {}

    def up(self) -> None:
        self.ca.parent.mkdir()
        names = ("kubernetes.default.svc", "kubernetes.default", settings.API_SERVICE, settings.ADDRESS)
        write_self_signed(self.ca.parent, self.ca.stem, *names)
        super().up()
        self._write_files()
        self._serve("containerd", "containerd", f"--config={self.folder / 'containerd.toml'}")
        self._wait("containerd", lambda: _run("ctr", "version"))
        self._import_pause()
        self._serve("kube-scheduler", parts.path("kube-scheduler"), *self._as_admin, "--leader-elect=false")
        self._serve(
            "kubelet",
            parts.path("kubelet"),
            *self._as_admin,
            f"--config={self.folder / 'kubelet.json'}",
            f"--root-dir={settings.KUBELET}",
            f"--cert-dir={settings.KUBELET}/pki",
            f"--hostname-override={settings.NAME}",
            f"--node-ip={settings.ADDRESS}",
        )
        self._serve("kube-proxy", parts.path("kube-proxy"), f"--config={self.folder / 'kube-proxy.json'}")
        self._serve("coredns", parts.path("coredns"), f"-conf={self.folder / 'Corefile'}")
        self.apply(settings.objects(self.folder))
        self._wait("kubelet", self._node_is_ready)
        self._wait("coredns", _dns_is_ready)
        self._serve("controllers", *python("tests.node.controllers", str(self.kubeconfig)))

    def keep(self) -> None:
        """Start again whatever dies; never returns."""
        while True:
            for name, (child, command) in self._services.items():
                if child.process.poll() is not None:
                    self._services[name] = (self.processes.start(name, command), command)
            time.sleep(0.5)

    @property
    def _as_admin(self) -> tuple[str, ...]:
        return (f"--kubeconfig={self.kubeconfig}",)

    def _serve(self, name: str, *command: str | Path) -> None:
        self._services[name] = (self.processes.start(name, command), list(command))

    def _start(self, name: str, *arguments: str) -> Child:
        self._serve(name, parts.path(name), *arguments)
        return self._services[name][0]

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        self.processes.wait(self._services[name][0], ready, START_SECONDS)

    def _write_files(self) -> None:
        folder, plugins = self.folder, machine.cni_folder()
        assert plugins is not None
        (folder / "cni").mkdir()
        for number in range(settings.VOLUMES):
            (folder / "volumes" / str(number)).mkdir(parents=True)
        files = {
            "containerd.toml": settings.containerd(folder, plugins),
            "cni/10-pods.conflist": settings.cni(folder),
            "kubelet.json": json.dumps(settings.kubelet(folder, self._cgroup)),
            "kube-proxy.json": json.dumps(settings.kube_proxy(self.kubeconfig)),
            "Corefile": settings.COREFILE.replace("KUBECONFIG", str(self.kubeconfig)),
            "resolv.conf": "",
            settings.RUNC: settings.runc(self._cgroup),
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / settings.RUNC).chmod(0o755)

    def _import_pause(self) -> None:
        archive = self.folder / "pause.tar"
        archive.write_bytes(_docker_archive(parts.path("pause"), settings.PAUSE))
        assert _run("ctr", "-n", "k8s.io", "images", "import", str(archive))

    def _node_is_ready(self) -> bool:
        path = f"/api/v1/nodes/{settings.NAME}"
        answer = self.client.request("GET", path)
        conditions = answer.body["status"].get("conditions", ()) if answer.status == 200 else ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _dns_is_ready() -> bool:
    try:
        with socket.create_connection((settings.ADDRESS, 8181), timeout=2) as connection:
            connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _docker_archive(program: Path, name: str) -> bytes:
    """An image of one static program, as `docker load` reads it."""
    layer = _tar({"program": program.read_bytes()})
    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": layer,
            "config.json": json.dumps(configuration).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> None:
    folder, port, cgroup = sys.argv[1:]
    node = Node(Path(folder), int(port), cgroup)
    node.up()
    (node.folder / READY).touch()
    node.keep()


if __name__ == "__main__":
    main()
