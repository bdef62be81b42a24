"""The clients: each sends one request on a connection of its own, and leaves it as the scenario says."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from tests.proof.scenario import Ending, Request
from tests.proof.server import Made

PATIENCE = 60.0
_SLOW_PIECE = 700


async def perform(request: Request, made: Made, port: int, settle: Callable[[], Awaitable[None]]) -> bytes:
    """Send it, and read until its ending; what was read. A killed sidecar ends it early."""
    reader, writer = await _connect(port)
    reading = asyncio.ensure_future(_read(reader, slowly=request.ending is Ending.SLOW))
    try:
        writer.write(_message(request))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if request.ending is Ending.ABORT:
            paused = asyncio.ensure_future(made.paused.wait())
            await asyncio.wait((paused, reading), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            paused.cancel()
            if not reading.done():
                await settle()  # the sidecar has every token that was made
                writer.transport.abort()
                await settle()
            made.client_gone.set()
        async with asyncio.timeout(PATIENCE):
            return await reading
    finally:
        reading.cancel()
        writer.close()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, as soon as the sidecar listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port, limit=4096)
            except ConnectionError:
                await asyncio.sleep(0.02)


async def _read(reader: asyncio.StreamReader, *, slowly: bool) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_SLOW_PIECE if slowly else 65536):
            found += piece
            if slowly:
                await asyncio.sleep(0.002)
    return found


def _message(request: Request) -> bytes:
    body = json.dumps(request.body).encode()
    lines = [
        f"POST {request.path} HTTP/1.1",
        "host: llama",
        "content-type: application/json",
        f"x-request-id: {request.id}",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if request.gateway:
        lines += ["x-ai-eg-model: llama", "x-user-id: alice"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
