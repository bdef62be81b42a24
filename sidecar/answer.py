"""Counting what passes untouched: JSON answers, and event streams that are no OpenAI chunks."""

import zlib
from typing import Any, Protocol

import orjson

from sidecar.gather import Gather
from sidecar.json_scan import ScanError, Scanner
from sidecar.output_text import OutputText
from sidecar.sse import EventSplitter, data_of
from sidecar.usage import Usage, read_answer_usage, read_usage

# A smaller answer is parsed whole; a larger one is scanned for its `usage` as it passes.
PARSE_LIMIT = 64 * 1024


class Reader(Protocol):
    """Looks at an answer's bytes as they pass and keeps the count."""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""

    def finish(self) -> Usage | None:
        """The usage of the whole answer, or None where it gave none."""

    def said(self) -> OutputText | None:
        """What the model has said, where that is not counted yet; None where it is, or where it cannot be read."""


class JsonReader:
    """Reads `usage` (or Cohere's `meta.tokens`) from a JSON answer of any size."""

    __slots__ = ("_kept", "_scanner", "_size")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._size = 0
        self._scanner: Scanner | None = None

    def feed(self, data: bytes) -> None:
        """Look at the next bytes; what turns out to be no JSON object is not counted."""
        self._size += len(data)
        if self._scanner is None:
            self._kept.append(data)
            if self._size <= PARSE_LIMIT:
                return
            self._scanner = Scanner()
            data = b"".join(self._kept)
            self._kept = []
        try:
            self._scanner.feed(data)
        except ScanError:
            self._scanner = Scanner()  # what follows is not looked at twice
            self._kept = []

    def finish(self) -> Usage | None:
        """The answer's usage."""
        if self._scanner is None:
            return read_answer_usage(_load(b"".join(self._kept)))
        found = {
            member.name: _load(member.value)
            for member in self._scanner.members
            if member.name in ("usage", "meta") and member.value is not None
        }
        return read_answer_usage(found)

    @property
    def is_object(self) -> bool:
        """Whether the answer is a JSON object."""
        if self._scanner is not None:
            return bool(self._scanner.members)
        return isinstance(_load(b"".join(self._kept)), dict)

    @property
    def names(self) -> set[str]:
        """The members of a large answer."""
        return {member.name for member in self._scanner.members} if self._scanner is not None else set()

    @property
    def choices(self) -> list[Any] | None:
        """The choices of an answer that is not too large."""
        answer = _load(b"".join(self._kept)) if self._scanner is None else None
        found = answer.get("choices") if isinstance(answer, dict) else None
        return found if isinstance(found, list) else None

    def said(self) -> OutputText | None:
        """The answer's texts; of a large one only their size."""
        said = OutputText()
        if self._scanner is None:
            said.add(_load(b"".join(self._kept)))
        else:
            said.answered, said.omitted = True, self._size
        return said


class EventReader:
    """Reads the usage of OpenAI's responses stream and of Anthropic's messages stream.

    responses: `response.usage` of response.completed, .incomplete or .failed. messages: input in message_start,
    the last output in message_delta (vLLM 0.33, anthropic/serving.py). Else the last `usage` that is seen.
    """

    __slots__ = ("_gather", "_splitter", "_usage", "error")

    def __init__(self) -> None:
        self._gather: Gather | None = Gather()
        self._splitter = EventSplitter()
        self._usage: Usage | None = None
        self.error = False

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        if self._gather is not None:
            self._gather.add(data)
        for event in self._splitter.feed(data):
            self._event(event)

    @property
    def so_far(self) -> Usage | None:
        """The last usage that came."""
        return self._usage

    def said(self) -> OutputText | None:
        """The text of a stream whose last usage has not come."""
        return self._gather.text if self._gather is not None else None

    def finish(self) -> Usage | None:
        """The usage seen so far; complete when the stream was."""
        rest = self._splitter.finish()
        if rest:
            self._event(rest)
        return self._usage

    def _event(self, event: bytes) -> None:
        if b'"usage"' not in event and b'"error"' not in event:
            return
        value = _load(data_of(event) or b"")
        if not isinstance(value, dict):
            return
        if value.get("error"):
            self.error = True
        for holder in (value, value.get("response"), value.get("message")):
            usage = read_usage(holder.get("usage")) if isinstance(holder, dict) else None
            if usage is not None:
                self._usage = _newer(self._usage, usage)
                if holder is not value.get("message"):
                    # message_start has the input alone; every other usage is the last word.
                    self._gather = None


class InflatingReader:
    """Undoes gzip or deflate for a reader behind it; the client gets the server's own bytes."""

    __slots__ = ("_inflate", "_reader")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, by its header

    def feed(self, data: bytes) -> None:
        """Look at the next compressed bytes, at most 64 KiB of text at a time."""
        try:
            text = self._inflate.decompress(data, PARSE_LIMIT)
            while text:
                self._reader.feed(text)
                text = self._inflate.decompress(self._inflate.unconsumed_tail, PARSE_LIMIT)
        except zlib.error:
            return

    def finish(self) -> Usage | None:
        """The usage of the whole answer."""
        return self._reader.finish()

    def said(self) -> OutputText | None:
        """What the reader behind it has read."""
        return self._reader.said()


def reader_for(content_type: bytes, content_encoding: bytes) -> Reader | None:
    """The reader for an answer of this type, or None where nothing can be read from it."""
    reader: Reader
    if content_type.startswith(b"text/event-stream"):
        reader = EventReader()
    elif b"json" in content_type or not content_type:
        reader = JsonReader()
    else:
        return None
    if content_encoding in (b"", b"identity"):
        return reader
    return InflatingReader(reader) if content_encoding in (b"gzip", b"x-gzip", b"deflate") else None


def _newer(before: Usage | None, now: Usage) -> Usage:
    """Later counts stand for the whole, but a message_delta may leave the input out."""
    if before is None:
        return now
    return Usage(
        now.input or before.input,
        now.output,
        now.cached_input or before.cached_input,
        now.reasoning or before.reasoning,
    )


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
