"""Delivering the server's answer: to the client what it may see, and the count to the record."""

import asyncio
from typing import TYPE_CHECKING

from sidecar.abandoned import count_abandoned
from sidecar.access import Channel
from sidecar.answer import reader_for
from sidecar.asking import Answer
from sidecar.client import ClientConnection
from sidecar.dialect import adds_running_usage, shape_of
from sidecar.endpoints import STREAMS_CHUNKS
from sidecar.errors import Refusal
from sidecar.fallback import at_least
from sidecar.forward import forward
from sidecar.lost import UpstreamLost, UpstreamTimeout, lost_outcome, no_answer
from sidecar.record import CountedBy, GatewaySaw, Outcome, Record
from sidecar.request_body import RequestBody
from sidecar.shape import Delivery
from sidecar.stream import ChunkStream
from sidecar.usage import NOTHING, Usage
from sidecar.whole import WholeDelivery

if TYPE_CHECKING:
    from sidecar.proxy import Proxy


async def deliver(
    proxy: "Proxy", connection: ClientConnection, record: Record, answer: Answer, body: RequestBody
) -> None:
    """Deliver an answer whole, or as far as it goes; counts it on the way."""
    head = answer.head
    record.status = head.status
    if head.status >= 400:
        record.outcome = Outcome.REJECTED if head.status < 500 else Outcome.UPSTREAM_ERROR
    content_type = head.get(b"content-type").lower()
    encoding = head.get(b"content-encoding").lower()
    chunks = record.endpoint in STREAMS_CHUNKS and encoding in (b"", b"identity")
    record.stream = content_type.startswith(b"text/event-stream")
    if head.status == 200 and record.stream and chunks:
        await ChunkDelivery(proxy, connection, record, body).run(answer)
    else:
        reader = reader_for(content_type, encoding) if head.status < 300 else None
        await WholeDelivery(proxy, connection, record, body, reader).run(answer)


class ChunkDelivery:
    """A stream of OpenAI chunks on its way to the client: what reaches whom is ChunkStream's to say."""

    def __init__(
        self, proxy: "Proxy", connection: ClientConnection, record: Record, body: RequestBody
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._record = record
        self._body = body
        self._through_gateway = record.channel is Channel.GATEWAY

    async def run(self, answer: Answer) -> None:
        """Deliver it, and count it to its end."""
        chunks = self._stream(answer)
        self._record.so_far = lambda: self._so_far(chunks)
        self._connection.answer.start(answer.head, length=None)
        lost: Refusal | None = None
        try:
            try:
                await forward(
                    self._proxy.settings.stream_idle_timeout,
                    self._connection,
                    self._record,
                    answer.upstream,
                    chunks.feed,
                )
            except (UpstreamLost, UpstreamTimeout) as error:
                self._record.outcome = lost_outcome(error)
                lost = no_answer(error)
            rest = chunks.flush()
            counted = await self._counted(chunks)
        except asyncio.CancelledError:
            await self._gone(answer, chunks)
            raise
        self._settle(chunks, whole=lost is None)
        if lost or chunks.error:
            counted = None  # who is told of an error is not told a count
        rest += chunks.finish(counted)
        self._seen_by_gateway(chunks, counted, whole=lost is None)
        if lost is None:
            self._proxy.learn_silent(counted is not None)
        self._proxy.conclude(self._record)
        self._connection.answer.write(rest + lost.event if lost else rest)
        self._connection.answer.end()
        if lost:
            self._connection.drain()

    def _stream(self, answer: Answer) -> ChunkStream:
        body, server = self._body, self._proxy.settings.server
        if body.wants_usage:
            delivery = Delivery.AS_SENT
        elif self._through_gateway:
            delivery = Delivery.ON_LAST_CHUNK
        else:
            delivery = Delivery.NONE
        return ChunkStream(
            delivery,
            strip_running=adds_running_usage(server, answer.ask) and not body.wants_running,
            shape=shape_of(server, body, answer.ask, through_gateway=self._through_gateway),
        )

    async def _gone(self, answer: Answer, chunks: ChunkStream) -> None:
        """The client went first: the model's work ends at once, and then what it made is counted."""
        answer.upstream.abort()
        self._record.outcome = Outcome.CLIENT_DISCONNECT
        if chunks.done:
            # Who goes at [DONE] has all there was.
            self._record.outcome = Outcome.COMPLETED
        await self._counted(chunks)
        self._settle(chunks, whole=chunks.done)
        if self._record.counted_by is CountedBy.NONE and not chunks.error:
            await count_abandoned(self._proxy, self._record, self._body)
        self._proxy.conclude(self._record)

    # -- the count

    def _so_far(self, chunks: ChunkStream) -> tuple[Usage, CountedBy]:
        """The count of a stream under way."""
        self._note_shown(chunks)
        if chunks.final is not None:
            return chunks.final, CountedBy.SERVER
        running = chunks.running
        if running is not None:
            return running, CountedBy.RUNNING
        said = chunks.said
        if said is None or not said.answered:
            return NOTHING, CountedBy.NONE
        return at_least(self._body, said), CountedBy.ESTIMATE

    def _note_shown(self, chunks: ChunkStream) -> None:
        if chunks.showed_running and self._through_gateway:
            self._record.gateway_saw = GatewaySaw.RUNNING

    async def _counted(self, chunks: ChunkStream) -> Usage | None:
        """The count of a stream that has brought none of its own, put into the record; None where it has one, or
        where the model has not begun to answer."""
        said = chunks.said
        if said is None or not said.answered:
            return None
        record = self._record
        record.usage, record.counted_by = await self._proxy.fallback.request(
            record.endpoint, self._body, said
        )
        return record.usage

    def _settle(self, chunks: ChunkStream, *, whole: bool) -> None:
        record = self._record
        self._note_shown(chunks)
        if chunks.error:
            record.outcome = Outcome.UPSTREAM_ERROR
        if chunks.final is not None:
            record.usage, record.counted_by = chunks.final, CountedBy.SERVER
        elif (running := chunks.running) is not None:
            # A server without a usage chunk of its own has its last word on the last content chunk.
            record.usage = running
            record.counted_by = CountedBy.SERVER if whole and not chunks.error else CountedBy.RUNNING

    def _seen_by_gateway(self, chunks: ChunkStream, counted: Usage | None, *, whole: bool) -> None:
        """The gateway gets the answer to its end, and charges the usage that it has seen in it."""
        last_running = chunks.showed_running and whole and not chunks.error
        if self._through_gateway and (counted is not None or chunks.showed_final or last_running):
            self._record.gateway_saw = GatewaySaw.FINAL
