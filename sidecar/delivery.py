"""Delivering the server's answer: to the client what it may see, and the count to the record."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.access import Channel
from sidecar.answer import EventReader, Reader, reader_for
from sidecar.asking import Answer
from sidecar.client import ClientConnection
from sidecar.dialect import adds_running_usage, shape_of
from sidecar.endpoints import STREAMS_CHUNKS
from sidecar.errors import Refusal
from sidecar.forward import BodyForwarder, Transform
from sidecar.lost import UpstreamLost, UpstreamTimeout, no_answer
from sidecar.record import CountedBy, GatewaySaw, Outcome, Record
from sidecar.request_body import RequestBody
from sidecar.stream import ChunkStream, Delivery
from sidecar.usage import NOTHING, Usage

if TYPE_CHECKING:
    from sidecar.proxy import Proxy


class AnswerDelivery:
    """One answer's way to the client."""

    def __init__(self, proxy: "Proxy", connection: ClientConnection, record: Record) -> None:
        self._proxy = proxy
        self._connection = connection
        self._record = record

    async def run(self, answer: Answer, body: RequestBody) -> None:
        """Deliver it whole, or as far as it goes; counts it on the way."""
        record, head = self._record, answer.head
        record.status = head.status
        if head.status >= 400:
            record.outcome = Outcome.REJECTED if head.status < 500 else Outcome.UPSTREAM_ERROR
        content_type = head.get(b"content-type").lower()
        encoding = head.get(b"content-encoding").lower()
        chunks = record.endpoint in STREAMS_CHUNKS and encoding in (b"", b"identity")
        record.stream = content_type.startswith(b"text/event-stream")
        if head.status == 200 and record.stream and chunks:
            await self._deliver_chunks(answer, body)
        else:
            await self._deliver_read(
                answer, reader_for(content_type, encoding) if head.status < 300 else None
            )

    async def _deliver_chunks(self, answer: Answer, body: RequestBody) -> None:
        """A stream of OpenAI chunks: what reaches whom is ChunkStream's to say."""
        if body.wants_usage:
            delivery = Delivery.AS_SENT
        elif self._record.channel is Channel.GATEWAY:
            delivery = Delivery.ON_LAST_CHUNK
        else:
            delivery = Delivery.NONE
        server = self._proxy.settings.server
        strip = adds_running_usage(server, answer.ask) and not body.wants_running
        shape = shape_of(server, body, answer.ask, through_gateway=self._record.channel is Channel.GATEWAY)
        chunks = ChunkStream(delivery, strip_running=strip, shape=shape)
        self._record.so_far = lambda: self._so_far(chunks)
        self._connection.answer.start(answer.head, length=None)
        lost: Refusal | None = None
        try:
            await self._forward(answer, chunks.feed)
        except (UpstreamLost, UpstreamTimeout) as error:
            lost = self._broken(error)
        except asyncio.CancelledError:
            self._settle(chunks, whole=chunks.done)
            if chunks.done:
                # Who goes at [DONE] has all there was.
                self._proxy.conclude(self._record)
            raise
        rest = chunks.finish()
        self._settle(chunks, whole=lost is None)
        if lost is None:
            self._seen_whole()
        self._proxy.conclude(self._record)
        self._connection.answer.write(rest + lost.event if lost else rest)
        self._connection.answer.end()
        if lost:
            self._connection.drain()

    async def _deliver_read(self, answer: Answer, reader: Reader | None) -> None:
        """Any other answer: passed on as it is, and read on its way."""
        head, upstream, record = answer.head, answer.upstream, self._record
        first = answer.taken + upstream.take()
        if reader is not None and first:
            reader.feed(first)
        if upstream.complete:
            self._count(reader)
            self._seen_whole()
            self._proxy.conclude(record)
            bodiless = head.status in (204, 304)
            self._connection.answer.start(
                head, length=None if bodiless else len(first), first=first, bodiless=bodiless
            )
            return
        self._connection.answer.start(head, length=head.length, first=first)
        transform = _passing(reader.feed) if reader is not None else None
        try:
            await self._forward(answer, transform)
        except (UpstreamLost, UpstreamTimeout) as error:
            refusal = self._broken(error)
            self._count(reader)
            if record.stream:
                self._connection.answer.write(refusal.event)
                self._connection.answer.end()
                self._connection.drain()
            else:
                # A body that is cut must not pass for a whole one.
                self._connection.answer.abort()
            return
        except asyncio.CancelledError:
            self._count(reader)
            raise
        self._count(reader)
        self._seen_whole()
        self._proxy.conclude(record)
        self._connection.answer.end()

    async def _forward(self, answer: Answer, transform: Transform | None) -> None:
        record = self._record
        forwarder = BodyForwarder(
            self._connection,
            answer.upstream,
            idle_timeout=self._proxy.settings.stream_idle_timeout,
            transform=transform,
        )
        try:
            await forwarder.run()
        finally:
            record.first_token, record.last_token = forwarder.first, forwarder.last

    # -- the count

    def _so_far(self, chunks: ChunkStream) -> tuple[Usage, CountedBy]:
        """The count of a stream under way."""
        self._note_shown(chunks)
        if chunks.final is not None:
            return chunks.final, CountedBy.SERVER
        running = chunks.running
        return (NOTHING, CountedBy.NONE) if running is None else (running, CountedBy.RUNNING)

    def _note_shown(self, chunks: ChunkStream) -> None:
        if chunks.showed_running and self._record.channel is Channel.GATEWAY:
            self._record.gateway_saw = GatewaySaw.RUNNING

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

    def _count(self, reader: Reader | None) -> None:
        if reader is None:
            return
        usage = reader.finish()
        if usage is not None:
            self._record.usage, self._record.counted_by = usage, CountedBy.SERVER
        if isinstance(reader, EventReader) and reader.error:
            self._record.outcome = Outcome.UPSTREAM_ERROR

    def _seen_whole(self) -> None:
        """The gateway gets the answer to its end, and charges the usage in it."""
        record = self._record
        if record.channel is Channel.GATEWAY and record.counted_by is CountedBy.SERVER:
            record.gateway_saw = GatewaySaw.FINAL

    def _broken(self, error: UpstreamLost | UpstreamTimeout) -> Refusal:
        """An answer that has begun and cannot be ended."""
        self._record.outcome = lost_outcome(error)
        return no_answer(error)


def lost_outcome(error: UpstreamLost | UpstreamTimeout) -> Outcome:
    """How a request ended whose answer was lost."""
    return Outcome.UPSTREAM_TIMEOUT if isinstance(error, UpstreamTimeout) else Outcome.UPSTREAM_ERROR


def _passing(look: Callable[[bytes], None]) -> Transform:
    def transform(data: bytes) -> bytes:
        look(data)
        return data

    return transform
