"""Server-sent events: cut anywhere they are the same, nothing of them is lost, and the data is the standard's."""

import re

from sidecar.sse import EventSplitter, data_of, with_data
from tests.fuzz.cuts import pieces

WORDS = ("data: ", "data:", "\n\n", "\r\n\r\n", "\r\r", ": ping", "event: x\n", "\r\n", "[DONE]")


def check(data: bytes) -> None:
    """Judge one stream."""
    whole, rest = _split([data])
    cut, cut_rest = _split(pieces(data))
    assert b"".join(whole) + rest == data, "bytes are lost"
    assert b"".join(cut) + cut_rest == data, "bytes are lost between pieces"
    assert _said(whole) == _said(cut) == _standard(data, len(data) - len(rest)), (_said(whole), _said(cut))
    for event in whole:
        said = data_of(event)
        if said is not None:
            assert data_of(with_data(event, b"{}")) == b"{}"


def _split(given: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for piece in given for event in splitter.feed(piece)]
    rest = splitter.finish()
    if rest.endswith((b"\n\r", b"\r\r")):  # a last event whose line end may have been cut
        return [*events, rest], b""
    return events, rest


def _said(events: list[bytes]) -> list[bytes]:
    return [said for event in events if (said := data_of(event)) is not None]


def _standard(data: bytes, end: int) -> list[bytes]:
    """The data of the events in `data[:end]`, as WHATWG HTML 9.2.6 reads it (without its BOM)."""
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in re.split(rb"\r\n|\r|\n", data[:end]):
        if not line and lines:
            found.append(b"\n".join(lines))
            lines = []
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return found
