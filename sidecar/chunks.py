"""One chunk of a stream as bytes: reading and changing a member of it, every other byte as it came."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from sidecar.json_scan import ScanError, with_member
from sidecar.sse import data_of, with_data
from sidecar.usage import Usage

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_INDEX = re.compile(rb'"index"\s*:\s*(\d{1,9})')


def index_of(event: bytes) -> int:
    """The index of the chunk's choice."""
    start = event.find(b'"index"')
    if event[start + 7 : start + 10] == b":0,":
        return 0
    match = _INDEX.search(event)
    return int(match.group(1)) if match else 0


def ends_choice(event: bytes) -> bool:
    """Whether the chunk says why a choice has ended."""
    reasons = event.count(b'"finish_reason"')
    return reasons > event.count(b'"finish_reason":null') and _FINISH.search(event) is not None


class Trailing(NamedTuple):
    """Running usage as vLLM and llama.cpp write it: the chunk's last member, without nested objects."""

    name: bytes
    value: bytes
    start: int
    """Where the comma before it is."""
    end: int
    """Behind its value."""


def trailing_usage(event: bytes) -> Trailing | None:
    """The chunk's running usage, where it is the last member."""
    start = max(event.rfind(b',"usage":{'), event.rfind(b',"timings":{'))
    if start < 0:
        return None
    begin = event.index(b"{", start)
    end = event.find(b"}", begin) + 1
    value = event[begin:end]
    if not end or value.rfind(b"{") > 0 or event[end:].rstrip(b"\r\n") != b"}":
        return None
    return Trailing(event[start + 2 : begin - 2], value, start, end)


def load(data: bytes) -> Any:
    """The JSON value, or None where it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def edit(event: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The event with its data changed; as it was where that is no JSON object."""
    data = data_of(event)
    if data is None:
        return event
    try:
        return with_data(event, change(data))
    except ScanError:
        return event


def with_moved(event: bytes, usage_chunk: Mapping[str, Any]) -> bytes:
    """The last content chunk as it would be without a usage chunk. vLLM moves `system_fingerprint` from the one to
    the other when usage is asked for (0.33, chat_completion/serving.py), llama.cpp its `timings`."""
    for name in ("system_fingerprint", "timings"):
        value = usage_chunk.get(name)
        if event and value is not None and b'"%b"' % name.encode() not in event:
            event = edit(event, _with(name, orjson.dumps(value)))
    return event


def _with(name: str, value: bytes) -> Callable[[bytes], bytes]:
    return lambda text: with_member(text, name, value)


def empty_choice(chunk: Mapping[str, Any]) -> bytes:
    """Choices that say nothing, for a chunk that has none."""
    if chunk.get("object") == "text_completion":
        return orjson.dumps([{"index": 0, "text": "", "logprobs": None, "finish_reason": None}])
    return orjson.dumps([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}])


def usage_json(usage: Usage) -> bytes:
    """OpenAI's `usage` object."""
    value: dict[str, Any] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
    }
    if usage.cached_input:
        value["prompt_tokens_details"] = {"cached_tokens": usage.cached_input}
    return orjson.dumps(value)
