"""One connection to the model server: HTTP/1.1, one request at a time, kept alive between them."""

import asyncio
import re
from collections.abc import Callable
from typing import cast

import httptools

from sidecar.lost import Sink, UpstreamLost
from sidecar.messages import Headers, ResponseHead

# A paused sink stops the socket, not just this buffer.
_WRITE_HIGH = 256 * 1024
# What no reason phrase may have in it (RFC 9112, section 4): llhttp lets everything pass but CR and LF.
_NO_REASON = re.compile(rb"[^\t -~\x80-\xff]")


Interim = Callable[[int, bytes, Headers], None]


class UpstreamConnection(asyncio.Protocol):
    """A connection that is either idle or busy with one request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.reused = False
        self.idle_since = 0.0
        self._reset()
        self._parser = httptools.HttpResponseParser(self)
        self._can_write = True
        self._write_waiter: asyncio.Future[None] | None = None
        self.tunnel: Sink | None = None
        # Told when the server stops taking bytes, and when it goes on (a tunnel's back-pressure).
        self.on_room: Callable[[bool], None] | None = None

    def _reset(self) -> None:
        self.on_interim: Interim | None = None
        self._head_only = False
        self._upgrades = False
        self._headers: Headers = []
        self._reason = b""
        self._head: ResponseHead | None = None
        self._waiter: asyncio.Future[ResponseHead] | None = None
        self._sink: Sink | None = None
        self._pending: list[bytes] = []
        self._error: Exception | None = None
        self._until_close = False
        self._keep_alive = True
        self._may_keep = True
        self.complete = False
        self.busy = False
        self.received = False

    # -- the request

    def begin(
        self,
        head: bytes,
        *,
        head_only: bool = False,
        upgrades: bool = False,
        on_interim: Interim | None = None,
    ) -> None:
        """Send a request's head (and body with it, where it is at hand)."""
        self._reset()
        self._upgrades = upgrades
        self.on_interim = on_interim
        self.busy = True
        self._head_only = head_only
        assert self.transport is not None
        self.transport.write(head)

    async def write(self, data: bytes) -> None:
        """Send more of the request's body, as fast as the server takes it."""
        if self._error is not None or self.transport is None:
            raise self._error or UpstreamLost("the model server closed the connection")
        self.transport.write(data)
        if not self._can_write:
            self._write_waiter = self._loop.create_future()
            await self._write_waiter

    async def response(self) -> ResponseHead:
        """The answer's head; UpstreamLost or UpstreamTimeout where none comes."""
        if self._head is not None:
            return self._head
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        return await self._waiter

    def take(self) -> bytes:
        """The body that has come in before a sink was attached."""
        data = b"".join(self._pending)
        self._pending = []
        return data

    def attach(self, sink: Sink) -> None:
        """Give the body to this sink from now on, what is there already at once."""
        self._sink = sink
        if self._pending:
            sink.data(self.take())
        if self.complete:
            sink.end()
        elif self._error is not None:
            sink.lost(self._error)
        elif self.transport is not None:
            self.transport.resume_reading()

    def close_after(self) -> None:
        """This request was not sent whole: no other can follow it."""
        self._may_keep = False

    def detach(self) -> None:
        """Nobody takes the body any more."""
        self._sink = None

    def pause(self) -> None:
        """Stop reading: the client is slower than the model."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the server sees its client gone and stops generating."""
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: Exception) -> None:
        """End the request with this error, and the connection with it."""
        if self._error is None and not self.complete:
            self._error = error
            self._tell()
        self.abort()

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return (
            self.complete
            and self._keep_alive
            and self._may_keep
            and self.transport is not None
            and not self.transport.is_closing()
        )

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.data(data)
            return
        if not self.busy:
            # An idle server has nothing to say (a 408 of its own, at most).
            self._keep_alive = False
            self.abort()
            return
        self.received = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._head is not None:
                self._pending.append(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.complete:
                self.fail(UpstreamLost(f"the model server's answer is no HTTP/1.1: {error}"))
                return
            # The answer is whole; what stands behind it is nobody's, and ends the connection.
            self._keep_alive = False
            self.abort()
        if self._pending:
            sink = self._sink
            if sink is None:
                # The head's reader has not run yet; it takes the rest when it has.
                if not self.complete:
                    self.pause()
                return
            sink.data(self._pending[0] if len(self._pending) == 1 else b"".join(self._pending))
            self._pending = []
        if self.complete and self._sink is not None:
            sink, self._sink = self._sink, None
            sink.end()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._until_close and exc is None:
            self.complete = True
            self._keep_alive = False
            if self._sink is not None:
                sink, self._sink = self._sink, None
                sink.end()
        elif self._error is None:
            untouched = not self.received
            self._error = UpstreamLost("the model server closed the connection", untouched=untouched)
            if not self.complete:
                self._tell()
        if self.tunnel is not None:
            self.tunnel.end()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_exception(
                self._error or UpstreamLost("the model server closed the connection")
            )
        self.transport = None

    def pause_writing(self) -> None:
        self._can_write = False
        if self.on_room is not None:
            self.on_room(False)

    def resume_writing(self) -> None:
        self._can_write = True
        if self.on_room is not None:
            self.on_room(True)
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    def _tell(self) -> None:
        error = self._error
        assert error is not None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.lost(error)

    # -- httptools' callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            # Bytes behind the answer are nobody's: they end the connection, lest they pass for the next answer.
            self._keep_alive = False

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        reason, self._reason = self._reason, b""
        if status < 100 or (reason != b"OK" and _NO_REASON.search(reason)):
            self.fail(UpstreamLost("the model server's answer is no HTTP/1.1: bad status line"))
            return
        if 100 <= status < 200 and status != 101:
            # An interim answer. 100 is the sidecar's own business: it has sent no Expect.
            if any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
                # llhttp would read a body, which would pass for the answer's (RFC 9110, sections 8.6 and 15.2).
                self.fail(UpstreamLost("the model server's interim answer has a body"))
                return
            if self.on_interim is not None and status != 100:
                self.on_interim(status, reason, headers)
            return
        if status == 101 and not self._upgrades:
            self.fail(UpstreamLost("the model server switched protocols unasked"))
            return
        length: int | None = None
        chunked = False
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                length = int(value)
            elif lower == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    # Its other codings would end here, with the header that names them.
                    self.fail(UpstreamLost(f"the model server's transfer coding is not chunked: {value!r}"))
                    return
                chunked = True
        self._keep_alive = bool(self._parser.should_keep_alive())
        bodiless = self._head_only or status in (101, 204, 304)
        self._until_close = not (bodiless or chunked or length is not None)
        self._head = ResponseHead(status, reason, headers, self._keep_alive, length, chunked)
        if self._head_only or status == 101:
            # The parser does not know of HEAD: what it waits for never comes, so the connection is not used again.
            self.complete = status != 101
            self._keep_alive = self._keep_alive and (not chunked and not length) and status != 101
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._head)

    def on_body(self, body: bytes) -> None:
        if not self._head_only and not self.complete:
            self._pending.append(body)

    def on_message_complete(self) -> None:
        if self._head is not None and self._head.status != 101:
            self.complete = True
