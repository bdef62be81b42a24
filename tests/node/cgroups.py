"""The cgroups of a node: they belong to no namespace, so they have to be taken away by hand.

One is above all others, and each process of the node is in it or below it: once it can be removed, the last has ended.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
SECONDS = 60.0


def make(name: str) -> Path:
    """Make the cgroup of this name. A process whose id is written into the file is in it with all its children."""
    # Version 1 has a hierarchy for each controller; the node's programs need be in one. Version 2 has one, in which
    # processes are in leaves only.
    top = next((ROOT / kind for kind in ("pids", "freezer", "systemd") if (ROOT / kind).is_dir()), ROOT)
    programs = top / name / "programs"
    programs.mkdir(parents=True)
    return programs / "cgroup.procs"


def remove(name: str) -> None:
    """Remove the cgroup of this name with all below it, in each hierarchy; raises TimeoutError where it is in use."""
    end = time.monotonic() + SECONDS
    while left := list(_folders(name)):
        for folder in left:
            with suppress(OSError):  # its processes are ending, or it has gone
                folder.rmdir()
        if time.monotonic() > end:
            raise TimeoutError(f"{left[0]} is still in use after {SECONDS:.0f} s")
        time.sleep(0.02)


def _folders(name: str) -> Iterator[Path]:
    """Deepest first. A hierarchy of its own (version 1) or the only one (version 2)."""
    for top in (ROOT / name, *ROOT.glob(f"*/{name}")):
        if top.is_dir():
            yield from sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
            yield top
