"""The admin port: /healthz (the sidecar lives), /readyz (the model answers), /metrics (Prometheus)."""

import asyncio
from collections.abc import Callable

from sidecar.metrics import Metrics

_TIMEOUT = 5.0
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Admin:
    """Answers GET of three paths; one request a connection, which is what probes and scrapers need."""

    def __init__(
        self, metrics: Metrics, is_ready: Callable[[], tuple[bool, str]], refresh: Callable[[], None]
    ) -> None:
        self._metrics = metrics
        self._is_ready = is_ready
        self._refresh = refresh

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer(head.split(b"\r\n", 1)[0]))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass
        finally:
            writer.close()

    def answer(self, request_line: bytes) -> bytes:
        """The whole response to a request line."""
        method, _, rest = request_line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response(b"405 Method Not Allowed", b"only GET is served here\n", method)
        if path == b"/healthz":
            return _response(b"200 OK", b"ok\n", method)
        if path == b"/readyz":
            ready, why = self._is_ready()
            return _response(b"200 OK" if ready else b"503 Service Unavailable", why.encode() + b"\n", method)
        if path == b"/metrics":
            self._refresh()
            return _response(b"200 OK", self._metrics.text(), method, _METRICS_TYPE)
        return _response(b"404 Not Found", b"try /healthz, /readyz or /metrics\n", method)


def _response(
    status: bytes, body: bytes, method: bytes, content_type: bytes = b"text/plain; charset=utf-8"
) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
        status,
        content_type,
        len(body),
    )
    return head if method == b"HEAD" else head + body
