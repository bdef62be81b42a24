"""What a model has said, read out of its answers where they bring no usage: the whole text of each choice. Pure.

Whole texts, because tokens that are cut between two chunks count wrongly alone. Reasoning, the names and arguments of
tool calls and refusals are output like any text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Key = tuple[int, str]
# What is beyond is not kept; its tokens are taken to be as many, for each byte, as those before.
MAX_TEXT = 128 * 1024
_SPOKEN = ("reasoning_content", "reasoning", "content", "refusal")


class OutputText:
    """The texts of one answer, fed its JSON values: chunks of a stream, or the answer itself."""

    __slots__ = ("_kept", "_parts", "answered", "last", "omitted", "pieces")

    def __init__(self) -> None:
        # As bytes: a stream's text comes in pieces of a few letters, each of which would be an object.
        self._parts: dict[Key, bytearray] = {}
        self._kept = 0
        self.omitted = 0
        # Texts that came one by one: each is a token at least.
        self.pieces = 0
        # Whether the model has begun to answer, be it with nothing yet.
        self.answered = False
        self.last: Mapping[str, Any] = {}

    def add(self, value: object) -> None:
        """The next value; what is no answer of a model's says nothing."""
        if not isinstance(value, Mapping):
            return
        if value.get("choices") or "type" in value or "content" in value or "output" in value:
            self.answered = self.answered or not value.get("error")
            self.last = value
        for key, text in _said(value):
            said = text.encode("utf-8", "replace")
            self.pieces += bool(said)
            if self._kept + len(said) > MAX_TEXT:
                self.omitted += len(said)
            elif said:
                self._kept += len(said)
                self._parts.setdefault(key, bytearray()).extend(said)

    @property
    def texts(self) -> list[str]:
        """The whole text of each choice, of each of its kinds (reasoning, content, a tool call's arguments)."""
        return [part.decode("utf-8", "replace") for part in self._parts.values()]

    @property
    def size(self) -> int:
        """Bytes, kept or not."""
        return self._kept + self.omitted


def _said(value: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    choices = value.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, Mapping):
                yield from _choice(choice)
    elif isinstance(value.get("type"), str) and "delta" in value:
        yield from _delta_event(value)
    elif isinstance(value.get("output"), list):
        for number, item in enumerate(value["output"]):
            yield from _strings(item, (number, "output"))
    elif isinstance(value.get("content"), list | str):
        index = value.get("index")
        yield from _strings(value["content"], (index if isinstance(index, int) else 0, "content"))


def _choice(choice: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    index = choice.get("index")
    number = index if isinstance(index, int) else 0
    text = choice.get("text")
    if isinstance(text, str):
        yield (number, "text"), text
    said = choice.get("delta") or choice.get("message")
    if not isinstance(said, Mapping):
        return
    for name in _SPOKEN:
        found = said.get(name)
        # Some servers write the reasoning under both of its names.
        if name == "reasoning" and "reasoning_content" in said:
            continue
        if isinstance(found, str):
            yield (number, name), found
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            for name in ("name", "arguments"):
                if isinstance(function.get(name), str):
                    yield (number, f"call {call.get('index')} {name}"), function[name]


def _delta_event(value: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """OpenAI's response.*.delta, whose delta is a string, and Anthropic's content_block_delta."""
    index = value.get("content_index", value.get("index"))
    key = (index if isinstance(index, int) else 0, str(value.get("item_id", value["type"])))
    delta = value["delta"]
    if isinstance(delta, str):
        yield key, delta
    elif isinstance(delta, Mapping):
        for name in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(name), str):
                yield key, delta[name]


def _strings(value: object, key: Key) -> Iterator[tuple[Key, str]]:
    """Texts of output items and content blocks, whose shapes are many."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, Mapping):
        for name in ("text", "thinking", "name", "arguments", "content", "summary"):
            yield from _strings(value.get(name), key)
        if isinstance(value.get("input"), Mapping):
            yield from ((key, str(item)) for item in value["input"].values())
