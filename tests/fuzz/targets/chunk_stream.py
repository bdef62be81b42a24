"""A stream of OpenAI chunks: nothing raises, and however it is cut the same leaves and is counted."""

from typing import Any
from zlib import crc32

import orjson

from sidecar.shape import Delivery, Shape
from sidecar.sse import EventSplitter, data_of
from sidecar.stream import ChunkStream
from tests.fuzz.cuts import pieces

JSON = True
WORDS = (
    "usage",
    "choices",
    "finish_reason",
    "index",
    "delta",
    "content",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "timings",
    "predicted_n",
    "prompt_n",
    "cache_n",
    "error",
    "token_ids",
    "prompt_token_ids",
    "system_fingerprint",
    "reasoning_content",
    "tool_calls",
    "function",
    "arguments",
    "text",
    "stop",
    "prompt_tokens_details",
    "cached_tokens",
    "data: [DONE]\n\n",
)
_SHAPES = (
    Shape(),
    Shape(per_prompt=2, several=True, strip_token_ids=True),
    Shape(several=True, usage_per_choice=True, strip_timings=True),
)


def check(data: bytes) -> None:
    """Judge one stream as each client gets it; which server wrote it depends on the input."""
    chosen = crc32(data)
    for delivery in Delivery:
        _check(data, delivery, _SHAPES[chosen % len(_SHAPES)], strip=bool(chosen & 64))


def _check(data: bytes, delivery: Delivery, shape: Shape, *, strip: bool) -> None:
    whole, out = _run([data], delivery, shape, strip=strip)
    cut, cut_out = _run(pieces(data), delivery, shape, strip=strip)
    # Which comments and empty lines go by a held [DONE] may depend on what came with it.
    assert _events(out) == _events(cut_out), f"{delivery} {shape}: {out!r} is not {cut_out!r}"
    assert _counted(whole) == _counted(cut), f"{delivery} {shape}: {_counted(whole)} is not {_counted(cut)}"
    if delivery is Delivery.AS_SENT and not strip and shape == _SHAPES[0]:
        assert _letters(out) == _letters(data), "who asked does not get the server's bytes"
    if delivery is Delivery.NONE and all(event.count(b'"usage"') < 2 for event in EventSplitter().feed(data)):
        assert not any(_shows_usage(event) for event in EventSplitter().feed(out)), out


def _run(given: list[bytes], delivery: Delivery, shape: Shape, *, strip: bool) -> tuple[ChunkStream, bytes]:
    stream = ChunkStream(delivery, strip_running=strip, shape=shape)
    out = b"".join([stream.feed(piece) for piece in given])
    return stream, out + stream.finish()


def _events(out: bytes) -> list[bytes]:
    splitter = EventSplitter()
    lines = (event.strip(b"\r\n") for event in [*splitter.feed(out), splitter.finish()])
    return sorted(line for line in lines if line)


def _letters(out: bytes) -> list[int]:
    return sorted(out.replace(b"\r", b"").replace(b"\n", b""))


def _counted(stream: ChunkStream) -> Any:
    said = stream.said
    texts = said.texts if said is not None else None
    shown = stream.showed_final, stream.showed_running
    return stream.final, stream.running, stream.done, stream.error, shown, texts


def _shows_usage(event: bytes) -> bool:
    """Whether an event of one line that spells it out has usage for its reader."""
    if b'"usage"' not in event or b"\n" in event.rstrip() or b"\r" in event.rstrip():
        return False
    try:
        value = orjson.loads(data_of(event) or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and "usage" in value
