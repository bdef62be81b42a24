"""Connections to the model server, kept for the next request and bounded in number."""

import asyncio
from collections import deque

from sidecar.errors import Refusal
from sidecar.upstream import UpstreamConnection


class Pool:
    """Lends connections, the youngest idle one first; beyond the bound, borrowers wait in their order."""

    def __init__(
        self, address: tuple[str, int], *, bound: int, keepalive: float, connect_timeout: float
    ) -> None:
        self._address = address
        self._bound = bound
        self._keepalive = keepalive
        self._connect_timeout = connect_timeout
        self._idle: list[UpstreamConnection] = []
        self._lent = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    async def acquire(self, *, fresh: bool = False) -> UpstreamConnection:
        """A connection for one request, `fresh` where it must not be a used one; a Refusal (503) where the server
        does not take connections. Every one is given back by `release`."""
        if self._lent >= self._bound:
            await self._turn()
        self._lent += 1
        try:
            connection = None if fresh else self._take_idle()
            return connection or await self._connect()
        except BaseException:
            self._lent -= 1
            self._wake()
            raise

    def release(self, connection: UpstreamConnection) -> None:
        """Give a connection back; one that cannot be used again is closed."""
        self._lent -= 1
        if connection.reusable:
            connection.busy = False
            connection.reused = True
            connection.idle_since = self._loop.time()
            connection.detach()
            connection.resume()
            self._idle.append(connection)
        else:
            connection.abort()
        self._wake()

    def expire(self) -> None:
        """Close what has been idle for too long."""
        oldest = self._loop.time() - self._keepalive
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().abort()

    def _take_idle(self) -> UpstreamConnection | None:
        oldest = self._loop.time() - self._keepalive
        while self._idle:
            connection = self._idle.pop()
            # uvicorn closes after 5 s: an older one may be closing under us.
            if connection.reusable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> UpstreamConnection:
        host, port = self._address
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self._loop), host, port
                )
        except (OSError, TimeoutError):
            raise Refusal(
                503,
                "service_unavailable",
                "The model server does not accept connections: it is still loading, or restarting. Try again later.",
                code="model_not_ready",
                retry_after=10,
            ) from None
        return connection

    async def _turn(self) -> None:
        while self._lent >= self._bound:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # our turn came as we left: it is the next one's
                raise

    def _wake(self) -> None:
        while self._waiting and self._lent < self._bound:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
