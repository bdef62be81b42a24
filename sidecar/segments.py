"""How the spool's records lie in a file: `CRC32 LENGTH PAYLOAD\\n`, the two numbers in eight hex digits. Pure.

A payload is a kind (one byte), the event's id (32 hex digits) and the event as it would be sent. One that cannot be
read is passed over up to the next line, so that damage costs no more than what it touched.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

OPEN, CLOSED = b"o", b"c"
_HEAD = 18  # two numbers of eight digits, a space behind each
_NAME = 33  # kind and id
STEP = 32
"""Records that are read in one go, while requests wait: a tenth of a millisecond."""
_HEX = frozenset(b"0123456789abcdef")


def frame(kind: bytes, event_id: bytes, event: bytes) -> bytes:
    """One record's bytes."""
    payload = kind + event_id + event
    return b"%08x %08x %b\n" % (crc32(payload), len(payload), payload)


@dataclass(slots=True)
class Contents:
    """What a segment holds: the closed events, and the last version of those that it leaves open, by id."""

    closed: dict[bytes, bytes] = field(default_factory=dict)
    open: dict[bytes, bytes] = field(default_factory=dict)
    unreadable: int = 0
    torn: bool = False
    """Its last record was being written when the sidecar was killed."""


def read(data: bytes) -> Contents:
    """Read a segment, damaged or not."""
    found = Contents()
    for _ in steps(data, found):
        pass
    return found


def steps(data: bytes, found: Contents) -> Iterator[None]:
    """Read a segment into `found`, with a pause after every so many records."""
    for number, payload in enumerate(_payloads(data, found), 1):
        kind, event_id, event = payload[:1], payload[1:_NAME], payload[_NAME:]
        if kind == CLOSED:
            found.closed[event_id] = event
            found.open.pop(event_id, None)
        elif event_id not in found.closed:
            found.open[event_id] = event
        if number % STEP == 0:
            yield


def _payloads(data: bytes, found: Contents) -> Iterator[bytes]:
    position, end = 0, len(data)
    while position < end:
        payload = _at(data, position)
        if payload is not None:
            yield payload
            position += _HEAD + len(payload) + 1
            continue
        line_end = data.find(b"\n", position)
        if line_end < 0:
            found.torn = True
            return
        found.unreadable += 1
        position = line_end + 1


def _at(data: bytes, position: int) -> bytes | None:
    """The payload of the record that begins here, if one does and is sound."""
    head = data[position : position + _HEAD]
    if len(head) < _HEAD or head[8] != 32 or head[17] != 32 or not _HEX.issuperset(head[:8] + head[9:17]):
        return None
    start, length = position + _HEAD, int(head[9:17], 16)
    payload = data[start : start + length]
    if (
        not _NAME <= len(payload) == length
        or payload[:1] not in (OPEN, CLOSED)
        or crc32(payload) != int(head[:8], 16)
    ):
        return None
    return payload
