"""A stream of OpenAI chunks on its way to the client: what is passed on, and what was counted.

The server was asked for usage that its client may not have asked for. Who asked gets the server's own bytes. A
request of the gateway's that did not ask gets the final usage on its last content chunk, where the gateway reads
it and no client meets a chunk without choices; a direct client that did not ask gets none. Nothing is parsed chunk
by chunk: a chunk that ends no choice and carries no usage leaves as the bytes it came in.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Any

import orjson

from sidecar.json_scan import ScanError, with_member, without
from sidecar.sse import DONE, EventSplitter, data_of, with_data
from sidecar.usage import Usage, combine_choices, read_usage

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_INDEX = re.compile(rb'"index"\s*:\s*(\d+)')
# Running usage as vLLM writes it: the last member of the chunk, without nested objects.
_TRAILING_USAGE = re.compile(rb',"usage":(\{[^{}]*\})\}(?=[\r\n]*\Z)')


class Delivery(Enum):
    """What a client gets of the usage."""

    AS_SENT = "as_sent"
    ON_LAST_CHUNK = "on_last_chunk"
    NONE = "none"


class ChunkStream:
    """Feed it what the server sent; it returns what the client gets and keeps the count."""

    __slots__ = (
        "_finish_everywhere",
        "_held",
        "_running",
        "_splitter",
        "_strip_running",
        "delivery",
        "done",
        "error",
        "final",
    )

    def __init__(self, delivery: Delivery, *, strip_running: bool) -> None:
        self.delivery = delivery
        self.final: Usage | None = None
        self.error = False
        self.done = False
        self._strip_running = strip_running or delivery is not Delivery.AS_SENT
        self._splitter = EventSplitter()
        self._held = b""
        self._finish_everywhere = False
        self._running: dict[int, bytes] = {}

    @property
    def running(self) -> Usage | None:
        """The last running usage of all choices together, where the server gave any."""
        usages = (read_usage(_load(raw)) for raw in self._running.values())
        return combine_choices(usage for usage in usages if usage is not None)

    def feed(self, data: bytes) -> bytes:
        """Pass the next bytes through; returns what the client gets now."""
        if (
            not self._splitter.tail
            and not self._held
            and b'"usage"' not in data
            and data.endswith(b"\n\n")
            and b'"error"' not in data
            and data.count(b'"finish_reason"') == data.count(b'"finish_reason":null')
            and b"[DONE]" not in data
        ):
            return data
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def finish(self) -> bytes:
        """The server has ended its stream: what the client still gets, ended by a blank line."""
        rest = self._splitter.finish()
        out = self._event(rest) if rest else b""
        out += self._release()
        # A last event without its blank line is one that the gateway would not read.
        if rest and out and not out.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            out += b"\n" if out.endswith(b"\n") else b"\n\n"
        return out

    def _event(self, event: bytes) -> bytes:
        has_usage = b'"usage"' in event
        if not has_usage and b'"error"' not in event and not _FINISH.search(event):
            if b"[DONE]" in event and (data_of(event) or b"").strip() == DONE:
                self.done = True
                return self._release() + event
            return self._let_go() + event if data_of(event) is not None else event
        if has_usage and (trailing := _TRAILING_USAGE.search(event)) and b'"choices":[]' not in event:
            self._note_running(event, trailing.group(1))
            if self._strip_running:
                event = event[: trailing.start()] + event[trailing.end() - 1 :]
            return self._content(event)
        return self._parsed(event, data_of(event))

    def _parsed(self, event: bytes, data: bytes | None) -> bytes:
        """An event that has to be understood: usage, an error, the end of a choice."""
        chunk = _load(data) if data is not None else None
        if not isinstance(chunk, dict) or data is None:
            return self._let_go() + event
        if chunk.get("error"):
            self.error = True
        choices = chunk.get("choices")
        if "usage" in chunk:
            usage = read_usage(chunk["usage"])
            if not choices and usage is not None:
                self.final = usage
                return self._final_chunk(event, chunk)
            if usage is not None:
                self._note_running(event, orjson.dumps(chunk["usage"]))
            # `"usage": null` on a chunk is the server's answer to who asked.
            if self._strip_running and (usage is not None or self.delivery is not Delivery.AS_SENT):
                event = _edit(event, lambda text: without(text, "usage"))
        return self._content(event)

    def _content(self, event: bytes) -> bytes:
        """A chunk with choices: one that ends a choice waits, in case the usage has to ride on it."""
        if not self._strip_running or not _FINISH.search(event):
            return self._let_go() + event
        before = self._held
        if before and _index(before) == _index(event):
            # KServe's transformers backend writes a finish_reason on every chunk: nothing to wait for.
            self._finish_everywhere = True
        if self._finish_everywhere:
            return self._let_go() + event
        self._held = event
        return before

    def _final_chunk(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        """The server's own usage chunk, which has no choices."""
        held = self._let_go()
        if self.delivery is Delivery.AS_SENT:
            return held + event
        if self.delivery is Delivery.NONE:
            return _with_fingerprint(held, chunk)
        if not held:
            return _edit(event, lambda text: with_member(text, "choices", _empty_choice(chunk)))
        held = _with_fingerprint(held, chunk)
        return _edit(held, lambda text: with_member(text, "usage", orjson.dumps(chunk["usage"])))

    def _release(self) -> bytes:
        """The stream ends: the waiting chunk goes, with the usage if no chunk of its own brought it."""
        held = self._let_go()
        if held and self.delivery is not Delivery.NONE and self.final is None:
            usage = self.running
            if usage is not None:
                return _edit(held, lambda text: with_member(text, "usage", _write(usage)))
        return held

    def _let_go(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _note_running(self, event: bytes, usage: bytes) -> None:
        self._running[_index(event)] = usage


def _index(event: bytes) -> int:
    match = _INDEX.search(event)
    return int(match.group(1)) if match else 0


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _edit(event: bytes, change: Callable[[bytes], bytes]) -> bytes:
    data = data_of(event)
    if data is None:
        return event
    try:
        return with_data(event, change(data))
    except ScanError:
        return event


def _with_fingerprint(event: bytes, usage_chunk: dict[str, Any]) -> bytes:
    """vLLM moves system_fingerprint from the finish chunk to the usage chunk when usage is asked for
    (0.33, chat_completion/serving.py); who did not ask gets it where it would have been."""
    fingerprint = usage_chunk.get("system_fingerprint")
    if not event or fingerprint is None or b'"system_fingerprint"' in event:
        return event
    return _edit(event, lambda text: with_member(text, "system_fingerprint", orjson.dumps(fingerprint)))


def _empty_choice(chunk: dict[str, Any]) -> bytes:
    if chunk.get("object") == "text_completion":
        return orjson.dumps([{"index": 0, "text": "", "logprobs": None, "finish_reason": None}])
    return orjson.dumps([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}])


def _write(usage: Usage) -> bytes:
    value: dict[str, Any] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
    }
    if usage.cached_input:
        value["prompt_tokens_details"] = {"cached_tokens": usage.cached_input}
    return orjson.dumps(value)
