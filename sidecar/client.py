"""One client's connection: strict HTTP/1.1 in, answers out in the order of their requests.

What two readers could take differently is refused, and what is passed on is written anew from its parsed parts
(see `exchange`), so no framing of a client's reaches the model server. httptools (llhttp, strict) refuses obsolete
folding, bare CR or LF, a doubled or signed Content-Length, one beside Transfer-Encoding, and bad chunk sizes; the
rest is refused here.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import httptools

from sidecar.errors import Refusal, bad_request
from sidecar.messages import Headers, RequestHead, ResponseHead, dropping, end_to_end, serialise

# What waits for a slow reader, per connection, before the model server is not read any further.
_WRITE_HIGH = 64 * 1024
_WRITE_LOW = 16 * 1024
# Body that waits to be passed on; more stops the socket.
_BODY_HIGH = 256 * 1024
_LINGER_SECONDS = 2.0
_FRAMED_ANEW = dropping(b"content-length")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Limits(Protocol):
    """The part of the settings that a connection keeps to."""

    @property
    def max_header_bytes(self) -> int: ...
    @property
    def header_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...


class Request:
    """A request that is coming in: its head, and its body as it arrives."""

    __slots__ = ("_connection", "_waiter", "chunks", "complete", "expects_continue", "head", "length", "size")

    def __init__(
        self, connection: "ClientConnection", head: RequestHead, length: int | None, expects: bool
    ) -> None:
        self._connection = connection
        self.head = head
        self.length = length
        self.expects_continue = expects
        self.chunks: list[bytes] = []
        self.size = 0
        self.complete = False
        self._waiter: asyncio.Future[None] | None = None

    def receive(self, data: bytes) -> None:
        """More of the body has come."""
        self.chunks.append(data)
        self.size += len(data)
        self._wake()

    def finish(self) -> None:
        """The body is whole."""
        self.complete = True
        self._wake()

    async def next_chunk(self, timeout: float) -> bytes:  # noqa: ASYNC109 a timer of its own costs more
        """What has come since the last call, waiting for something; nothing at the end. A Refusal (408) where
        nothing comes in time."""
        while not self.chunks and not self.complete:
            self._connection.invite(self)
            await self._wait(timeout)
        chunks, self.chunks = self.chunks, []
        data = b"".join(chunks)
        self._connection.flow(self, len(data))
        return data

    async def _wait(self, timeout: float) -> None:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(
            Refusal(408, "invalid_request_error", "The request's body did not arrive in time.")
        )


Handler = Callable[["ClientConnection", Request], Awaitable[None]]


class ClientConnection(asyncio.Protocol):
    """The server's side of one connection. `handler` is run once for each request, never two at a time."""

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
        self.transport: asyncio.Transport | None = None
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
        # What still comes in is not looked at: it could not be understood, or the connection is closing.
        self._deaf = False
        self._closing = False
        self._reading = True
        self._chunked_answer = False
        self._until_close = False
        self._keep_alive = True
        self._can_write = True
        self.draining = False
        self.closed: asyncio.Future[None] = loop.create_future()
        self.answered = False
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.tunnel: Callable[[bytes], None] | None = None

    # -- the answer

    def start(
        self, head: ResponseHead, *, length: int | None, first: bytes = b"", bodiless: bool = False
    ) -> None:
        """Send an answer's head, framed for its body of `length` bytes, or chunked where that is not known; with
        the first bytes of the body where they are at hand."""
        assert self._current is not None
        assert self.transport is not None
        request = self._current.head
        keep = request.keep_alive and not self.draining and self._current.complete
        self._chunked_answer = False
        if bodiless or length == head.length:
            headers = end_to_end(head.headers)
        else:
            headers = end_to_end(head.headers, _FRAMED_ANEW)
            if length is not None:
                headers.append((b"content-length", str(length).encode()))
        if length is None and not bodiless:
            if request.http_1_1:
                headers.append((b"transfer-encoding", b"chunked"))
                self._chunked_answer = True
            else:
                self._until_close = True
                keep = False
        if not keep:
            headers.append((b"connection", b"close"))
        elif not request.http_1_1:
            headers.append((b"connection", b"keep-alive"))
        self._keep_alive = keep
        self.answered = True
        out = serialise(b"HTTP/1.1 %d %b" % (head.status, head.reason), headers)
        if first:
            out += b"%x\r\n%b\r\n" % (len(first), first) if self._chunked_answer else first
        self.transport.write(out)

    def interim(self, status: int, reason: bytes, headers: Headers) -> None:
        """Pass on an interim answer (103 and the like)."""
        if self._current is not None and self._current.head.http_1_1 and self.transport is not None:
            self.transport.write(serialise(b"HTTP/1.1 %d %b" % (status, reason), end_to_end(headers)))

    def switch(self, head: ResponseHead, tunnel: Callable[[bytes], None]) -> None:
        """Agree to an upgrade: what the client sends from now on goes to `tunnel`, nothing at its end."""
        self.answered = True
        self._keep_alive = False
        self.tunnel = tunnel
        headers = [*end_to_end(head.headers), (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        self.write_raw(serialise(b"HTTP/1.1 101 %b" % head.reason, headers))

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        if self.transport is not None and data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked_answer else data)

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are (a tunnel's)."""
        if self.transport is not None:
            self.transport.write(data)

    def end(self) -> None:
        """The answer's body is whole."""
        if self._chunked_answer and self.transport is not None:
            self.transport.write(b"0\r\n\r\n")

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the model's place. Where the request was not read to its end the connection closes after it."""
        if self.transport is None or self.answered:
            return
        request = self._current
        self._keep_alive = (
            request is not None
            and request.complete
            and request.head.keep_alive
            and not self.draining
            and self._refusal is None
        )
        self.answered = True
        head_only = request is not None and request.head.method == b"HEAD"
        self.transport.write(refusal.response(keep_alive=self._keep_alive, head_only=head_only))

    def abort(self) -> None:
        """Break the connection, so that a cut answer cannot pass for a whole one."""
        if self.transport is None:
            return
        if self._until_close:
            # The end of the connection is the end of the answer: only a reset tells that it is not.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def writable(self) -> bool:
        """Whether the client takes what it is sent."""
        return self._can_write

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._task is None

    def drain(self) -> None:
        """Answer what has begun, then close."""
        self.draining = True
        if self.idle and self.transport is not None:
            self.transport.close()

    # -- the request's flow

    def invite(self, request: Request) -> None:
        """Tell a client that waits for it to send its body."""
        if request.expects_continue and self.transport is not None:
            request.expects_continue = False
            self.transport.write(_CONTINUE)

    def flow(self, request: Request, taken: int) -> None:
        """`taken` bytes of body have been passed on: read on where reading had stopped for them."""
        request.size -= taken
        if not self._reading and len(self._queue) == 0 and request.size < _BODY_HIGH:
            self.read(True)

    def read(self, reading: bool) -> None:
        """Read from the client, or let it wait."""
        if self.transport is None or self._reading == reading or self.transport.is_closing():
            return
        self._reading = reading
        if reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel(data)
            return
        if self._deaf:
            return
        if self._incoming is None:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            self._reject(self._refusal or bad_request("The request cannot be read."))
            return
        except httptools.HttpParserError as error:
            self._reject(bad_request(f"The request is no valid HTTP/1.1: {error}.", code="invalid_http"))
            return
        if self._incoming is None and self._head_size:
            self._between_heads()

    def _between_heads(self) -> None:
        """A head has begun and is not whole: it may neither grow nor take for ever."""
        if self._head_size > self._limits.max_header_bytes:
            self._reject(_too_large(self._limits.max_header_bytes))
        elif self._head_timer is None and self._current is None:
            self._head_timer = self._loop.call_later(self._limits.header_timeout, self._head_too_slow)

    def _head_too_slow(self) -> None:
        self._reject(Refusal(408, "invalid_request_error", "The request's headers did not arrive in time."))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.closed.done():
            self.closed.set_result(None)
        self._connections.discard(self)
        self._stop_head_timer()
        self._queue.clear()
        if self.tunnel is not None:
            self.tunnel(b"")
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write = False
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        self._can_write = True
        if self.on_resume is not None:
            self.on_resume()

    # -- httptools' callbacks; an exception here reaches data_received as HttpParserCallbackError

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is not None:
            return  # a trailer; nothing here needs one
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self._resumed is not None:
            self._incoming, self._resumed = self._resumed, None
            return
        version = self._parser.get_http_version()
        head = RequestHead(
            self._parser.get_method(),
            target,
            headers,
            version == "1.1",
            bool(self._parser.should_keep_alive()),
        )
        try:
            request = self._check(head, version)
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
            if request.size > _BODY_HIGH and not request.expects_continue:
                self.read(False)

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        if request is not None:
            request.finish()

    # -- requests

    def _check(self, head: RequestHead, version: str) -> Request:
        """What llhttp lets pass and two readers could still take differently."""
        if version not in ("1.0", "1.1"):
            raise bad_request(f"HTTP/{version} is not spoken here; use HTTP/1.1.", code="invalid_http")
        size = len(head.target)
        hosts = 0
        length: int | None = None
        expects = False
        for name, value in head.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked" or not head.http_1_1:
                    raise bad_request(
                        "Transfer-Encoding must be `chunked`, in HTTP/1.1.", code="invalid_http"
                    )
                length = -1
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise Refusal(417, "invalid_request_error", "Expect may only ask for 100-continue.")
                expects = head.http_1_1
        if head.upgrades_to_websocket and length:
            raise bad_request("A WebSocket handshake has no body.", code="invalid_http")
        if size > self._limits.max_header_bytes:
            raise _too_large(self._limits.max_header_bytes)
        if hosts == 0 and not head.http_1_1:
            head.headers.append((b"host", b"localhost"))  # it goes on in HTTP/1.1, where one is needed
        elif hosts != 1:
            raise bad_request("A request has exactly one Host header.", code="invalid_http")
        if head.method == b"CONNECT":
            raise Refusal(405, "invalid_request_error", "CONNECT is not served here.")
        head.target = _origin_form(head.target)
        return Request(self, head, None if length == -1 else length or 0, expects)

    def _begin(self, request: Request) -> None:
        self._current = request
        self.answered = False
        self._task = self._loop.create_task(self._run(request))

    async def _run(self, request: Request) -> None:
        try:
            await self._handler(self, request)
        except Refusal as refusal:
            self.refuse(refusal)
        finally:
            self.on_pause = self.on_resume = None
            self._task = None
            self._current = None
            self._next(request)

    def _next(self, request: Request) -> None:
        """The request is answered: the next one, or the end of the connection."""
        if self.transport is None:
            return
        if not self._keep_alive or not request.complete or not self.answered:
            self._queue.clear()
            self._linger()
        elif self._queue:
            self._begin(self._queue.popleft())
        elif self._refusal is not None:
            self.answered = False
            self.refuse(self._refusal)
            self._linger()
        elif self.draining:
            self.transport.close()
        if not self._queue:
            self.read(True)

    def _reject(self, refusal: Refusal) -> None:
        """The bytes cannot be understood: answer, where none is under way, and close."""
        self._refusal = refusal
        self._stop_head_timer()
        if self._current is None:
            self.answered = False
            self.refuse(refusal)
            self._linger()
        elif self._current is not self._incoming:
            # The bad bytes come after requests that are being answered: those first.
            self._deaf = True
        elif self.answered:
            self.abort()
        else:
            self.refuse(refusal)
            if self._task is not None:
                self._task.cancel()
            self._linger()

    def _linger(self) -> None:
        """Close so that the answer arrives: a close with unread bytes would be a reset that takes it away."""
        if self.transport is None or self.transport.is_closing() or self._closing:
            return
        self._deaf = self._closing = True
        self.read(True)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self.transport.close)

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
            if data:
                request.chunks.append(data)
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


def _too_large(limit: int) -> Refusal:
    return Refusal(431, "invalid_request_error", f"The request's headers are larger than {limit} bytes.")


def _origin_form(target: bytes) -> bytes:
    """The target as a server takes it; absolute form loses its scheme and host (RFC 9112, section 3.2.2)."""
    if b"#" in target:
        raise bad_request("The request's target must not have a fragment.", code="invalid_http")
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise bad_request("The request's target must be a path.", code="invalid_http")
    slash = rest.find(b"/")
    return b"/" if slash < 0 else rest[slash:]
