"""Whether the model answers: asked again and again, in a connection of its own, and never with a token."""

import asyncio
import contextlib

import httptools

_UNREADY_SECONDS = 0.25
_READY_SECONDS = 2.0
_TIMEOUT = 2.0


class Readiness:
    """Asks the model server; `ready` is its last word. It answers when its status is below 500: a server that is
    still loading refuses the connection or says 503, and one that wants a key says 401."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self._address = address
        self._message = (
            f"GET {path} HTTP/1.1\r\nhost: {address[0]}:{address[1]}\r\nconnection: close\r\n\r\n".encode()
        )
        self._changed = asyncio.Event()
        self.ready = False

    async def wait(self) -> None:
        """Wait until the model answers for the first time."""
        await self._changed.wait()

    async def watch(self) -> None:
        """Keep asking until cancelled."""
        while True:
            self.ready = await self._ask()
            if self.ready:
                self._changed.set()
            await asyncio.sleep(_READY_SECONDS if self.ready else _UNREADY_SECONDS)

    async def _ask(self) -> bool:
        status = _Status()
        try:
            async with asyncio.timeout(_TIMEOUT):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    writer.write(self._message)
                    parser = httptools.HttpResponseParser(status)
                    while data := await reader.read(4096):
                        parser.feed_data(data)
                        if status.known:
                            return parser.get_status_code() < 500
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, httptools.HttpParserError):
            return False
        return False


class _Status:
    """Learns from the parser that the status line and the headers are there."""

    known = False

    def on_headers_complete(self) -> None:
        self.known = True
