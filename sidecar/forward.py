"""Leading an answer's body from the model server to the client, no faster than the client takes it."""

import asyncio
from collections.abc import Callable
from time import monotonic

from sidecar.client import ClientConnection
from sidecar.lost import UpstreamTimeout
from sidecar.record import Record
from sidecar.upstream import UpstreamConnection

_WHOLE = 1024 * 1024
Transform = Callable[[bytes], bytes]


class BodyForwarder:
    """A sink for an answer's body. `transform` gets each piece and returns what the client gets of it.

    `done` resolves when the body is whole (its last bytes not yet written, so that it can be accounted for first),
    or raises UpstreamLost or UpstreamTimeout.
    """

    __slots__ = (
        "_connection",
        "_idle_timeout",
        "_loop",
        "_timer",
        "_transform",
        "_upstream",
        "done",
        "first",
        "last",
    )

    def __init__(
        self,
        connection: ClientConnection,
        upstream: UpstreamConnection,
        *,
        idle_timeout: float,
        transform: Transform | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._upstream = upstream
        self._transform = transform
        self._idle_timeout = idle_timeout
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.first = 0.0
        self.last = monotonic()
        self._timer = self._loop.call_later(idle_timeout, self._check_idle)

    async def run(self) -> None:
        """Forward until the body is whole."""
        connection = self._connection
        connection.on_pause = self._upstream.pause
        connection.on_resume = self._resumed
        self._upstream.attach(self)
        try:
            await self.done
        finally:
            self._timer.cancel()
            self._upstream.detach()
            connection.on_pause = connection.on_resume = None

    def data(self, data: bytes) -> None:
        """The next piece has come."""
        self.last = monotonic()
        if not self.first:
            self.first = self.last
        if self._transform is not None:
            data = self._transform(data)
        if data:
            self._connection.answer.write(data)

    def end(self) -> None:
        """The body is whole."""
        if not self.done.done():
            self.done.set_result(None)

    def lost(self, error: Exception) -> None:
        """The body will not be whole."""
        if not self.done.done():
            self.done.set_exception(error)

    def _resumed(self) -> None:
        self.last = monotonic()
        self._upstream.resume()

    def _check_idle(self) -> None:
        """A model that has been silent for too long is given up; a client that does not read is not the model's
        fault, and costs nothing but its connection."""
        silent = monotonic() - self.last
        if silent >= self._idle_timeout and self._connection.writable:
            self._upstream.fail(
                UpstreamTimeout(f"the model server sent nothing for {self._idle_timeout:g} s")
            )
            return
        wait = self._idle_timeout - silent if self._connection.writable else self._idle_timeout
        self._timer = self._loop.call_later(max(wait, 0.05), self._check_idle)


class _Collector:
    """A sink that keeps what comes, up to a limit."""

    def __init__(self, upstream: UpstreamConnection, limit: int) -> None:
        self._upstream = upstream
        self._limit = limit
        self.pieces: list[bytes] = []
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size >= self._limit:
            self._upstream.pause()
            self.end()

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def lost(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def read_some(upstream: UpstreamConnection, limit: int) -> bytes:
    """The body that is to come, or its beginning where it is longer than `limit`; the rest stays with the
    connection. Raises UpstreamLost where the server breaks off."""
    sink = _Collector(upstream, limit)
    upstream.attach(sink)
    await sink.done
    upstream.detach()
    return b"".join(sink.pieces)


async def read_whole(upstream: UpstreamConnection, idle_timeout: float) -> bytes:
    """All of a body that is to come and is known to be short. Raises UpstreamLost or UpstreamTimeout."""
    silence = UpstreamTimeout(f"the model server did not end its answer in {idle_timeout:g} s")
    timer = asyncio.get_running_loop().call_later(idle_timeout, upstream.fail, silence)
    try:
        body = upstream.take()
        while not upstream.complete:
            body += await read_some(upstream, _WHOLE)
        return body
    finally:
        timer.cancel()
        upstream.detach()


async def forward(
    idle_timeout: float,
    connection: ClientConnection,
    record: Record,
    upstream: UpstreamConnection,
    transform: Transform | None,
) -> None:
    """Lead the rest of an answer's body to the client; raises UpstreamLost or UpstreamTimeout."""
    forwarder = BodyForwarder(connection, upstream, idle_timeout=idle_timeout, transform=transform)
    try:
        await forwarder.run()
    finally:
        record.first_token, record.last_token = forwarder.first, forwarder.last


def passing(look: Callable[[bytes], None]) -> Transform:
    """A transform that only looks."""

    def transform(data: bytes) -> bytes:
        look(data)
        return data

    return transform
