"""Which cluster this machine can have: a node of its own, or kind's (CLUSTER=kind, or where nothing else goes)."""

import os
from pathlib import Path

from tests.cluster.cluster import NodeCluster
from tests.e2e import kind_cluster
from tests.e2e.kind_cluster import Kind
from tests.images import builder
from tests.node import machine
from tests.node.local import LocalCluster


def unavailable() -> str | None:
    """Why there is none, in one line; None where there is one."""
    if _asked_for_kind():
        return _no_kind()
    if (reason := machine.unavailable() or builder.unavailable()) and (other := _no_kind()):
        return f"{reason}; and no kind: {other}"
    return None


def cluster(folder: Path, name: str = "token-meter", *, stays: bool = False) -> NodeCluster:
    """One with its state in `folder`; `name` is kind's for it. kind's stays up until it is taken down in any case."""
    folder.mkdir(parents=True, exist_ok=True)
    if _asked_for_kind() or machine.unavailable():
        return Kind(name, folder)
    return LocalCluster(folder, stays=stays)


def _asked_for_kind() -> bool:
    return os.environ.get("CLUSTER") == "kind"


def _no_kind() -> str | None:
    return kind_cluster.unavailable(("docker", "kind"))
