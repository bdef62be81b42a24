"""A spool's file, torn and damaged in any way: read without failing, and a sound record behind the damage is found."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from sidecar import segments
from sidecar.journal import Journal
from sidecar.log import Log

_ID = b"0123456789abcdef" * 2
_EVENT = b'{"id":"sound"}'
WORDS = (segments.frame(segments.CLOSED, _ID, _EVENT).decode(), "00000000 00000021 c", "\n", "ffffffff")


class _Lines:
    def line(self, event: str, fields: dict[str, Any]) -> None:
        assert event == "spool_failed", event


def check(data: bytes) -> None:
    """Judge one file."""
    found = segments.read(data)
    assert not set(found.open) & set(found.closed)
    behind = segments.read(data + b"\n" + segments.frame(segments.CLOSED, _ID, _EVENT))
    assert behind.closed[_ID] == _EVENT
    assert behind.closed.keys() >= found.closed.keys()
    folder = Path(tempfile.mkdtemp(dir=_memory()))
    try:
        _start(folder, data, found)
    finally:
        shutil.rmtree(folder)


def _start(folder: Path, data: bytes, found: segments.Contents) -> None:
    """A sidecar that starts on it takes over what is sound, and leaves nothing when it is sent."""
    (folder / "0000000000000001.spool").write_bytes(data)
    journal = Journal(folder, cast(Log, _Lines()), max_bytes=1 << 20, carry=lambda: b"")
    assert journal.start() == found.open
    events: list[bytes] = []
    while segment := journal.oldest():
        contents = segments.Contents()
        list(journal.events(segment, contents))
        events += contents.closed.values()
        journal.acknowledge(segment)
    assert events == list(found.closed.values())
    assert (journal.bytes_on_disk, journal.waiting) == (0, 0)
    journal.close()
    assert list(folder.iterdir()) == []


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
