"""Keeps one node: starts it in its namespaces, leads a port of 127.0.0.1 to its API server, and undoes it at the end.

The end is SIGTERM, SIGINT, or that of the node. What runs in the namespaces dies with the first process in them, and
that one with this one, however this one ends. So all that a SIGKILL can leave behind is a folder and cgroups, and
`undo` takes them away. `python -m tests.node.keeper FOLDER PORT`.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.processes import DemoError, python
from tests.cluster.network_namespace import forward
from tests.node import cgroups, machine
from tests.node.init import SOCKET

REPOSITORY = Path(__file__).resolve().parents[2]
STATE, LOCK, LOGS = "keeper.json", "keeper.lock", "pods"
SECONDS = 120.0


def state(folder: Path) -> dict[str, int | str]:
    """What its keeper wrote: its `pid`, the `cgroup` that every process of the node is in, and `unshare`: the
    parent of the first one in the namespaces."""
    found: dict[str, int | str] = json.loads((folder / STATE).read_text())
    return found


def alive(folder: Path) -> bool:
    """Whether a keeper has this folder."""
    try:
        with (folder / LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def stop(folder: Path) -> None:
    """End the keeper of this folder, if there is one, and take away what a killed one left. Logs stay."""
    end = time.monotonic() + SECONDS
    while alive(folder):
        if (folder / STATE).exists():
            os.kill(int(state(folder)["pid"]), signal.SIGTERM)
        if time.monotonic() > end:
            raise DemoError(f"the node in {folder} does not end; its keeper is in {STATE} there")
        time.sleep(0.1)
    undo(folder)


def undo(folder: Path) -> None:
    """Wait for the last process, and take away what outlives it: cgroups, and all files but logs."""
    if (folder / STATE).exists():
        cgroups.remove(str(state(folder)["cgroup"]))
    for path in folder.iterdir() if folder.exists() else ():
        if path.suffix == ".log" or path.name in (LOGS, LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"a node runs in {folder} already\nTo do: make cluster-down") from None
        undo(folder)
        yield


async def _run(folder: Path, port: int) -> int:
    cgroup = f"token-meter-{os.getpid()}"
    kept = {"pid": os.getpid(), "cgroup": cgroup}
    (folder / STATE).write_text(json.dumps(kept))
    enter = ["sh", "-ec", f'echo $$ > {cgroups.make(cgroup)}; exec "$@"', "enter"]
    tied = [
        "setpriv",
        "--pdeathsig=KILL",
        "--",
        *enter,
        "unshare",
        *machine.NAMESPACES,
        "--kill-child=KILL",
        "--",
    ]
    inside = python("tests.node.init", str(folder), str(port), cgroup)
    # A session of its own: a terminal's Ctrl-C is not for them.
    node = await asyncio.create_subprocess_exec(*tied, *inside, cwd=REPOSITORY, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, node.kill)
    (folder / STATE).write_text(json.dumps({**kept, "unshare": node.pid}))
    os.chdir(folder)
    await forward(f"{port}={SOCKET}")
    return await node.wait()


def main() -> int:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    with _held(folder):
        try:
            return asyncio.run(_run(folder, port))
        finally:
            undo(folder)


if __name__ == "__main__":
    sys.exit(main())
