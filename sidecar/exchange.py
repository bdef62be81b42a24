"""One metered request, from its admission to its last byte."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.access import Channel
from sidecar.answer import EventReader, Reader, reader_for
from sidecar.client import ClientConnection, Request
from sidecar.endpoints import STREAMS_CHUNKS, Endpoint
from sidecar.errors import Refusal
from sidecar.forward import BodyForwarder, Transform, read_some
from sidecar.messages import Headers, ResponseHead, dropping, end_to_end, request_message
from sidecar.record import CountedBy, Outcome, Record
from sidecar.request_body import Ask, RequestBody, read_request
from sidecar.stream import ChunkStream, Delivery
from sidecar.upstream import UpstreamConnection, UpstreamLost, UpstreamTimeout, no_answer

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

# What is set anew on the way to the server; the key is the gateway's and ours.
_OURS = dropping(b"content-length", b"accept-encoding", b"expect")
_OURS_WITH_KEY = _OURS | {b"authorization"}
_AUDIO = frozenset({Endpoint.AUDIO_TRANSCRIPTIONS, Endpoint.AUDIO_TRANSLATIONS})
# An error's body is read whole up to here, to see whether another way of asking would do.
_ERROR_LIMIT = 256 * 1024


async def serve(
    proxy: "Proxy", connection: ClientConnection, request: Request, endpoint: Endpoint, below: bytes | None
) -> None:
    """Serve a metered request; it is counted and logged however it ends."""
    record = proxy.begin(request, endpoint)
    try:
        await Exchange(proxy, connection, request, record, below).run()
    except Refusal as refusal:
        record.status = refusal.status
        if record.outcome is Outcome.COMPLETED:
            record.outcome = Outcome.REJECTED
        proxy.conclude(record)
        raise
    except asyncio.CancelledError:
        record.outcome = Outcome.CLIENT_DISCONNECT
        raise
    except BaseException:
        record.outcome = Outcome.UPSTREAM_ERROR
        raise
    finally:
        proxy.conclude(record)


class Exchange:
    """The steps of one request; each may end it."""

    def __init__(
        self,
        proxy: "Proxy",
        connection: ClientConnection,
        request: Request,
        record: Record,
        below: bytes | None,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._request = request
        self._record = record
        self._below = below
        self._held_bytes = 0

    async def run(self) -> None:
        """Admit, read, ask, deliver."""
        proxy, record = self._proxy, self._record
        caller = proxy.access.admit(self._request.head, monotonic())
        record.channel, record.user = caller.channel, caller.user
        if self._request.head.get(b"content-encoding") not in (None, b"identity"):
            raise Refusal(
                415,
                "invalid_request_error",
                "A metered request's body must not be compressed; send it as it is.",
            )
        body = await self._body()
        arrived = monotonic()
        try:
            answer = await self._ask(body)
        except (UpstreamLost, UpstreamTimeout) as error:
            raise self._broken(error) from None
        finally:
            self._forget()
        record.overhead = max(record.sent - arrived, 0.0)
        try:
            await self._deliver(answer, body)
        finally:
            answer.close(proxy)

    # -- the request

    async def _body(self) -> RequestBody:
        raw = await self._read_body()
        if self._record.endpoint in _AUDIO:
            return RequestBody(raw, "", False, 1, None, False, False)
        body = read_request(raw, self._record.endpoint)
        self._record.model, self._record.stream = body.model, body.stream
        return body

    async def _read_body(self) -> bytes:
        request, settings = self._request, self._proxy.settings
        limit = settings.max_body_bytes
        if (request.length or 0) > limit:
            raise _too_large(limit)
        if request.complete and len(request.chunks) == 1:
            return await request.next_chunk(settings.body_timeout)
        pieces = []
        size = 0
        while not request.complete or request.chunks:
            piece = await request.next_chunk(settings.body_timeout)
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            self._hold(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    def _hold(self, size: int) -> None:
        """All bodies that wait in memory share one bound."""
        self._proxy.buffered += size
        self._held_bytes += size
        if self._proxy.buffered > self._proxy.settings.max_buffered_bytes:
            self._forget()
            raise Refusal(
                503,
                "service_unavailable",
                "Too many large requests at once; try again.",
                code="overloaded",
                retry_after=1,
            )

    def _forget(self) -> None:
        self._proxy.buffered -= self._held_bytes
        self._held_bytes = 0

    # -- asking the server

    async def _ask(self, body: RequestBody) -> "Answer":
        """Ask the server, and again in another way where it shows that it must be asked so."""
        proxy = self._proxy
        ask = proxy.ask if body.takes_options else Ask.NOTHING
        refused = False
        while True:
            raw = body.asking(ask)
            answer = await self._ask_at_base(raw)
            answer.ask = ask
            status = answer.head.status
            if status in (400, 422) and raw is not body.raw and b"stream_options" in await answer.peek():
                answer.close(proxy)
                refused, ask = True, Ask(ask - 1)
                continue
            # Remembered only where our own asking was refused: a client cannot switch metering off.
            if refused and status < 300 and not body.options_present:
                proxy.learn_ask(ask)
            return answer

    async def _ask_at_base(self, raw: bytes) -> "Answer":
        """Send it to the base path that the server has. While that is unknown, "no such route" leads to the next,
        and the first answer stands where none has the route."""
        proxy, head = self._proxy, self._request.head
        if self._below is None:
            return await self._send(head.path, raw)
        first: Answer | None = None
        for base in proxy.base_paths(head.path.removesuffix(self._below)):
            answer = await self._send(base + self._below, raw)
            if answer.head.status != 404 or not _is_missing_route(await answer.peek()):
                if first is not None:
                    first.close(proxy)
                if answer.head.status < 300:
                    proxy.learn_base_path(base)
                return answer
            if first is None:
                first = answer
            else:
                answer.close(proxy)
        assert first is not None
        return first

    async def _send(self, path: bytes, raw: bytes) -> "Answer":
        head = self._request.head
        message = request_message(b"POST", path + head.query, self._headers(len(raw)), raw)
        if not self._record.sent:
            self._record.sent = monotonic()
        return Answer(*await self._proxy.open(message, on_interim=self._connection.interim))

    def _headers(self, length: int) -> Headers:
        head = self._request.head
        headers = end_to_end(head.headers, _OURS_WITH_KEY if self._proxy.access.guarded else _OURS)
        headers.append((b"accept-encoding", b"identity"))
        headers.append((b"content-length", b"%d" % length))
        return headers

    # -- the answer

    async def _deliver(self, answer: "Answer", body: RequestBody) -> None:
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

    async def _deliver_chunks(self, answer: "Answer", body: RequestBody) -> None:
        """A stream of OpenAI chunks: what reaches whom is ChunkStream's to say."""
        if body.wants_usage:
            delivery = Delivery.AS_SENT
        elif self._record.channel is Channel.GATEWAY:
            delivery = Delivery.ON_LAST_CHUNK
        else:
            delivery = Delivery.NONE
        strip = answer.ask is Ask.RUNNING_USAGE and not body.wants_running
        chunks = ChunkStream(delivery, strip_running=strip)
        self._connection.start(answer.head, length=None)
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
        self._proxy.conclude(self._record)
        self._connection.write(rest + lost.event if lost else rest)
        self._connection.end()
        if lost:
            self._connection.drain()

    async def _deliver_read(self, answer: "Answer", reader: Reader | None) -> None:
        """Any other answer: passed on as it is, and read on its way."""
        head, upstream, record = answer.head, answer.upstream, self._record
        first = answer.taken + upstream.take()
        if reader is not None and first:
            reader.feed(first)
        if upstream.complete:
            self._count(reader)
            self._proxy.conclude(record)
            bodiless = head.status in (204, 304)
            self._connection.start(
                head, length=None if bodiless else len(first), first=first, bodiless=bodiless
            )
            return
        self._connection.start(head, length=head.length, first=first)
        transform = _passing(reader.feed) if reader is not None else None
        try:
            await self._forward(answer, transform)
        except (UpstreamLost, UpstreamTimeout) as error:
            refusal = self._broken(error)
            self._count(reader)
            if record.stream:
                self._connection.write(refusal.event)
                self._connection.end()
                self._connection.drain()
            else:
                # A body that is cut must not pass for a whole one.
                self._connection.abort()
            return
        except asyncio.CancelledError:
            self._count(reader)
            raise
        self._count(reader)
        self._proxy.conclude(record)
        self._connection.end()

    async def _forward(self, answer: "Answer", transform: Transform | None) -> None:
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

    def _settle(self, chunks: ChunkStream, *, whole: bool) -> None:
        record = self._record
        if chunks.error:
            record.outcome = Outcome.UPSTREAM_ERROR
        if chunks.final is not None:
            record.usage, record.counted_by = chunks.final, CountedBy.SERVER
        elif (running := chunks.running) is not None:
            # A server without a usage chunk of its own has its last word on the last content chunk.
            record.usage = running
            record.counted_by = CountedBy.SERVER if whole else CountedBy.RUNNING

    def _count(self, reader: Reader | None) -> None:
        if reader is None:
            return
        usage = reader.finish()
        if usage is not None:
            self._record.usage, self._record.counted_by = usage, CountedBy.SERVER
        if isinstance(reader, EventReader) and reader.error:
            self._record.outcome = Outcome.UPSTREAM_ERROR

    def _broken(self, error: UpstreamLost | UpstreamTimeout) -> Refusal:
        """No answer, or one that has begun and cannot be ended."""
        timeout = isinstance(error, UpstreamTimeout)
        self._record.outcome = Outcome.UPSTREAM_TIMEOUT if timeout else Outcome.UPSTREAM_ERROR
        return no_answer(error)


class Answer:
    """The server's answer: its head, and what of its body had to be looked at before it goes to the client."""

    __slots__ = ("ask", "head", "taken", "upstream")

    def __init__(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        self.upstream = upstream
        self.head = head
        self.ask = Ask.NOTHING
        self.taken = b""

    async def peek(self) -> bytes:
        """The body, or what its first 256 KiB are."""
        if not self.taken:
            self.taken = await read_some(self.upstream, _ERROR_LIMIT)
        return self.taken

    def close(self, proxy: "Proxy") -> None:
        """This answer is not wanted."""
        proxy.pool.release(self.upstream)


def _passing(look: Callable[[bytes], None]) -> Transform:
    def transform(data: bytes) -> bytes:
        look(data)
        return data

    return transform


def _is_missing_route(body: bytes) -> bool:
    """Whether a 404 says that there is no such path, and not no such model: FastAPI's and llama.cpp's words, or
    no JSON at all."""
    return b'"Not Found"' in body or b"File Not Found" in body or b'"error"' not in body


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        "invalid_request_error",
        f"The request's body is larger than {limit} bytes, the limit of TOKEN_METER_MAX_BODY_BYTES.",
        code="request_too_large",
    )
