"""Top-level members of a JSON object, found without parsing the rest of it.

For two jobs that a parser cannot do: reading `usage` out of a body of many megabytes as it passes, a piece at a
time, and changing one member of a client's body while every other byte stays as it came. Valid JSON is scanned
exactly; what is not JSON raises ScanError or is left to the server, which refuses it.
"""

import re
from dataclasses import dataclass

import orjson

# Inside a string: to the next quote or escape. Inside a nested value: to the next quote or bracket.
_STRING_STOP = re.compile(rb'["\\]')
_NESTED_STOP = re.compile(rb'["{}\[\]]')
_LITERAL_STOP = re.compile(rb"[,}\] \t\r\n]")
_SPACE = b" \t\r\n"
CAPTURE_LIMIT = 64 * 1024


class ScanError(ValueError):
    """The bytes are no JSON object."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the outermost object: its name, and where key and value stand (end exclusive).

    `value` is the value's bytes, or None where it is longer than CAPTURE_LIMIT.
    """

    name: str
    key_start: int
    value_start: int
    value_end: int
    value: bytes | None


class Scanner:
    """Finds the members of the outermost object, fed piece by piece; offsets count from the first byte."""

    __slots__ = (
        "_capture",
        "_depth",
        "_escaped",
        "_key",
        "_key_start",
        "_offset",
        "_state",
        "_value_start",
        "members",
    )

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._state = "start"
        self._offset = 0
        self._depth = 0
        self._escaped = False
        self._key_start = 0
        self._key = b""
        self._value_start = 0
        self._capture: bytearray | None = None

    @property
    def complete(self) -> bool:
        """Whether the object has been closed."""
        return self._state == "done"

    def feed(self, data: bytes) -> None:
        """Scan the next piece; raises ScanError where it cannot be part of a JSON object."""
        position = 0
        size = len(data)
        while position < size:
            position = _STEPS[self._state](self, data, position)
        self._offset += size

    # Each step takes the data and a position, and returns the next position.

    def _start(self, data: bytes, position: int) -> int:
        if data[position] in _SPACE:
            return position + 1
        if data[position] != 0x7B:  # {
            raise ScanError("not a JSON object")
        self._state = "before_key"
        return position + 1

    def _before_key(self, data: bytes, position: int) -> int:
        byte = data[position]
        if byte in _SPACE or byte == 0x2C:  # ,
            return position + 1
        if byte == 0x7D:  # }
            self._state = "done"
            return position + 1
        if byte != 0x22:
            raise ScanError("a member's name is expected")
        self._key_start = self._offset + position
        self._key = b'"'
        self._state = "in_key"
        return position + 1

    def _in_key(self, data: bytes, position: int) -> int:
        end, closed = self._skip_string(data, position)
        self._key += data[position:end]
        if len(self._key) > CAPTURE_LIMIT:
            raise ScanError("a member's name is too long")
        if closed:
            self._state = "colon"
        return end

    def _colon(self, data: bytes, position: int) -> int:
        byte = data[position]
        if byte == 0x3A:  # :
            self._state = "before_value"
        elif byte not in _SPACE:
            raise ScanError("a colon is expected")
        return position + 1

    def _before_value(self, data: bytes, position: int) -> int:
        byte = data[position]
        if byte in _SPACE:
            return position + 1
        if byte in b",:}]":
            raise ScanError("a value is expected")
        self._value_start = self._offset + position
        self._capture = bytearray()
        if byte == 0x22:
            self._state = "in_string"
        elif byte in b"{[":
            self._state = "nested"
            self._depth = 1
        else:
            self._state = "in_literal"
            return position
        self._grab(data, position, position + 1)
        return position + 1

    def _in_string(self, data: bytes, position: int) -> int:
        end, closed = self._skip_string(data, position)
        self._grab(data, position, end)
        if closed:
            self._finish_value(end)
        return end

    def _in_literal(self, data: bytes, position: int) -> int:
        match = _LITERAL_STOP.search(data, position)
        end = match.start() if match else len(data)
        self._grab(data, position, end)
        if match:
            self._finish_value(end)
        return end

    def _nested(self, data: bytes, position: int) -> int:
        match = _NESTED_STOP.search(data, position)
        end = match.end() if match else len(data)
        self._grab(data, position, end)
        if match is None:
            return end
        byte = data[end - 1]
        if byte == 0x22:
            self._state = "nested_string"
        elif byte in b"{[":
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 0:
                self._finish_value(end)
        return end

    def _nested_string(self, data: bytes, position: int) -> int:
        end, closed = self._skip_string(data, position)
        self._grab(data, position, end)
        if closed:
            self._state = "nested"
        return end

    def _done(self, data: bytes, position: int) -> int:
        if data[position:].strip(_SPACE):
            raise ScanError("bytes after the end of the object")
        return len(data)

    def _skip_string(self, data: bytes, position: int) -> tuple[int, bool]:
        """The position behind the string's closing quote and True, or the end of the data and False."""
        if self._escaped:
            self._escaped = False
            position += 1
        while match := _STRING_STOP.search(data, position):
            position = match.end()
            if data[position - 1] == 0x22:
                return position, True
            if position == len(data):
                self._escaped = True
                return position, False
            position += 1  # the escaped byte; \uXXXX has no quote in it
        return len(data), False

    def _grab(self, data: bytes, start: int, end: int) -> None:
        if self._capture is None:
            return
        if len(self._capture) + end - start > CAPTURE_LIMIT:
            self._capture = None
        else:
            self._capture += data[start:end]

    def _finish_value(self, end: int) -> None:
        value = None if self._capture is None else bytes(self._capture)
        try:
            name = str(orjson.loads(self._key))
        except orjson.JSONDecodeError:
            raise ScanError("a member's name is not valid JSON") from None
        self.members.append(Member(name, self._key_start, self._value_start, self._offset + end, value))
        self._capture = None
        self._state = "before_key"


_STEPS = {
    "start": Scanner._start,
    "before_key": Scanner._before_key,
    "in_key": Scanner._in_key,
    "colon": Scanner._colon,
    "before_value": Scanner._before_value,
    "in_string": Scanner._in_string,
    "in_literal": Scanner._in_literal,
    "nested": Scanner._nested,
    "nested_string": Scanner._nested_string,
    "done": Scanner._done,
}


def scan(data: bytes) -> list[Member]:
    """The top-level members of a whole object; raises ScanError where it is none."""
    scanner = Scanner()
    scanner.feed(data)
    if not scanner.complete:
        raise ScanError("the object is not closed")
    return scanner.members


def without(data: bytes, name: str) -> bytes:
    """The object without its members of this name; every other byte as it was."""
    for member in reversed([member for member in scan(data) if member.name == name]):
        start, end = member.key_start, member.value_end
        after = len(data) - len(data[end:].lstrip(_SPACE))
        if data[after : after + 1] == b",":
            end = after + 1
        else:
            before = len(data[:start].rstrip(_SPACE))
            if data[before - 1 : before] == b",":
                start = before - 1
        data = data[:start] + data[end:]
    return data


def with_member(data: bytes, name: str, value: bytes) -> bytes:
    """The object with this member: its value replaced where it is there, else added as the last one."""
    members = scan(data)
    for member in members:
        if member.name == name:
            return data[: member.value_start] + value + data[member.value_end :]
    end = data.rindex(b"}")
    comma = b"," if members else b""
    return data[:end] + comma + orjson.dumps(name) + b":" + value + data[end:]
