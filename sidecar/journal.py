"""Segments of records, on disk or, while the disk takes nothing, in memory: what is written, sealed, read, deleted.

A write is `write(2)` into the page cache and no more. That outlives the process, however it is killed, and costs
microseconds; a power cut takes the model with it too, so no answer waits for a disk.
"""

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from sidecar import segments
from sidecar.log import Log

SEGMENT_BYTES = 512 * 1024
MEMORY_BYTES = 8 * 1024 * 1024
_SLOW_SECONDS = 0.25
_RETRY_SECONDS = 5.0
_SUFFIX = ".spool"


@dataclass(slots=True, eq=False)
class Segment:
    """One file, or what stands in for it in memory. `closed` counts its closed events."""

    path: Path | None = None
    size: int = 0
    carried: int = 0
    closed: int = 0
    unreadable: int = 0
    memory: bytearray = field(default_factory=bytearray)

    def read(self) -> bytes:
        """All its bytes. Raises OSError."""
        return self.path.read_bytes() if self.path else bytes(self.memory)


class Journal:
    """Appends to the last segment. `carry` gives the records that a new segment starts with: those of the requests
    that are still open, so that an older segment can go as soon as its closed events are acknowledged."""

    def __init__(self, folder: Path | None, log: Log, *, max_bytes: int, carry: Callable[[], bytes]) -> None:
        self._folder = folder
        self._log = log
        self._max_bytes = max_bytes
        self._carry = carry
        self._sealed: deque[Segment] = deque()
        self._reading: Segment | None = None
        self._active = Segment()
        self._descriptor = -1
        self._number = 0
        self._retry_at = 0.0
        self.bytes_on_disk = 0
        self.bytes_in_memory = 0
        self.lost: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @property
    def in_memory(self) -> bool:
        """Whether what is written now would not outlive the process."""
        return self._active.path is None

    @property
    def waiting(self) -> int:
        """Closed events that nobody has acknowledged."""
        return self._active.closed + sum(segment.closed for segment in self._sealed)

    def start(self) -> dict[bytes, bytes]:
        """Take over what an earlier life has left; the events it left open, by id. They are the caller's to close."""
        left: dict[bytes, bytes] = {}
        if self._folder is not None:
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                with contextlib.suppress(ValueError):
                    self._number = max(self._number, int(path.name.removesuffix(_SUFFIX)))
                self._take_over(path, left)
        self._begin()
        return left

    def write(self, records: bytes, *, closed: int = 0) -> None:
        """Append framed records, of which so many close an event. In memory the others are worth nothing."""
        if self._active.size - self._active.carried >= SEGMENT_BYTES:
            self.roll()
        began = monotonic()
        if self._active.path is not None and not self._append(records):
            self._leave_disk()
        active = self._active
        if active.path is None:
            if not closed:
                return
            if self.bytes_in_memory + len(records) > MEMORY_BYTES:
                self.lost["full"] += closed
                return
            active.memory += records
            self.bytes_in_memory += len(records)
        else:
            self.bytes_on_disk += len(records)
        active.size += len(records)
        active.closed += closed
        if active.path is not None and monotonic() - began > _SLOW_SECONDS:
            self.failures["slow"] += 1
            self._leave_disk()

    def roll(self) -> None:
        """Seal the last segment and begin another."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._active.size:
            self._sealed.append(self._active)
        else:
            self._delete(self._active)
        self._begin()

    def retry(self) -> None:
        """Go back to the disk, if it is time to try."""
        if self.in_memory and self._folder is not None and monotonic() >= self._retry_at:
            self.roll()

    def close(self) -> None:
        """End; an empty file is not left behind."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if not self._active.size:
            self._delete(self._active)

    # -- the reader's side

    def seal(self) -> None:
        """Let what has been written up to here be read."""
        if self._active.closed:
            self.roll()

    def oldest(self) -> Segment | None:
        """The oldest sealed segment."""
        self._reading = self._sealed[0] if self._sealed else None
        return self._reading

    def events(self, segment: Segment, found: segments.Contents) -> Iterator[None]:
        """Read a segment's events into `found`, a step at a time; what cannot be read of them is counted as lost."""
        try:
            yield from segments.steps(segment.read(), found)
        except OSError as error:
            self._fail("read", error)
            self.lost["unreadable"] += segment.closed
            return
        self.lost["unreadable"] += max(found.unreadable - segment.unreadable, 0)
        segment.unreadable = found.unreadable

    def acknowledge(self, segment: Segment) -> None:
        """This segment's events are somebody else's now."""
        self._reading = None
        with contextlib.suppress(ValueError):
            self._sealed.remove(segment)
        self._delete(segment)

    # -- inside

    def _begin(self) -> None:
        self._active = Segment()
        if self._folder is not None and monotonic() >= self._retry_at:
            self._number += 1
            path = self._folder / f"{self._number:016d}{_SUFFIX}"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except OSError as error:
                self._fail("open", error)
                self._retry_at = monotonic() + _RETRY_SECONDS
                return
            self._active.path = path
            if carried := self._carry():
                self.write(carried)
                self._active.carried = self._active.size

    def _append(self, records: bytes) -> bool:
        """Whether the file has taken all of it; a part that it took is cut off again."""
        self._make_room(len(records))
        try:
            if os.write(self._descriptor, records) == len(records):
                return True
            raise OSError("only a part could be written")
        except OSError as error:
            self._fail("write", error)
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._active.size)
        return False

    def _leave_disk(self) -> None:
        self._retry_at = monotonic() + _RETRY_SECONDS
        self.roll()

    def _make_room(self, size: int) -> None:
        """Past the bound the oldest events go, and are counted; not those that are being read."""
        while self.bytes_on_disk + size > self._max_bytes:
            oldest = next((one for one in self._sealed if one.path and one is not self._reading), None)
            if oldest is None:
                return
            self.lost["full"] += oldest.closed
            self._sealed.remove(oldest)
            self._delete(oldest)

    def _delete(self, segment: Segment) -> None:
        if segment.path is None:
            self.bytes_in_memory -= segment.size
            return
        self.bytes_on_disk -= segment.size
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._fail("delete", error)

    def _take_over(self, path: Path, left: dict[bytes, bytes]) -> None:
        segment = Segment(path)
        try:
            data = segment.read()
        except OSError as error:
            self._fail("read", error)
            self.lost["unreadable"] += 1
            return
        found = segments.read(data)
        left.update(found.open)
        for event_id in found.closed:
            left.pop(event_id, None)
        segment.size, segment.closed, segment.unreadable = len(data), len(found.closed), found.unreadable
        self.lost["unreadable"] += found.unreadable
        self.bytes_on_disk += segment.size
        self._sealed.append(segment)

    def _fail(self, what: str, error: OSError) -> None:
        self.failures[what] += 1
        self._log.line("spool_failed", {"level": "error", "what": what, "error": str(error)})
