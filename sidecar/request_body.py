"""What the model server is asked: the client's bytes, with a request for usage spliced in where it belongs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson

from sidecar.endpoints import STREAMS_CHUNKS, Endpoint
from sidecar.errors import Refusal, bad_request
from sidecar.json_scan import Member, ScanError, Scanner, scan

# A smaller body is parsed whole; of a larger one only the top-level members are read.
PARSE_LIMIT = 64 * 1024
_NAMES = {name: b'"%b"' % name.encode() for name in ("model", "stream", "stream_options", "n")}
# An escape that could spell one of the letters of those names: another way to write a name twice.
_ESCAPED_LETTERS = (b"\\u005", b"\\u006", b"\\u007")


class Ask(IntEnum):
    """How much a streaming server is asked for; a server that refuses one is asked for the one below."""

    NOTHING = 0
    FINAL_USAGE = 1
    RUNNING_USAGE = 2


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A metered JSON request as its client sent it, and what the sidecar has to know of it."""

    raw: bytes
    model: str
    stream: bool
    choices: int
    stream_options: Mapping[str, Any] | None
    # Where the client's own stream_options stand in the bytes; None where there are none.
    options_span: tuple[int, int] | None
    takes_options: bool

    @property
    def wants_usage(self) -> bool:
        """The client asked for the final usage of its stream."""
        return bool(self.stream_options and self.stream_options.get("include_usage") is True)

    @property
    def wants_running(self) -> bool:
        """The client asked for usage on every chunk (vLLM honours it only beside include_usage)."""
        return self.wants_usage and bool((self.stream_options or {}).get("continuous_usage_stats"))

    def asking(self, ask: Ask) -> bytes:
        """The body to send: the client's own bytes, with stream_options set to ask for usage."""
        if not self.takes_options or ask is Ask.NOTHING:
            return self.raw
        wanted = dict(self.stream_options or {})
        wanted["include_usage"] = True
        if ask is Ask.RUNNING_USAGE:
            wanted["continuous_usage_stats"] = True
        if wanted == self.stream_options:
            return self.raw
        value = orjson.dumps(wanted)
        if self.options_span is not None:
            start, end = self.options_span
            return self.raw[:start] + value + self.raw[end:]
        # The body has members (`stream` is one), so a comma follows.
        start = self.raw.index(b"{") + 1
        return self.raw[:start] + b'"stream_options":' + value + b"," + self.raw[start:]


def read_request(raw: bytes, endpoint: Endpoint) -> RequestBody:
    """Read a JSON request; a Refusal (400) where two readers could take it differently or it is no JSON object."""
    try:
        if len(raw) > PARSE_LIMIT:
            members = scan(raw)
            return _check(raw, _known(members), endpoint, _span(members))
        known = _parse(raw)
        span = _span(scan(raw)) if "stream_options" in known else None
    except ScanError as error:
        raise not_json(str(error)) from None
    return _check(raw, known, endpoint, span)


def read_scanned(raw: bytes, scanner: Scanner, endpoint: Endpoint) -> RequestBody:
    """The same for a large body that was scanned as it came in."""
    if not scanner.complete:
        raise not_json("it ends in the middle")
    return _check(raw, _known(scanner.members), endpoint, _span(scanner.members))


def unread(raw: bytes) -> RequestBody:
    """A body that is not JSON (audio), which is passed on as it is."""
    return RequestBody(
        raw, "", stream=False, choices=1, stream_options=None, options_span=None, takes_options=False
    )


def _check(
    raw: bytes, known: Mapping[str, Any], endpoint: Endpoint, span: tuple[int, int] | None
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
    choices = known.get("n")
    return RequestBody(
        raw=raw,
        model=model if isinstance(model, str) else "",
        stream=bool(stream),
        choices=choices if isinstance(choices, int) else 1,
        stream_options=options,
        options_span=span,
        takes_options=bool(stream) and endpoint in STREAMS_CHUNKS,
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


def _span(members: list[Member]) -> tuple[int, int] | None:
    return next(((one.value_start, one.value_end) for one in members if one.name == "stream_options"), None)


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
