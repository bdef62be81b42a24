"""Server-sent events as bytes: cutting a stream into events, and reading an event's data.

WHATWG HTML, section 9.2: lines end in CR, LF or CRLF, an event ends at a blank line, `data:` may lack its space.
Events keep their own bytes, so what is passed on is what came.
"""

import re

_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
# An event larger than this is passed on in pieces and not looked into.
MAX_EVENT = 4 * 1024 * 1024
DONE = b"[DONE]"


class EventSplitter:
    """Cuts a byte stream into whole events, however it was split on its way."""

    __slots__ = ("_skip_newline", "tail")

    def __init__(self) -> None:
        self.tail = b""
        self._skip_newline = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now, each with its blank line; the rest waits in `tail`."""
        if not self.tail and not self._skip_newline and b"\r" not in data:
            # What nearly every server sends, and a third of the work.
            *whole, self.tail = data.split(b"\n\n")
            return [event + b"\n\n" for event in whole] + self._oversized()
        events = []
        if self._skip_newline:
            # The event before ended in CR; this LF belongs to that line's end.
            self._skip_newline = False
            if data.startswith(b"\n"):
                events.append(b"\n")
                data = data[1:]
        # The blank line may begin in what was already there.
        begin = max(len(self.tail) - 3, 0)
        if self.tail:
            data = self.tail + data
        start = 0
        for match in _EVENT_END.finditer(data, begin):
            events.append(data[start : match.end()])
            start = match.end()
        self.tail = data[start:]
        if not self.tail and events and events[-1].endswith(b"\n\r"):
            # Most likely a CRLF that was cut: its LF comes next, and the event is whole with it.
            self.tail = events.pop()
        elif not self.tail and events and events[-1].endswith(b"\r"):
            self._skip_newline = True
        return events + self._oversized()

    def _oversized(self) -> list[bytes]:
        if len(self.tail) <= MAX_EVENT:
            return []
        piece, self.tail = self.tail, b""
        return [piece]

    def finish(self) -> bytes:
        """What was left when the stream ended without a blank line."""
        rest, self.tail = self.tail, b""
        return rest


def data_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined by LF; None where it has none (comments, pings)."""
    lines = [_value(line) for line in event.splitlines() if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data; its other lines and its line ends as they were. `data` has no newline of its own
    that matters: JSON's are only white space."""
    lines = []
    written = False
    for line in event.splitlines(keepends=True):
        if line.rstrip(b"\r\n") == b"data" or line.startswith(b"data:"):
            if written:
                continue
            written = True
            end = line[len(line.rstrip(b"\r\n")) :]
            lines.append(b"data: " + data.replace(b"\r", b" ").replace(b"\n", b" ") + end)
        else:
            lines.append(line)
    return b"".join(lines)


def _value(line: bytes) -> bytes:
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value
