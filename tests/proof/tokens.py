"""The scripted server's tokenizer and chat template: a token is a word. Pure.

Words hold what a reader of streams could stumble over, but never a space: so a text has as many tokens as it was made
of, whole or in pieces.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
_TRICKY = (
    '"usage":{"prompt_tokens":9,"completion_tokens":9}',
    '"finish_reason":"stop"',
    '"token_ids":[1,2]',
    '"choices":[]',
    '{"error":{"code":500}}',
    "[DONE]",
    "data:",
    '\\"}',
    "čárka,",
    "好的。",
    "👩🏽‍🚀",
)


def word(number: int) -> str:
    """The word of this number."""
    return _TRICKY[number // 7 % len(_TRICKY)] if number % 7 == 0 else f"w{number}"


def words(first: int, count: int) -> str:
    """So many words, each with a space behind it."""
    return "".join(f"{word(number)} " for number in range(first, first + count))


def of_text(text: str, *, special: bool = False) -> int:
    """Tokens of a text, with the one that begins a prompt where `special`."""
    return len(text.split()) + special


def of_chat(request: Json) -> int:
    """Tokens of a chat's prompt: a few for each message, and the tools as they stand."""
    count = 2 + sum(4 + of_text(" ".join(_texts(message.get("content")))) for message in request["messages"])
    tools = request.get("tools")
    return count + (of_text(json.dumps(tools)) if tools else 0)


def of_prompts(path: str, request: Json) -> list[int]:
    """Tokens of each prompt of a request."""
    if "messages" in request:
        if system := request.get("system"):
            request = {**request, "messages": [{"role": "system", "content": system}, *request["messages"]]}
        return [of_chat(request)]
    if path == "/v1/responses":
        given = [request.get("instructions"), request["input"]]
        return [sum(of_text(text, special=True) for text in _texts(given))]
    if path in ("/v1/rerank", "/v1/score"):
        query, documents = request["query"], request["documents"]
        return [sum(of_text(f"{query} {one}", special=True) for one in documents)]
    prompt = request["prompt" if "prompt" in request else "input"]
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        prompt = [prompt]
    return [of_text(one, special=True) if isinstance(one, str) else len(one) for one in prompt]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        yield from _texts(value.get("text", value.get("content")))
