"""Counts tokens where the model server gave no usage: by the best way that works, and never with an error."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sidecar.endpoints import Endpoint
from sidecar.record import CountedBy
from sidecar.settings import ServerKind
from sidecar.tokens.estimate import estimate
from sidecar.tokens.local import LocalTokenizer
from sidecar.tokens.prompt import Prompt, read_prompt
from sidecar.tokens.server import Post, ServerTokenizer

# Longer texts are estimated, by the rate of their beginning.
_MAX_CHARACTERS = 1024 * 1024
_SAMPLE = 64 * 1024
_QUEUE = 32
_TIMEOUT = 10.0
# What a request has besides its texts, in a body that is not parsed for being too long.
_MAX_BODY = 4 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of tokens, and by which way it came."""

    tokens: int
    by: CountedBy


class TokenCounter:
    """The ways, in order of trust: the server's /tokenize, the model's tokenizer.json, an estimate by bytes."""

    def __init__(
        self,
        *,
        server: ServerKind = ServerKind.GENERIC,
        post: Post | None = None,
        model_dir: Path | None = None,
    ) -> None:
        self._server = ServerTokenizer(server, post)
        self._model_dir = model_dir
        self._worker: ThreadPoolExecutor | None = None
        self._local: LocalTokenizer | None = None
        self._queued = 0

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
        """End the worker; what it has begun is not waited for."""
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)
        self._worker, self._model_dir = None, None

    async def _chat(self, prompt: Prompt) -> Counted | None:
        request = prompt.chat
        if request is None or sum(map(len, prompt.texts)) > _MAX_CHARACTERS:
            return None
        count = await self._server.chat(request)
        if count is not None:
            return Counted(count, CountedBy.TOKENIZE)
        count = await self._locally(lambda local: local.chat(request))
        return None if count is None else Counted(count, CountedBy.TOKENIZER)

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
        count = await self._locally(lambda local: local.texts(texts, special=special))
        if count is not None:
            return Counted(count, CountedBy.TOKENIZER)
        return Counted(estimate(texts), CountedBy.ESTIMATE)

    async def _locally(self, job: Callable[[LocalTokenizer], T]) -> T | None:
        """The job's answer from the worker thread; None where it fails, takes too long or the queue is full."""
        if self._model_dir is None or self._queued >= _QUEUE:
            return None
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._queued += 1
        loop = asyncio.get_running_loop()
        future = self._worker.submit(self._run, job, self._model_dir)
        # It leaves the queue when the thread is done with it, not when the asker has gone.
        future.add_done_callback(
            lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(self._left)
        )
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return None

    def _left(self) -> None:
        self._queued -= 1

    def _run(self, job: Callable[[LocalTokenizer], T], folder: Path) -> T | None:
        """In the worker. A panic of the Rust libraries is a BaseException; none must come out of here."""
        try:
            if self._local is None:
                self._local = LocalTokenizer(folder)
        except BaseException:  # noqa: BLE001
            self._model_dir = None  # the volume does not change while the pod lives
            return None
        try:
            return job(self._local)
        except BaseException:  # noqa: BLE001
            return None
