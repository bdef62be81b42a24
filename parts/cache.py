"""The cache: each part in a folder of its own, made once, whole or not at all.

A part is built in a temporary folder beside its place and renamed into it, under a file lock: two runs that
start together make it once, and a run that is killed leaves nothing that looks finished. A stamp holds the
size of every file and the SHA-256 of the program: an entry that no longer fits its stamp is made again.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parts.part import Part, PartError
from parts.steps import failure, say, timed

STAMP = "token-meter-part.json"


def cache_folder() -> Path:
    """Where parts are kept: TOKEN_METER_CACHE, else `token-meter` in the user's cache folder."""
    if own := os.environ.get("TOKEN_METER_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "token-meter"


def ensure(part: Part, cache: Path | None = None) -> Path:
    """The part's program, made first where it is missing or broken; raises PartError."""
    if (own := part.installed()) is not None:
        return own
    cache = cache or cache_folder()
    place = cache / f"{part.name}-{part.version}-{sys.platform}-{platform.machine()}"
    if not place.exists() or _flaw(part, place):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _lock(cache, place.name):
                _make(part, place)
        except OSError as error:
            # Mostly a full disk or a folder that is not ours; the path is in the error's text.
            raise PartError(failure(part.name, f"the cache {cache} cannot be written", str(error))) from error
    return place / part.program


def _make(part: Part, place: Path) -> None:
    """Build the part into its place; the caller holds its lock."""
    if place.exists():
        # Looked at again: another run may have made it while this one waited for the lock.
        if not (flaw := _flaw(part, place)):
            return
        say(f"{part.name} {part.version} is broken ({flaw}): making it again")
        shutil.rmtree(place)
    for left in place.parent.glob(f".{place.name}-*"):  # of a run that was killed: no other holds the lock
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        with timed(f"{part.name} {part.version}"):
            part.build(work)
            part.check(work)
            _write_stamp(part, work)
        work.chmod(0o755)
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_stamp(part: Part, folder: Path) -> None:
    sizes = {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
    stamp = {
        "name": part.name,
        "version": part.version,
        "sizes": sizes,
        "sha256": _sha256(folder / part.program),
    }
    (folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def _flaw(part: Part, place: Path) -> str | None:
    """What is wrong with an entry; None where it is whole."""
    try:
        stamp = json.loads((place / STAMP).read_text())
        for name, size in stamp["sizes"].items():
            if (place / name).stat().st_size != size:
                return f"{name} has another size than when it was made"
        if _sha256(place / part.program) != stamp["sha256"]:
            return f"{part.program} has changed since it was made"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its stamp cannot be read: {error}"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _lock(cache: Path, entry: str) -> Iterator[None]:
    """Held by one process at a time; the kernel lets go of it when its holder dies."""
    with (cache / f"{entry}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is making {entry}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
