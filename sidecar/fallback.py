"""The count where the model server gives none: of the request's prompt, and of the text that it was answered with."""

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol

from sidecar.endpoints import AUDIO, Endpoint
from sidecar.output_text import OutputText
from sidecar.record import CountedBy
from sidecar.request_body import RequestBody
from sidecar.usage import Usage

_BYTES_A_TOKEN = 3.5
_MAX_PROMPT = 1024 * 1024
_TRUST = (
    CountedBy.SERVER,
    CountedBy.RUNNING,
    CountedBy.TOKENIZE,
    CountedBy.TOKENIZER,
    CountedBy.TIKTOKEN,
    CountedBy.ESTIMATE,
)


class Counted(Protocol):
    """A number of tokens, and by which way it came."""

    @property
    def tokens(self) -> int: ...
    @property
    def by(self) -> CountedBy: ...


class Counter(Protocol):
    """What counts texts (sidecar.tokens.counter)."""

    async def text(self, texts: Sequence[str]) -> Counted: ...
    async def prompt(self, endpoint: Endpoint, body: bytes) -> Counted: ...


class Fallback:
    """Counts requests; never fails, and when it is cut short it estimates."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    async def request(
        self, endpoint: Endpoint, body: RequestBody, said: OutputText
    ) -> tuple[Usage, CountedBy]:
        """The whole request: what was asked, and what was said."""
        try:
            given, by = await self._prompt(endpoint, body)
            made, made_by = await self._said(said)
        except asyncio.CancelledError:
            return rough(body, said), CountedBy.ESTIMATE
        return Usage(given, made), weaker(by, made_by) if made_by else by

    async def prompt(self, endpoint: Endpoint, body: RequestBody) -> tuple[int, CountedBy]:
        """The prompt alone."""
        try:
            return await self._prompt(endpoint, body)
        except asyncio.CancelledError:
            return _tokens(body.length), CountedBy.ESTIMATE

    async def texts(self, texts: list[str]) -> tuple[int, CountedBy]:
        """Texts of a model's."""
        try:
            counted = await self._counter.text(texts)
        except asyncio.CancelledError:
            return sum(_tokens(len(text)) for text in texts), CountedBy.ESTIMATE
        return counted.tokens, counted.by

    async def _prompt(self, endpoint: Endpoint, body: RequestBody) -> tuple[int, CountedBy]:
        if endpoint in AUDIO:
            return 0, CountedBy.ESTIMATE
        if not body.raw or len(body.raw) > _MAX_PROMPT:
            # A long prompt is not kept while its answer is under way, nor read at one go.
            return _tokens(body.length), CountedBy.ESTIMATE
        counted = await self._counter.prompt(endpoint, body.raw)
        return counted.tokens, counted.by

    async def _said(self, said: OutputText) -> tuple[int, CountedBy | None]:
        texts = said.texts
        if not texts:
            return 0, None
        counted = await self._counter.text(texts)
        if not said.omitted:
            return counted.tokens, counted.by
        return counted.tokens * said.size // (said.size - said.omitted), CountedBy.ESTIMATE


def at_least(body: RequestBody, said: OutputText) -> Usage:
    """A count that costs nothing, of a stream under way: no more output than is certain."""
    return Usage(_tokens(body.length), said.pieces)


def rough(body: RequestBody, said: OutputText) -> Usage:
    """A count that costs nothing, where there is no time for a better one."""
    return Usage(_tokens(body.length), _tokens(said.size))


def weaker(one: CountedBy, other: CountedBy) -> CountedBy:
    """The name of a count that has come by both ways."""
    return max(one, other, key=lambda by: _TRUST.index(by) if by in _TRUST else len(_TRUST))


def _tokens(size: int) -> int:
    return math.ceil(size / _BYTES_A_TOKEN)
