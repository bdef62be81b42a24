"""Answers whose client went before they came: counted by what is known, or finished without it.

The server is told to stop, as a rule, and then says nothing of what it has made. Where TOKEN_METER_FINISH_ABANDONED
allows, an answer that is no stream is waited for all the same, so that its count is the server's own.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.answer import reader_for
from sidecar.asking import Answer
from sidecar.endpoints import NO_OUTPUT
from sidecar.forward import read_some
from sidecar.record import CountedBy, Outcome, Record
from sidecar.request_body import RequestBody
from sidecar.usage import Usage

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

_PIECE = 256 * 1024


async def count_abandoned(proxy: "Proxy", record: Record, body: RequestBody) -> None:
    """The prompt, and as much output as this server makes in the time that it had; of a stream whose first chunk had
    not come, none."""
    seconds = monotonic() - record.sent
    given, _ = await proxy.fallback.prompt(record.endpoint, body)
    made = 0
    if record.endpoint not in NO_OUTPUT and not record.stream:
        most = None if body.most_output is None else body.most_output * body.choices
        made = proxy.rates.output(record.model, seconds, most)
    record.usage, record.counted_by = Usage(given, made), CountedBy.ESTIMATE


class Finisher:
    """Finishes answers in the background, a bounded number of them for a bounded time."""

    def __init__(self, proxy: "Proxy", at_once: int, seconds: float) -> None:
        self._proxy = proxy
        self._at_once = at_once
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, record: Record, body: RequestBody, asked: "asyncio.Task[Answer]") -> Answer:
        """Wait for the answer. Where the client goes meanwhile the record is the finisher's, if there is room."""
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            if len(self._tasks) >= self._at_once:
                await self._drop(asked)
                raise
            record.handed_over = True
            record.outcome = Outcome.CLIENT_DISCONNECT
            task = asyncio.get_running_loop().create_task(self._finish(record, body, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            raise

    async def _drop(self, asked: "asyncio.Task[Answer]") -> None:
        """End the server's work on an answer that nobody is to have."""
        asked.cancel()
        await asyncio.wait([asked])
        if not asked.cancelled() and asked.exception() is None:
            asked.result().upstream.abort()
            asked.result().close(self._proxy)

    async def _finish(self, record: Record, body: RequestBody, asked: "asyncio.Task[Answer]") -> None:
        proxy = self._proxy
        try:
            async with asyncio.timeout(self._seconds):
                answer = await asked
                try:
                    await self._read(record, body, answer)
                finally:
                    if not answer.upstream.complete:
                        answer.upstream.abort()
                    answer.close(proxy)
        except BaseException:  # noqa: BLE001 however it ends, it is counted; nobody waits for it
            await count_abandoned(proxy, record, body)
        finally:
            proxy.conclude(record)

    async def _read(self, record: Record, body: RequestBody, answer: Answer) -> None:
        head = answer.head
        record.status = head.status
        if head.status >= 300:
            return
        reader = reader_for(head.get(b"content-type").lower(), head.get(b"content-encoding").lower())
        piece = answer.taken + answer.upstream.take()
        while True:
            if reader is not None and piece:
                reader.feed(piece)
            if answer.upstream.complete:
                break
            piece = await read_some(answer.upstream, _PIECE)
        usage = reader.finish() if reader is not None else None
        if usage is not None:
            record.usage, record.counted_by = usage, CountedBy.SERVER
            return
        said = reader.said() if reader is not None else None
        if said is not None and said.answered:
            record.usage, record.counted_by = await self._proxy.fallback.request(record.endpoint, body, said)
