"""A whole answer or a foreign event stream: read the same in any size and cut, and given the count that it lacks."""

import zlib

import orjson

from sidecar import answer
from sidecar.answer import EventReader, InflatingReader, JsonReader
from sidecar.choices import other_choices
from sidecar.endpoints import Endpoint
from sidecar.output_text import OutputText
from sidecar.told import Tail, with_count
from sidecar.usage import Usage
from tests.fuzz.cuts import pieces

JSON = True
WORDS = (
    "usage",
    "meta",
    "tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "choices",
    "message",
    "content",
    "reasoning",
    "tool_calls",
    "function",
    "output",
    "type",
    "delta",
    "text",
    "input",
    "response",
    "error",
    "index",
    "finish_reason",
    "length",
    "data: ",
)


def check(data: bytes) -> None:
    """Judge one answer."""
    small = _read_json([data])
    assert small.finish() == _read_json(pieces(data)).finish()
    _natural(small.finish())
    large = _read_large(data)
    if small.is_object:
        assert large.finish() == small.finish(), "large it is counted otherwise"
        _with_count(data)
    if choices := small.choices:
        other_choices(choices, 3, None)
    _tail(data)
    _events(data)


def _read_json(given: list[bytes]) -> JsonReader:
    reader = JsonReader()
    for piece in given:
        reader.feed(piece)
    said = reader.said()
    if said is not None:
        assert said.size - said.omitted == sum(len(text.encode()) for text in said.texts)
    return reader


def _read_large(data: bytes) -> JsonReader:
    limit, answer.PARSE_LIMIT = answer.PARSE_LIMIT, 0
    try:
        return _read_json(pieces(data))
    finally:
        answer.PARSE_LIMIT = limit


def _with_count(data: bytes) -> None:
    for endpoint in (Endpoint.RERANK, Endpoint.CHAT_COMPLETIONS):
        told = orjson.loads(with_count(data, endpoint, Usage(3, 4), replace=True))
        doubled = data.count(b'"usage"') > 1 or b"\\" in data
        assert doubled or told["usage"]["total_tokens"] == 7
        orjson.loads(with_count(data, endpoint, Usage(3, 4), replace=False))


def _tail(data: bytes) -> None:
    tail = Tail()
    out = b"".join([tail.feed(piece) for piece in pieces(data)])
    assert out + tail.finish(b"") == data


def _events(data: bytes) -> None:
    usages = []
    for given in ([data], pieces(data)):
        reader = EventReader()
        for piece in given:
            reader.feed(piece)
        usages.append((reader.finish(), reader.error))
        _natural(reader.so_far)
        said = reader.said()
        assert said is None or isinstance(said, OutputText)
    assert usages[0] == usages[1]
    inflating = InflatingReader(EventReader())
    for piece in pieces(zlib.compress(data)):
        inflating.feed(piece)
    assert inflating.finish() == usages[0][0]
    InflatingReader(JsonReader()).feed(data)


def _natural(usage: Usage | None) -> None:
    if usage is not None:
        orjson.dumps([usage.input, usage.output, usage.total, usage.cached_input, usage.reasoning])
