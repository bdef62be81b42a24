"""What a request asks the model to read: texts, token ids and chat messages out of its JSON. Pure.

After OpenAI's API, vLLM's pooling and scoring requests (`input`, `text_1`, `data_1`, `queries`) and Cohere's rerank.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from sidecar.endpoints import Endpoint

_CHAT = frozenset({Endpoint.CHAT_COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES, Endpoint.INVOCATIONS})
_TEXTS = (
    "prompt",
    "input",
    "text",
    "inputs",
    "query",
    "queries",
    "documents",
    "text_1",
    "text_2",
    "instructions",
)
# How deep a client's JSON is followed; what is deeper is not read by any server either.
_DEPTH = 16


@dataclass(slots=True)
class Prompt:
    """`chat` is the request where it has messages; else `texts` and `ids` (a count of given token ids)."""

    chat: dict[str, Any] | None = None
    texts: list[str] = field(default_factory=list)
    ids: int = 0


def read_prompt(endpoint: Endpoint, body: bytes) -> Prompt:
    """The prompt of a raw request; an empty one where it is no JSON object (a form with audio, say)."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Prompt()
    if not isinstance(request, dict):
        return Prompt()
    messages = request.get("messages")
    if endpoint in _CHAT and isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
        prompt = Prompt(chat=_as_chat(request) if endpoint is Endpoint.MESSAGES else request)
        prompt.texts = list(_strings([messages, request.get("tools"), request.get("system")]))
        return prompt
    prompt = Prompt()
    for name in _TEXTS:
        _add(prompt, request.get(name), _DEPTH)
    return prompt


def _as_chat(request: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's request as the chat that its server makes of it (vLLM 0.33, anthropic/serving.py)."""
    chat = dict(request)
    if system := request.get("system"):
        chat["messages"] = [{"role": "system", "content": system}, *request["messages"]]
    tools = request.get("tools")
    if isinstance(tools, list):
        chat["tools"] = [_as_function(tool) for tool in tools if isinstance(tool, dict)]
    return chat


def _as_function(tool: dict[str, Any]) -> dict[str, Any]:
    function = {name: tool[name] for name in ("name", "description") if name in tool}
    return {"type": "function", "function": function | {"parameters": tool.get("input_schema") or {}}}


def _add(prompt: Prompt, value: Any, depth: int) -> None:
    if isinstance(value, str):
        prompt.texts.append(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        prompt.ids += 1
    elif isinstance(value, list) and depth:
        for item in value:
            _add(prompt, item, depth - 1)
    elif isinstance(value, dict):
        prompt.texts.extend(_strings(value))


def _strings(value: Any, depth: int = _DEPTH) -> Iterator[str]:
    """The strings of a message's parts; images and sounds (data URLs, base64) are no text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _strings(item, depth - 1)
    elif isinstance(value, dict) and depth:
        for key, item in value.items():
            if key not in ("image_url", "input_audio", "video_url", "audio_url", "type", "role", "source"):
                yield from _strings(item, depth - 1)
