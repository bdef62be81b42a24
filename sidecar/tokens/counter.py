"""Counts tokens where the model server gave no usage: by the best way that works, and never with an error."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sidecar.endpoints import Endpoint
from sidecar.record import CountedBy
from sidecar.settings import ServerKind
from sidecar.tokens.estimate import estimate
from sidecar.tokens.helper import Helper, HelperError
from sidecar.tokens.prompt import Prompt, read_prompt
from sidecar.tokens.server import CHAT_MEMBERS, Post, ServerTokenizer

# Longer texts are estimated, by the rate of their beginning.
_MAX_CHARACTERS = 1024 * 1024
_SAMPLE = 64 * 1024
_QUEUE = 32
_TIMEOUT = 10.0
_IDLE_SECONDS = 600.0
# What a request has besides its texts, in a body that is not parsed for being too long.
_MAX_BODY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of tokens, and by which way it came."""

    tokens: int
    by: CountedBy


class TokenCounter:
    """The ways, in order of trust: the server's /tokenize, the model's own files, tiktoken's, an estimate by bytes."""

    def __init__(
        self,
        *,
        server: ServerKind = ServerKind.GENERIC,
        post: Post | None = None,
        helper: Helper | None = None,
        tell: Callable[[str], None] = lambda problem: None,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._server = ServerTokenizer(server, post)
        self._helper = helper
        self._tell, self._told = tell, ""
        self._idle_seconds = idle_seconds
        self._worker: ThreadPoolExecutor | None = None
        self._queued = 0
        self._idle: asyncio.TimerHandle | None = None

    async def text(self, texts: Sequence[str]) -> Counted:
        """Tokens of the whole output text of each choice."""
        return await self._texts(texts, special=False)

    async def prompt(self, endpoint: Endpoint, body: bytes) -> Counted:
        """Tokens of a request's prompt, of its raw JSON; images and sound are not counted."""
        if len(body) > _MAX_BODY:
            return Counted(estimate([body.decode("utf-8", "replace")]), CountedBy.ESTIMATE)
        try:
            prompt = read_prompt(endpoint, body)
        except (ValueError, RecursionError):
            return Counted(estimate([body.decode("utf-8", "replace")]), CountedBy.ESTIMATE)
        counted = await self._chat(prompt) if prompt.chat is not None else None
        if counted is None:
            # A template we do not have adds a few tokens for each message: an estimate at best.
            counted = await self._texts(prompt.texts, special=True)
            if prompt.chat is not None:
                counted = Counted(counted.tokens, CountedBy.ESTIMATE)
        return Counted(counted.tokens + prompt.ids, counted.by)

    def close(self) -> None:
        """End the helper; what it has begun is not waited for."""
        if self._idle is not None:
            self._idle.cancel()
        if self._helper is not None:
            self._helper.kill()
            if self._worker is not None:
                self._worker.submit(self._helper.end)
                self._worker.shutdown(wait=False)
        self._worker, self._helper = None, None

    async def _chat(self, prompt: Prompt) -> Counted | None:
        request = prompt.chat
        if request is None or sum(map(len, prompt.texts)) > _MAX_CHARACTERS:
            return None
        count = await self._server.chat(request)
        if count is not None:
            return Counted(count, CountedBy.TOKENIZE)
        return await self._locally(
            {"chat": {name: request[name] for name in CHAT_MEMBERS if name in request}}
        )

    async def _texts(self, texts: Sequence[str], *, special: bool) -> Counted:
        texts = [text.encode("utf-8", "replace").decode() for text in texts if text]
        length = sum(map(len, texts))
        if length > _MAX_CHARACTERS:
            sample = await self._texts(["".join(texts)[:_SAMPLE]], special=False)
            return Counted(sample.tokens * length // _SAMPLE, CountedBy.ESTIMATE)
        if not texts:
            return Counted(0, CountedBy.ESTIMATE)
        count = await self._server.texts(texts, special=special)
        if count is not None:
            return Counted(count, CountedBy.TOKENIZE)
        counted = await self._locally({"texts": texts, "special": special})
        return counted or Counted(estimate(texts), CountedBy.ESTIMATE)

    async def _locally(self, job: dict[str, Any]) -> Counted | None:
        """The helper's answer; None where there is none, it takes too long or the queue is full."""
        if self._helper is None or self._queued >= _QUEUE:
            return None
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._queued += 1
        loop = asyncio.get_running_loop()
        future = self._worker.submit(_ask, self._helper, job)
        # It leaves the queue when the thread is done with it, not when the asker has gone.
        future.add_done_callback(
            lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(self._left)
        )
        try:
            async with asyncio.timeout(_TIMEOUT):
                counted = await asyncio.wrap_future(future)
        except TimeoutError:
            return None
        if self._helper is not None and self._helper.problem != self._told:
            self._told = self._helper.problem
            if self._told:
                self._tell(self._told)
        return counted

    def _left(self) -> None:
        self._queued -= 1
        if self._idle is not None:
            self._idle.cancel()
        if not self._queued and self._worker is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        """Nobody has asked for long: the memory is better free."""
        if self._worker is not None and self._helper is not None:
            self._worker.submit(self._helper.end)


def _ask(helper: Helper, job: dict[str, Any]) -> Counted | None:
    """In the worker's thread."""
    try:
        count = helper.ask(job)
    except HelperError:
        return None
    return None if count is None else Counted(count, CountedBy(helper.by))
