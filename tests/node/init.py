"""The first process in a node's namespaces: prepares them, runs the node, buries its dead.

What it changes is seen in these namespaces alone, and goes with them: mounts, interfaces, addresses, the names of
files under /run, /var/log and /var/lib. `python -m tests.node.init FOLDER PORT CGROUP`.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from demo.processes import python
from tests.cluster.network_namespace import forward
from tests.node import settings

KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet wants of the kernel (pkg/kubelet/cm, setupKernelTunables). It would set it for the whole machine."""
SOCKET = "api-server.sock"
"""In the node's folder: leads to the API server, for Unix sockets cross network namespaces."""


def _mounts(folder: Path) -> None:
    """Paths that programs have fixed: theirs alone, and gone with them."""
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")
    _run("mount", "-t", "tmpfs", "tmpfs", "/var/log")
    # Kubelet's sockets lie in its folder, and a socket's path has room for 108 bytes.
    kubelet = folder / "kubelet"
    kubelet.mkdir(exist_ok=True)
    Path(settings.KUBELET).mkdir()
    _run("mount", "--bind", str(kubelet), settings.KUBELET)
    Path("/run/upper").mkdir()
    Path("/run/work").mkdir()
    layers = "lowerdir=/var/lib,upperdir=/run/upper,workdir=/run/work"
    _run("mount", "-t", "overlay", "overlay", "-o", layers, "/var/lib")
    for name, value in KERNEL.items():
        believed = folder / "kernel" / name
        believed.parent.mkdir(parents=True, exist_ok=True)
        believed.write_text(value)
        _run("mount", "--bind", str(believed), f"/proc/sys/{name}")


def _network() -> None:
    """The node's address on an interface that leads nowhere, and a route for what Services are called by."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for line in (
        "link set lo up",
        "link add node0 type veth peer name node1",
        f"address add {settings.ADDRESS}/24 dev node0",
        "link set node0 up",
        "link set node1 up",
        f"route add default via {settings.ADDRESS}",
    ):
        _run("ip", *line.split())


def _lead(folder: Path, port: int) -> None:
    """From the socket to the API server, as long as this process lives."""

    async def run() -> None:
        os.chdir(folder)
        await forward(f"{SOCKET}={port}")
        await asyncio.Event().wait()

    asyncio.run(run())


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main() -> int:
    folder, port, cgroup = sys.argv[1:]
    socket.sethostname(settings.NAME)
    _mounts(Path(folder))
    _network()
    os.chdir(folder)
    threading.Thread(target=_lead, args=(folder, int(port)), daemon=True).start()
    node = subprocess.Popen(python("tests.node.node", folder, port, cgroup))
    while True:
        # Not `node.wait()`: every process whose parent has ended is this one's child.
        ended, status = os.wait()
        if ended == node.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
