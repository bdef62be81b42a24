"""The model server's own `/tokenize`, in the shapes of vLLM, SGLang and llama.cpp.

vLLM and SGLang read `prompt` (or `messages`) and answer `count`; llama.cpp reads `content`, answers `tokens`, and
makes a prompt of messages by `/apply-template`. One body with both names does for all: each ignores the other's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import orjson

from sidecar.settings import ServerKind

# POST this JSON to this path of the model server: status and body. Whatever it raises means "no answer".
Post = Callable[[bytes, bytes], Awaitable[tuple[int, bytes]]]

_WITHOUT = frozenset({ServerKind.HUGGINGFACE, ServerKind.TGI, ServerKind.OLLAMA, ServerKind.OVMS})
_MISSING = frozenset({401, 403, 404, 405, 501})
_RELEARN_SECONDS = 600.0
_RETRY_SECONDS = 10.0
_TIMEOUT = 2.0
_AT_ONCE = 4
CHAT_MEMBERS = ("model", "messages", "tools", "chat_template_kwargs", "add_generation_prompt")


class ServerTokenizer:
    """Asks the server, a few questions at a time; not for ten minutes after it had no such route."""

    def __init__(self, kind: ServerKind, post: Post | None, timeout: float = _TIMEOUT) -> None:
        self._kind = kind
        self._post = None if kind in _WITHOUT else post
        self._timeout = timeout
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._silent_until = 0.0

    async def texts(self, texts: Sequence[str], *, special: bool) -> int | None:
        """Tokens of the texts, with what the model puts before each where `special`; None where it does not say."""
        total = 0
        for text in texts:
            count = await self._text(text, special=special)
            if count is None:
                return None
            total += count
        return total

    async def chat(self, request: dict[str, Any]) -> int | None:
        """Tokens of a chat request's prompt, by the server's own template."""
        asked = {name: request[name] for name in CHAT_MEMBERS if name in request}
        if self._kind is not ServerKind.LLAMA_CPP:
            return _count(await self._ask(b"/tokenize", asked))
        answer = await self._ask(b"/apply-template", asked)
        prompt = answer.get("prompt") if answer else None
        return await self._text(prompt, special=True) if isinstance(prompt, str) else None

    async def _text(self, text: str, *, special: bool) -> int | None:
        # The model's own output may hold control tokens (<tool_call>): read as such, as the model wrote them.
        body = {"prompt": text, "content": text, "add_special_tokens": special, "add_special": special}
        return _count(await self._ask(b"/tokenize", body | {"parse_special": True}))

    async def _ask(self, path: bytes, body: dict[str, Any]) -> dict[str, Any] | None:
        if self._post is None or monotonic() < self._silent_until:
            return None
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                status, answer = await self._post(path, orjson.dumps(body))
            if status in _MISSING:
                self._silent_until = monotonic() + _RELEARN_SECONDS
                return None
            read = orjson.loads(answer) if status == 200 else None
        except Exception:  # noqa: BLE001 whatever ails the server, there are other ways to count
            self._silent_until = monotonic() + _RETRY_SECONDS
            return None
        return read if isinstance(read, dict) else None


def _count(answer: dict[str, Any] | None) -> int | None:
    if answer is None:
        return None
    count, tokens = answer.get("count"), answer.get("tokens")
    if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
        return count
    return len(tokens) if isinstance(tokens, list) else None
