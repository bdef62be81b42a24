"""What is not metered: relayed as it is, body and all, as fast as both sides take it."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.client import ClientConnection
from sidecar.forward import BodyForwarder
from sidecar.incoming import Request
from sidecar.lost import UpstreamLost, UpstreamTimeout, no_answer
from sidecar.messages import Headers, ResponseHead, dropping, end_to_end, request_message
from sidecar.upstream import UpstreamConnection

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

# A request with a body no larger than this goes out in one piece, and again if its connection was closing.
_SMALL = 256 * 1024
_FRAMED_ANEW = dropping(b"expect", b"content-length")


async def serve(proxy: "Proxy", connection: ClientConnection, request: Request) -> None:
    """Relay one request and its answer."""
    head = request.head
    head_only = head.method == b"HEAD"
    try:
        if request.complete and request.size <= _SMALL:
            body = b"".join(request.chunks)
            request.chunks = []
            message = request_message(head.method, head.target, _headers(proxy, request), body)
            upstream, answer = await proxy.open(
                message, head_only=head_only, on_interim=connection.answer.interim
            )
        else:
            upstream, answer = await _stream_up(proxy, connection, request)
    except (UpstreamLost, UpstreamTimeout) as error:
        raise no_answer(error) from None
    try:
        await _answer(proxy, connection, upstream, answer, head_only=head_only)
    finally:
        proxy.pool.release(upstream)


async def tunnel(proxy: "Proxy", connection: ClientConnection, request: Request) -> None:
    """A switch to WebSocket: asked of the server, and if it agrees both sides speak through us as they like."""
    head = request.head
    if proxy.access.guarded:
        # What is said in there is not metered: it is the gateway's to open.
        proxy.access.admit(head, monotonic())
    headers = _passed_on(proxy, request)
    # Refused or not, what its client sends from now on is not read as HTTP.
    connection.answer.last = True
    headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    message = request_message(head.method, head.target, headers)
    try:
        upstream, answer = await proxy.open(message, upgrades=True)
    except (UpstreamLost, UpstreamTimeout) as error:
        raise no_answer(error) from None
    try:
        if answer.status != 101:
            await _answer(proxy, connection, upstream, answer, head_only=False)
            return
        await _Tunnel(connection, upstream).run(answer, b"".join(request.chunks))
    finally:
        upstream.abort()
        proxy.pool.release(upstream)


def _passed_on(proxy: "Proxy", request: Request) -> Headers:
    """The client's headers; the gateway sends its key with every request, and it ends here."""
    keyed = proxy.access.carries_key(request.head)
    return end_to_end(request.head.headers, _FRAMED_ANEW | {b"authorization"} if keyed else _FRAMED_ANEW)


def _headers(proxy: "Proxy", request: Request) -> Headers:
    headers = _passed_on(proxy, request)
    declared = request.head.get(b"content-length") is not None
    if declared or (request.complete and request.length is None):
        headers.append(
            (b"content-length", b"%d" % (request.length if request.length is not None else request.size))
        )
    elif request.length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    return headers


async def _stream_up(
    proxy: "Proxy", connection: ClientConnection, request: Request
) -> tuple[UpstreamConnection, ResponseHead]:
    """Send a body that is still coming in, on a connection that is not closing under it."""
    head = request.head
    upstream = await proxy.pool.acquire(fresh=True)
    chunked = request.length is None
    headers = _passed_on(proxy, request)
    headers.append(
        (b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % (request.length or 0))
    )
    try:
        upstream.begin(
            request_message(head.method, head.target, headers),
            head_only=head.method == b"HEAD",
            on_interim=connection.answer.interim,
        )
        sending = asyncio.ensure_future(_send_body(upstream, request, proxy.settings.body_timeout))
        answering = asyncio.ensure_future(upstream.response())
        try:
            # A server may answer, with an error, before it has read everything.
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not answering.done():
                sending.result()
                async with asyncio.timeout(proxy.settings.upstream_timeout):
                    await answering
            if not sending.done():
                upstream.close_after()
            return upstream, answering.result()
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)
    except TimeoutError:
        upstream.abort()
        proxy.pool.release(upstream)
        raise UpstreamTimeout(f"nothing came in {proxy.settings.upstream_timeout:g} s") from None
    except BaseException:
        upstream.abort()
        proxy.pool.release(upstream)
        raise


async def _send_body(upstream: UpstreamConnection, request: Request, timeout: float) -> None:  # noqa: ASYNC109
    chunked = request.length is None
    while not request.complete or request.chunks:
        data = await request.next_chunk(timeout)
        if data:
            await upstream.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    if chunked:
        await upstream.write(b"0\r\n\r\n")


async def _answer(
    proxy: "Proxy",
    connection: ClientConnection,
    upstream: UpstreamConnection,
    head: ResponseHead,
    *,
    head_only: bool,
) -> None:
    bodiless = head_only or head.status in (204, 304)
    first = upstream.take()
    if bodiless:
        connection.answer.start(head, length=None, bodiless=True)
        return
    if upstream.complete and head.length is None:
        connection.answer.start(head, length=None, first=first)
        connection.answer.end()
        return
    connection.answer.start(head, length=head.length, first=first)
    if upstream.complete:
        return
    forwarder = BodyForwarder(connection, upstream, idle_timeout=proxy.settings.upstream_timeout)
    try:
        await forwarder.run()
    except (UpstreamLost, UpstreamTimeout):
        connection.answer.abort()
        return
    connection.answer.end()


class _Tunnel:
    """Bytes in both directions until either side ends."""

    def __init__(self, connection: ClientConnection, upstream: UpstreamConnection) -> None:
        self._connection = connection
        self._upstream = upstream
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, answer: ResponseHead, early: bytes) -> None:
        connection, upstream = self._connection, self._upstream
        connection.answer.switch(answer, self._from_client)
        upstream.tunnel = self
        if pending := upstream.take():
            connection.answer.write_raw(pending)
        connection.on_pause, connection.on_resume = upstream.pause, upstream.resume
        upstream.on_room = connection.read
        upstream.resume()
        if early:
            self._from_client(early)
        connection.read(True)
        await self._ended

    def _from_client(self, data: bytes) -> None:
        if data and self._upstream.transport is not None:
            self._upstream.transport.write(data)
        else:
            self.end()

    def data(self, data: bytes) -> None:
        self._connection.answer.write_raw(data)

    def end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def lost(self, error: Exception) -> None:
        self.end()
