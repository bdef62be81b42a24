"""A stream of OpenAI chunks on its way to the client: what is passed on, and what was counted.

The server was asked for usage that its client may not have asked for. Who asked gets the server's own bytes. A
request of the gateway's that did not ask gets the final usage on its last content chunk, where the gateway reads
it and no client meets a chunk without choices; a direct client that did not ask gets none. Nothing is parsed chunk
by chunk: a chunk that ends no choice and carries no usage leaves as the bytes it came in.
"""

import re
from typing import Any

import orjson

from sidecar.chunks import (
    edit,
    empty_choice,
    ends_choice,
    index_of,
    load,
    trailing_usage,
    usage_json,
    with_moved,
)
from sidecar.gather import Gather
from sidecar.json_scan import with_member, without
from sidecar.output_text import OutputText
from sidecar.shape import Delivery, Shape
from sidecar.sse import DONE, EventSplitter, data_of
from sidecar.tally import Tally
from sidecar.usage import NOTHING, Usage, read_usage

# A quote inside a JSON string has a backslash before it, so this is never part of a text.
_TOKEN_IDS = re.compile(rb'"((?:prompt_)?token_ids)":\[[^\]]*\]')


_PLAIN = Shape()


class ChunkStream:
    """Feed it what the server sent; it returns what the client gets and keeps the count."""

    __slots__ = (
        "_end",
        "_finish_everywhere",
        "_finished",
        "_gather",
        "_held",
        "_shape",
        "_splitter",
        "_strip_running",
        "_tally",
        "delivery",
        "done",
        "error",
        "final",
        "showed_final",
        "showed_running",
    )

    def __init__(self, delivery: Delivery, *, strip_running: bool, shape: Shape = _PLAIN) -> None:
        self.delivery = delivery
        self.final: Usage | None = None
        self.error = False
        self.done = False
        # The client has been shown usage that a later one replaces.
        self.showed_running = False
        self.showed_final = False
        self._shape = shape
        self._strip_running = strip_running or delivery is not Delivery.AS_SENT
        self._splitter = EventSplitter()
        self._held = b""
        self._end = b""
        self._finish_everywhere = False
        self._finished = 0
        # Kept until the first usage comes.
        self._gather: Gather | None = Gather()
        self._tally = Tally(shape.per_prompt)

    @property
    def running(self) -> Usage | None:
        """The last running usage of all choices together, where the server gave any."""
        return self._tally.usage

    @property
    def said(self) -> OutputText | None:
        """What the model has said, where no usage has come so far; None where there is usage."""
        return self._gather.text if self._gather is not None else None

    def feed(self, data: bytes) -> bytes:
        """Pass the next bytes through; returns what the client gets now."""
        if self._gather is not None:
            self._gather.add(data)
        if (
            not self._shape.usage_per_choice
            and not self._shape.strip_token_ids
            and not self._splitter.tail
            and not self._held
            and b'"usage"' not in data
            and data.endswith(b"\n\n")
            and b'"error"' not in data
            and data.count(b'"finish_reason"') == data.count(b'"finish_reason":null')
            and b"[DONE]" not in data
        ):
            return data
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def flush(self) -> bytes:
        """The server has ended its stream: what the client still gets of it, but for the last chunk and [DONE], which
        wait where the usage has to be counted first."""
        rest = self._splitter.finish()
        if rest and not rest.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            # A last event without its blank line is one that the gateway would not read.
            rest += b"\n" if rest.endswith(b"\n") else b"\n\n"
            if self._gather is not None:
                self._gather.add(b"\n\n")
        return self._event(rest) if rest else b""

    def finish(self, counted: Usage | None = None) -> bytes:
        """The end of the stream, with the usage that was counted in the server's place."""
        out = self.flush()
        return out + (self._release() if counted is None else self._with_counted(counted)) + self._take_end()

    def _with_counted(self, usage: Usage) -> bytes:
        """The waiting chunk, with the sidecar's own count for who is to have it."""
        held = self._take()
        value = usage_json(usage)
        if self.delivery is Delivery.NONE:
            return held
        if held and self.delivery is Delivery.ON_LAST_CHUNK:
            return edit(held, lambda text: with_member(text, "usage", value))
        last = self._gather.text.last if self._gather is not None else {}
        asked = self.delivery is Delivery.AS_SENT
        chunk = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
        chunk |= {
            "choices": [] if asked else orjson.Fragment(empty_choice(last)),
            "usage": orjson.Fragment(value),
        }
        return held + b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _event(self, event: bytes) -> bytes:
        shape = self._shape
        silent = False
        if shape.strip_token_ids and b'token_ids":[' in event:
            # Without our asking there would be null, and no chunk at all where there is nothing else to say.
            event = _TOKEN_IDS.sub(rb'"\1":null', event)
            silent = b'"delta":{}' in event and b'"finish_reason":null' in event
        has_usage = b'"usage"' in event
        counted = has_usage or (shape.usage_per_choice and b'"timings"' in event)
        if not counted and b'"error"' not in event and not ends_choice(event):
            if b"[DONE]" in event and (data_of(event) or b"").strip() == DONE:
                if self._gather is not None and self._gather.text.answered:
                    self._end += event
                    return b""
                self.done = True
                return self._release() + event
            if silent:
                return b""
            return self._let_go() + event if data_of(event) is not None else event
        trailing = trailing_usage(event) if counted and b'"choices":[]' not in event else None
        if trailing is None or (has_usage and trailing.name != b"usage"):
            return self._parsed(event, data_of(event))
        self._note(index_of(event), trailing.value)
        if silent:
            return b""
        if shape.strip_timings if shape.usage_per_choice else self._strip_running:
            event = event[: trailing.start] + event[trailing.end :]
        elif has_usage:
            self.showed_running = True
            if shape.several:
                event = event[: trailing.end - len(trailing.value)] + self._sum() + event[trailing.end :]
        return self._content(event)

    def _parsed(self, event: bytes, data: bytes | None) -> bytes:
        """An event that has to be understood: usage, an error, the end of a choice."""
        chunk = load(data) if data is not None else None
        if not isinstance(chunk, dict) or data is None:
            return self._let_go() + event
        if chunk.get("error"):
            self.error = True
        choices = chunk.get("choices")
        if "usage" in chunk:
            usage = read_usage(chunk["usage"])
            if not choices and usage is not None:
                return self._final_chunk(event, chunk, usage)
            if usage is not None:
                self._note(index_of(event), orjson.dumps(chunk["usage"]))
            # `"usage": null` on a chunk is the server's answer to who asked.
            if self._strip_running and (usage is not None or self.delivery is not Delivery.AS_SENT):
                event = edit(event, lambda text: without(text, "usage"))
            elif usage is not None:
                self.showed_running = True
                if self._shape.several:
                    event = self._with_sum(event)
        return self._content(event)

    def _content(self, event: bytes) -> bytes:
        """A chunk with choices: one that ends a choice waits, in case the usage has to ride on it."""
        if not ends_choice(event):
            return self._let_go() + event
        self._finished = index_of(event)
        if not self._strip_running:
            return self._let_go() + event
        before = self._held
        if before and index_of(before) == self._finished:
            # KServe's transformers backend writes a finish_reason on every chunk: nothing to wait for.
            self._finish_everywhere = True
        if self._finish_everywhere:
            return self._let_go() + event
        self._held = event
        return before

    def _final_chunk(self, event: bytes, chunk: dict[str, Any], usage: Usage) -> bytes:
        """The server's own usage chunk, which has no choices."""
        if self._shape.usage_per_choice:
            return self._final_of_choice(event, chunk)
        self.final, self._gather = usage, None
        self.showed_final = self.delivery is not Delivery.NONE
        held = self._take()
        if self.delivery is Delivery.AS_SENT:
            return held + self._take_end() + event
        if self.delivery is Delivery.NONE:
            return with_moved(held, chunk) + self._take_end()
        if not held:
            return edit(event, lambda text: with_member(text, "choices", empty_choice(chunk)))
        held = with_moved(held, chunk)
        return edit(held, lambda text: with_member(text, "usage", orjson.dumps(chunk["usage"])))

    def _final_of_choice(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        """llama.cpp's usage chunk stands behind the last chunk of its choice and counts that choice alone."""
        self._note(self._finished, orjson.dumps(chunk["usage"]))
        if self.delivery is not Delivery.AS_SENT:
            self._held = with_moved(self._held, chunk)
            return b""
        self.showed_running = True
        return self._let_go() + (self._with_sum(event) if len(self._tally) > 1 else event)

    def _release(self) -> bytes:
        """The stream ends: the waiting chunk goes, with the usage if no chunk of its own brought it."""
        held = self._take()
        if held and self.delivery is not Delivery.NONE and self.final is None:
            usage = self.running
            if usage is not None:
                self.showed_final = True
                return edit(held, lambda text: with_member(text, "usage", usage_json(usage)))
        return held

    def _sum(self) -> bytes:
        return usage_json(self.running or NOTHING)

    def _with_sum(self, event: bytes) -> bytes:
        return edit(event, lambda text: with_member(text, "usage", self._sum()))

    def _note(self, index: int, usage: bytes) -> None:
        self._tally.note(index, usage)
        self._gather = None

    def _let_go(self) -> bytes:
        """What waits, as more comes behind it."""
        if not self._end:
            held, self._held = self._held, b""
            return held
        return self._take() + self._take_end()

    def _take(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _take_end(self) -> bytes:
        end, self._end = self._end, b""
        if end:
            self.done = True
        return end
