"""Writing answers to one client: framed as the client can take them, once each."""

import asyncio
import socket
import struct
from collections.abc import Callable

from sidecar.errors import Refusal
from sidecar.incoming import Request
from sidecar.messages import Headers, ResponseHead, dropping, end_to_end, serialise

_FRAMED_ANEW = dropping(b"content-length")


class AnswerWriter:
    """The sending side of a connection. `begin` names the request that is answered from then on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport: asyncio.Transport | None = transport
        self.answered = False
        self.keep_alive = True
        # The connection ends with this answer, whatever its request says.
        self.last = False
        self.tunnel: Callable[[bytes], None] | None = None
        self._request: Request | None = None
        self._chunked = False
        self._until_close = False

    def begin(self, request: Request | None) -> None:
        """This request is answered next; None for bytes that could not be read as one."""
        self._request = request
        self.answered = False

    def start(
        self, head: ResponseHead, *, length: int | None, first: bytes = b"", bodiless: bool = False
    ) -> None:
        """Send an answer's head, framed for its body of `length` bytes, or chunked where that is not known; with
        the first bytes of the body where they are at hand."""
        if self.transport is None or self._request is None:
            return
        request = self._request.head
        keep = request.keep_alive and not self.last and self._request.complete
        self._chunked = False
        if bodiless or length == head.length:
            headers = end_to_end(head.headers)
        else:
            headers = end_to_end(head.headers, _FRAMED_ANEW)
            if length is not None:
                headers.append((b"content-length", str(length).encode()))
        if length is None and not bodiless:
            if request.http_1_1:
                headers.append((b"transfer-encoding", b"chunked"))
                self._chunked = True
            else:
                self._until_close = True
                keep = False
        if not keep:
            headers.append((b"connection", b"close"))
        elif not request.http_1_1:
            headers.append((b"connection", b"keep-alive"))
        self.keep_alive = keep
        self.answered = True
        out = serialise(b"HTTP/1.1 %d %b" % (head.status, head.reason), headers)
        if first:
            out += b"%x\r\n%b\r\n" % (len(first), first) if self._chunked else first
        self.transport.write(out)

    def interim(self, status: int, reason: bytes, headers: Headers) -> None:
        """Pass on an interim answer (103 and the like)."""
        if self._request is not None and self._request.head.http_1_1 and self.transport is not None:
            self.transport.write(serialise(b"HTTP/1.1 %d %b" % (status, reason), end_to_end(headers)))

    def switch(self, head: ResponseHead, tunnel: Callable[[bytes], None]) -> None:
        """Agree to an upgrade: what the client sends from now on goes to `tunnel`, nothing at its end."""
        self.answered = True
        self.keep_alive = False
        self.tunnel = tunnel
        headers = [*end_to_end(head.headers), (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        self.write_raw(serialise(b"HTTP/1.1 101 %b" % head.reason, headers))

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        if self.transport is not None and data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are (a tunnel's)."""
        if self.transport is not None:
            self.transport.write(data)

    def end(self) -> None:
        """The answer's body is whole."""
        if self._chunked and self.transport is not None:
            self.transport.write(b"0\r\n\r\n")

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the model's place. Where the request was not read to its end the connection closes after it."""
        if self.transport is None or self.answered:
            return
        request = self._request
        self.keep_alive = (
            request is not None and request.complete and request.head.keep_alive and not self.last
        )
        self.answered = True
        head_only = request is not None and request.head.method == b"HEAD"
        self.transport.write(refusal.response(keep_alive=self.keep_alive, head_only=head_only))

    def abort(self) -> None:
        """Break the connection, so that a cut answer cannot pass for a whole one."""
        if self.transport is None:
            return
        if self._until_close:
            # The end of the connection is the end of the answer: only a reset tells that it is not.
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
