"""What the model server is asked: the client's bytes, with a request for usage spliced in where it belongs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeGuard

import orjson

from sidecar.endpoints import STREAMS_CHUNKS, Endpoint
from sidecar.errors import Refusal, bad_request
from sidecar.json_scan import Member, ScanError, Scanner, scan

# A smaller body is parsed whole; of a larger one only the top-level members are read.
PARSE_LIMIT = 64 * 1024
_NAMES = {
    name: b'"%b"' % name.encode()
    for name in (
        "model",
        "stream",
        "stream_options",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "include_reasoning",
        "return_token_ids",
        "stream_interval",
        "timings_per_token",
    )
}
# Those that are replaced where the count needs it: their place in the bytes has to be known.
_REPLACED = frozenset({"stream_options", "return_token_ids", "stream_interval", "timings_per_token"})
# An escape that could spell one of the letters of those names: another way to write a name twice.
_ESCAPED_LETTERS = (b"\\u005", b"\\u006", b"\\u007")


class Ask(IntEnum):
    """How much a streaming server is asked for; a server that refuses one is asked for the one below."""

    NOTHING = 0
    FINAL_USAGE = 1
    RUNNING_USAGE = 2
    EVERY_STEP = 3
    """A chunk for every step of the model, also where its text is held back."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A metered JSON request as its client sent it, and what the sidecar has to know of it."""

    raw: bytes
    model: str
    stream: bool
    takes_options: bool
    # The members that the count depends on, as they were given.
    given: Mapping[str, Any]
    # Where those stand in the bytes that may have to be replaced.
    spans: Mapping[str, tuple[int, int]]
    chat: bool
    has_tools: bool
    # Bytes, without images and sound where it is large; the body itself may be let go.
    length: int

    @property
    def choices(self) -> int:
        """Answers for each prompt."""
        found = self.given.get("n")
        return found if _is_number(found) and found > 0 else 1

    @property
    def most_output(self) -> int | None:
        """Tokens that the client allows for each answer."""
        limits = (
            self.given.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")
        )
        return next((limit for limit in limits if _is_number(limit) and limit >= 0), None)

    @property
    def stream_options(self) -> Mapping[str, Any] | None:
        """The client's own."""
        return self.given.get("stream_options")

    @property
    def wants_usage(self) -> bool:
        """The client asked for the final usage of its stream."""
        return bool(self.stream_options and self.stream_options.get("include_usage") is True)

    @property
    def wants_running(self) -> bool:
        """The client asked for usage on every chunk (vLLM honours it only beside include_usage)."""
        return self.wants_usage and bool((self.stream_options or {}).get("continuous_usage_stats"))

    @property
    def may_fall_silent(self) -> bool:
        """A parser of the server may hold tokens back: of tool calls, or of reasoning that is not to be shown."""
        return self.chat and (self.has_tools or self.given.get("include_reasoning") is False)

    def with_members(self, members: Mapping[str, Any]) -> bytes:
        """The client's own bytes, with these members as they have to be."""
        raw = self.raw
        changed = {name: value for name, value in members.items() if self.given.get(name) != value}
        places = [(self.spans[name], name) for name in changed if name in self.spans]
        for (start, end), name in sorted(places, reverse=True):
            raw = raw[:start] + orjson.dumps(changed.pop(name)) + raw[end:]
        if not changed:
            return raw
        # The body has members (`stream` is one), so a comma follows.
        start = raw.index(b"{") + 1
        added = b"".join(
            b'"%b":%b,' % (name.encode(), orjson.dumps(value)) for name, value in changed.items()
        )
        return raw[:start] + added + raw[start:]


def read_request(raw: bytes, endpoint: Endpoint) -> RequestBody:
    """Read a JSON request; a Refusal (400) where two readers could take it differently or it is no JSON object."""
    try:
        if len(raw) > PARSE_LIMIT:
            return _scanned(raw, scan(raw), endpoint)
        known = _parse(raw)
        spans = {} if _REPLACED.isdisjoint(known) else _spans(scan(raw))
    except ScanError as error:
        raise not_json(str(error)) from None
    return _check(raw, known, endpoint, spans, has_tools=bool(known.get("tools")))


def read_scanned(raw: bytes, scanner: Scanner, endpoint: Endpoint) -> RequestBody:
    """The same for a large body that was scanned as it came in."""
    if not scanner.complete:
        raise not_json("it ends in the middle")
    return _scanned(raw, scanner.members, endpoint)


def unread(raw: bytes) -> RequestBody:
    """A body that is not JSON (audio), which is passed on as it is."""
    return RequestBody(
        raw,
        "",
        stream=False,
        takes_options=False,
        given={},
        spans={},
        chat=False,
        has_tools=False,
        length=_text_length(raw),
    )


def _scanned(raw: bytes, members: list[Member], endpoint: Endpoint) -> RequestBody:
    tools = next((member for member in members if member.name == "tools"), None)
    has_tools = tools is not None and tools.value not in (b"null", b"[]")
    known = {**_known(members), **{member.name: None for member in members if member.name == "messages"}}
    return _check(raw, known, endpoint, _spans(members), has_tools=has_tools)


def _check(
    raw: bytes,
    known: Mapping[str, Any],
    endpoint: Endpoint,
    spans: Mapping[str, tuple[int, int]],
    *,
    has_tools: bool,
) -> RequestBody:
    """Check the members that the count depends on."""
    stream = known.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise bad_request("`stream` must be true or false.", param="stream")
    options = known.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        raise bad_request(
            '`stream_options` must be an object, as in {"include_usage": true}.', param="stream_options"
        )
    include = (options or {}).get("include_usage")
    if include is not None and not isinstance(include, bool):
        raise bad_request("`stream_options.include_usage` must be true or false.", param="stream_options")
    model = known.get("model")
    return RequestBody(
        raw=raw,
        model=model if isinstance(model, str) else "",
        stream=bool(stream),
        takes_options=bool(stream) and endpoint in STREAMS_CHUNKS,
        given={name: known[name] for name in _NAMES if name in known},
        spans=spans,
        chat=endpoint is Endpoint.CHAT_COMPLETIONS or "messages" in known,
        has_tools=has_tools,
        length=_text_length(raw),
    )


def _parse(raw: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise not_json(str(error)) from None
    if not isinstance(value, dict):
        raise not_json("it is no object")
    # A search for one byte is far quicker than one for six, and most bodies end it there.
    escaped = b"\\" in raw and b"\\u00" in raw and any(part in raw for part in _ESCAPED_LETTERS)
    if escaped or any(name in value and raw.count(quoted) > 1 for name, quoted in _NAMES.items()):
        _check_doubles(scan(raw))
    return value


def _known(members: list[Member]) -> Mapping[str, Any]:
    _check_doubles(members)
    return {member.name: _load(member) for member in members if member.name in _NAMES}


def _spans(members: list[Member]) -> dict[str, tuple[int, int]]:
    return {one.name: (one.value_start, one.value_end) for one in members if one.name in _REPLACED}


def _text_length(raw: bytes) -> int:
    """Bytes that may be text: base64 in data URLs and of `input_audio` is none."""
    length = len(raw)
    if length <= PARSE_LIMIT:
        return length
    for mark in (b";base64,", b'"input_audio"'):
        at = raw.find(mark)
        while at >= 0:
            at += len(mark)
            # The data's own string begins behind this name, and ends at the next quote.
            start = at if mark == b";base64," else max(raw.find(b'"data"', at, at + 256) + 8, at)
            end = raw.find(b'"', start)
            if end < 0:
                break
            length -= end - start
            at = raw.find(mark, end)
    return length


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_doubles(members: list[Member]) -> None:
    names = [member.name for member in members if member.name in _NAMES]
    for name in names:
        if names.count(name) > 1:
            raise bad_request(
                f"`{name}` stands twice in the request's JSON; keep one.", code="duplicate_key", param=name
            )


def _load(member: Member) -> Any:
    if member.value is None:
        raise bad_request(f"`{member.name}` is too long.", param=member.name)
    try:
        return orjson.loads(member.value)
    except orjson.JSONDecodeError as error:
        raise not_json(f"`{member.name}`: {error}") from None


def not_json(why: str) -> Refusal:
    """A body that is no JSON object; `why` without its full stop."""
    return bad_request(f"The request's body is not a JSON object in UTF-8: {why}.", code="invalid_json")
