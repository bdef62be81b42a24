"""One client's connection: requests in, and their answers out in the same order.

What cannot be understood in one way only is refused (see `incoming`), and what is passed on is written anew from
its parsed parts (see `exchange` and `relay`), so no framing of a client's reaches the model server.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import httptools

from sidecar.answering import AnswerWriter
from sidecar.errors import Refusal, bad_request
from sidecar.incoming import Request, check_head, headers_too_large
from sidecar.messages import Headers, RequestHead

# What waits for a slow reader, per connection, before the model server is not read any further.
_WRITE_HIGH = 32 * 1024
_WRITE_LOW = 8 * 1024
# Body that waits to be passed on; more stops the socket.
_BODY_HIGH = 256 * 1024
_LINGER_SECONDS = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Limits(Protocol):
    """The part of the settings that a connection keeps to."""

    @property
    def max_header_bytes(self) -> int: ...
    @property
    def header_timeout(self) -> float: ...


Handler = Callable[["ClientConnection", Request], Awaitable[None]]


class ClientConnection(asyncio.Protocol):
    """The server's side of one connection. `handler` is run once for each request, never two at a time; it answers
    through `answer`, or raises a Refusal."""

    answer: AnswerWriter

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        connections: "set[ClientConnection]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._connections = connections
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._incoming: Request | None = None
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: Refusal | None = None
        # A request whose body is still to be read after its upgrade was declined.
        self._resumed: Request | None = None
        # A WebSocket's handshake that is not answered yet: what follows it is kept for the tunnel.
        self._upgrading: Request | None = None
        # What still comes in is not looked at: it could not be understood, or the connection is closing.
        self._deaf = False
        self._closing = False
        self._reading = True
        self.writable = True
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.closed: asyncio.Future[None] = loop.create_future()

    def drain(self) -> None:
        """Answer what has begun, then close."""
        self.answer.last = True
        if self._task is None and self._transport is not None:
            self._transport.close()

    def read(self, reading: bool) -> None:
        """Read from the client, or let it wait."""
        if self._transport is None or self._reading == reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- a request's body (incoming.Flow)

    def invite(self, request: Request) -> None:
        """Tell a client that waits for it to send its body."""
        if request.expects_continue and self._transport is not None:
            request.expects_continue = False
            self._transport.write(_CONTINUE)

    def flow(self, request: Request, taken: int) -> None:
        """`taken` bytes of body have been passed on: read on where reading had stopped for them."""
        request.size -= taken
        if not self._reading and not self._queue and request.size < _BODY_HIGH:
            self.read(True)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        self.answer = AnswerWriter(self._transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.answer.tunnel is not None:
            self.answer.tunnel(data)
            return
        if self._deaf:
            return
        if self._upgrading is not None:
            self._upgrading.receive(data)
            if self._upgrading.size > _BODY_HIGH:
                self.read(False)
            return
        if self._incoming is None:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            self._reject(self._refusal or bad_request("The request cannot be read."))
        except httptools.HttpParserError as error:
            self._reject(bad_request(f"The request is no valid HTTP/1.1: {error}.", code="invalid_http"))
        if self._incoming is None and self._head_size and not self._deaf:
            self._between_heads()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self.answer.transport = None
        self._connections.discard(self)
        self._stop_head_timer()
        self._queue.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.answer.tunnel is not None:
            self.answer.tunnel(b"")
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.writable = False
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        self.writable = True
        if self.on_resume is not None:
            self.on_resume()

    # -- httptools' callbacks; an exception here reaches data_received as HttpParserCallbackError

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is None:  # else a trailer; nothing here needs one
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self._resumed is not None:
            self._incoming, self._resumed = self._resumed, None
            return
        parser = self._parser
        version = parser.get_http_version()
        keep_alive = bool(parser.should_keep_alive())
        head = RequestHead(parser.get_method(), target, headers, version == "1.1", keep_alive)
        try:
            request = Request(self, head, check_head(head, version, self._limits.max_header_bytes))
        except Refusal as refusal:
            self._refusal = refusal
            raise
        self._incoming = request
        self._head_size = 0
        if self._current is None:
            self._begin(request)
        else:
            # A pipelined request: its turn comes, and no more is read until then.
            self._queue.append(request)
            self.read(False)

    def on_body(self, body: bytes) -> None:
        request = self._incoming
        if request is not None:
            request.receive(body)
            if request.size > _BODY_HIGH:
                self.read(False)

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        if request is not None:
            request.finish()

    # -- one request after the other

    def _begin(self, request: Request) -> None:
        self._current = request
        self.answer.begin(request)
        self._task = self._loop.create_task(self._run(request))

    async def _run(self, request: Request) -> None:
        try:
            await self._handler(self, request)
        except Refusal as refusal:
            self.answer.refuse(refusal)
        finally:
            self.on_pause = self.on_resume = None
            self._task = None
            self._current = None
            self._next(request)

    def _next(self, request: Request) -> None:
        """The request is answered: the next one, or the end of the connection."""
        if self._transport is None:
            return
        if not self.answer.keep_alive or not request.complete or not self.answer.answered:
            self._queue.clear()
            self._linger()
        elif self._queue:
            waiting = self._queue.popleft()
            if self._refusal is None or waiting.complete:
                self._begin(waiting)
            else:  # its own body is what could not be understood
                self.answer.begin(waiting)
                self.answer.refuse(self._refusal)
                self._linger()
        elif self._refusal is not None:
            self._refuse_unread(self._refusal)
        elif self.answer.last:
            self._transport.close()
        if not self._queue:
            self.read(True)

    def _reject(self, refusal: Refusal) -> None:
        """The bytes cannot be understood: answer, where none is under way, and close."""
        self._refusal = refusal
        self._deaf = True
        self._stop_head_timer()
        if self._current is None:
            self._refuse_unread(refusal)
        elif self._current is not self._incoming:
            return  # the bad bytes come after requests that are being answered: those first
        elif self.answer.answered:
            self.answer.abort()
        else:
            self.answer.refuse(refusal)
            if self._task is not None:
                self._task.cancel()
            self._linger()

    def _refuse_unread(self, refusal: Refusal) -> None:
        self.answer.begin(None)
        self.answer.refuse(refusal)
        self._linger()

    def _linger(self) -> None:
        """Close so that the answer arrives: a close with unread bytes would be a reset that takes it away."""
        if self._transport is None or self._transport.is_closing() or self._closing:
            return
        self._deaf = self._closing = True
        self.read(True)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    # -- heads that are not whole, and upgrades

    def _between_heads(self) -> None:
        """A head has begun and is not whole: it may neither grow nor take for ever."""
        if self._head_size > self._limits.max_header_bytes:
            self._reject(headers_too_large(self._limits.max_header_bytes))
        elif self._head_timer is None and self._current is None:
            self._head_timer = self._loop.call_later(self._limits.header_timeout, self._head_too_slow)

    def _head_too_slow(self) -> None:
        self._reject(Refusal(408, "invalid_request_error", "The request's headers did not arrive in time."))

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _after_upgrade(self, data: bytes) -> None:
        """The parser stops behind a head that asks to upgrade. WebSocket: what follows is the tunnel's. Any other
        upgrade is declined by not answering it, and HTTP/1.1 goes on, with this request's body first."""
        request = self._queue[-1] if self._queue else self._current
        if request is None:
            return
        if request.head.upgrades_to_websocket:
            self._upgrading = request
            if data:
                request.receive(data)
            return
        self._parser = httptools.HttpRequestParser(self)
        if request.length != 0:
            request.complete = False
            self._resumed = request
            length = (
                b"transfer-encoding: chunked"
                if request.length is None
                else b"content-length: %d" % request.length
            )
            self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: -\r\n%b\r\n\r\n" % length)
        if data:
            self.data_received(data)
