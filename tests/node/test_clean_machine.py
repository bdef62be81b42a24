"""What a node leaves on the machine: nothing, however it ends.

By its name it comes before the tests of this folder that start the cluster that they share.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.installation import eventually
from tests.node import cgroups, keeper, machine, settings
from tests.node.init import KERNEL
from tests.node.local import LocalCluster

pytestmark = pytest.mark.xdist_group("node")
FOLDERS = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/usr/libexec/kubernetes",
)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "waits", "namespace": "default"},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [{"name": "pause", "image": settings.PAUSE, "imagePullPolicy": "Never"}],
    },
}
Machine = dict[str, set[str]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[[str], LocalCluster]]:
    """Starts nodes, each with a pod in it."""
    if reason := machine.unavailable():
        pytest.skip(reason)
    machine.install()
    started = []

    def start(name: str) -> LocalCluster:
        (folder := tmp_path / name).mkdir()
        started.append(cluster := LocalCluster(folder))
        cluster.up()
        cluster.apply([POD])
        cluster.kubectl("wait", "pod/waits", "--for=condition=Ready", "--timeout=3m")
        return cluster

    yield start
    for cluster in started:
        cluster.down()


def test_it_leaves_nothing_when_it_is_ended(node: Callable[[str], LocalCluster], tmp_path: Path) -> None:
    before = _machine(tmp_path)
    cluster = node("node")
    during = _machine(tmp_path)
    assert during["cgroups"] > before["cgroups"]
    assert during["processes"]
    assert {kind for kind in before if during[kind] != before[kind]} == {"cgroups", "processes"}
    cluster.down()
    assert _machine(tmp_path) == before
    left = (path for path in cluster.folder.iterdir() if path.name not in (keeper.LOCK, keeper.LOGS))
    assert {path.suffix for path in left} == {".log"}


def test_it_leaves_nothing_when_its_keeper_is_killed(
    node: Callable[[str], LocalCluster], tmp_path: Path
) -> None:
    before = _machine(tmp_path)
    cluster = node("node")
    os.kill(int(keeper.state(cluster.folder)["pid"]), signal.SIGKILL)
    eventually(lambda: not _machine(tmp_path)["processes"])
    keeper.stop(cluster.folder)
    assert _machine(tmp_path) == before


def test_two_at_once_do_not_meet(node: Callable[[str], LocalCluster]) -> None:
    first, second = node("first"), node("second")
    first.kubectl("delete", "pod", "waits", "--now")
    first.down()
    assert second.get("pod", "waits", "default")["status"]["phase"] == "Running"


def _machine(folder: Path) -> Machine:
    """What there is on the machine; of its processes and mounts those that know the folder."""
    run = ["sh", "-c", "ip -oneline link; ip -oneline address; ip route; nft list ruleset"]
    return {
        "network": set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()),
        "mounts": {
            line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line
        },
        "kernel": {f"{name}={Path('/proc/sys', name).read_text()}" for name in KERNEL},
        "files": {str(path) for name in FOLDERS for path in Path(name).rglob("*")},
        "cgroups": set(_cgroups()),
        "processes": set(_processes(folder)),
    }


def _cgroups() -> Iterator[str]:
    """Those of any node, and those that containerd makes where it is told of none."""
    find = ["find", str(cgroups.ROOT), "-type", "d"]
    for line in subprocess.run(find, capture_output=True, text=True, check=False).stdout.splitlines():
        if "/token-meter-" in line or "/k8s.io" in line:
            yield line


def _processes(folder: Path) -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if str(folder) in line or settings.CONTAINERD in line:
            yield line
