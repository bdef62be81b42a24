"""Requests on their way in: what of a head is refused, and a body as it arrives.

httptools (llhttp, strict) refuses obsolete folding, bare CR or LF, a doubled or signed Content-Length, one beside
Transfer-Encoding, and bad chunk sizes; the rest is refused here.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from sidecar.errors import Refusal, bad_request
from sidecar.messages import RequestHead


class Flow(Protocol):
    """The connection that a body comes in on, as far as its reader steers it."""

    def invite(self, request: "Request") -> None:
        """Tell a client that waits for it to send its body."""

    def flow(self, request: "Request", taken: int) -> None:
        """So many bytes of the body have been taken."""


@dataclass(frozen=True, slots=True)
class Framing:
    """A body's declared length (None where it is chunked), and whether its client waits to be told to send it."""

    length: int | None
    expects_continue: bool


class Request:
    """A request that is coming in: its head, and its body as it arrives."""

    __slots__ = ("_flow", "_waiter", "chunks", "complete", "expects_continue", "head", "length", "size")

    def __init__(self, flow: Flow, head: RequestHead, framing: "Framing") -> None:
        self._flow = flow
        self.head = head
        self.length = framing.length
        self.expects_continue = framing.expects_continue
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
            self._flow.invite(self)
            await self._wait(timeout)
        chunks, self.chunks = self.chunks, []
        data = b"".join(chunks)
        self._flow.flow(self, len(data))
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


def check_head(head: RequestHead, version: str, max_header_bytes: int) -> Framing:
    """Refuse what llhttp lets pass and two readers could still take differently; gives the body's framing. The head's
    target comes out in origin form."""
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
                raise bad_request("Transfer-Encoding must be `chunked`, in HTTP/1.1.", code="invalid_http")
            length = -1
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise Refusal(417, "invalid_request_error", "Expect may only ask for 100-continue.")
            expects = head.http_1_1
    if head.upgrades_to_websocket and length:
        raise bad_request("A WebSocket handshake has no body.", code="invalid_http")
    if size > max_header_bytes:
        raise headers_too_large(max_header_bytes)
    if hosts == 0 and not head.http_1_1:
        head.headers.append((b"host", b"localhost"))  # it goes on in HTTP/1.1, where one is needed
    elif hosts != 1:
        raise bad_request("A request has exactly one Host header.", code="invalid_http")
    if head.method == b"CONNECT":
        raise Refusal(405, "invalid_request_error", "CONNECT is not served here.")
    head.target = _origin_form(head.target)
    return Framing(None if length == -1 else length or 0, expects)


def headers_too_large(limit: int) -> Refusal:
    """431, naming the limit."""
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
