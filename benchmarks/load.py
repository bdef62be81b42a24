"""Load from a process of its own, so that its CPU is never the proxy's. Prints one JSON object.

`python -m benchmarks.load requests PORT CONNECTIONS COUNT BYTES`: closed loop, keep-alive connections.
`python -m benchmarks.load rate PORT CONNECTIONS COUNT BYTES RATE`: open loop, so many requests a second; a latency
begins when its request was due, so what waits behind a slow one is counted.
`python -m benchmarks.load streams PORT STREAMS CHUNKS INTERVAL`: every stream at once, read to its end.
"""

import asyncio
import sys
from collections.abc import Sequence
from time import monotonic
from typing import cast

import httptools
import orjson
import uvloop

_PATIENCE = 120.0


class _Client(asyncio.Protocol):
    """One keep-alive connection: sends, and tells of each answer's end."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.bytes = 0
        self.chunks = 0
        self.sent = 0.0
        self.first = 0.0
        self.last = 0.0
        self.gaps: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the connection was lost in an answer"))

    def data_received(self, data: bytes) -> None:
        found = data.count(b"data: {")
        if found:
            now = monotonic()
            if self.last:
                self.gaps.append(now - self.last)
            else:
                self.first = now
            self.last = now
            self.chunks += found
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.bytes += len(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"answered {self._parser.get_status_code()}"))
        elif not self.done.done():
            self.done.set_result(None)

    def send(self, message: bytes) -> "asyncio.Future[None]":
        self.done = asyncio.get_running_loop().create_future()
        self.sent = monotonic()
        self._transport.write(message)
        return self.done

    def close(self) -> None:
        self._transport.close()


def _message(body: bytes) -> bytes:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        b"user-agent: bench\r\naccept: */*\r\nx-user-id: alice\r\nx-request-id: 0f2a3c1e-1111-2222\r\n"
    )
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def _chat(size: int) -> bytes:
    content = "x" * max(size - 70, 1)
    return _message(orjson.dumps({"model": "bench", "messages": [{"role": "user", "content": content}]}))


async def _connect(port: int) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    return client


async def requests(port: int, connections: int, count: int, size: int) -> dict[str, float]:
    """Closed loop; latencies in microseconds."""
    message = _chat(size)
    latencies: list[float] = []
    clients = [await _connect(port) for _ in range(connections)]

    async def work(client: _Client) -> None:
        for _ in range(max(count // connections, 1)):
            begun = monotonic()
            await client.send(message)
            latencies.append(monotonic() - begun)

    begun = monotonic()
    await asyncio.gather(*map(work, clients))
    seconds = monotonic() - begun
    for client in clients:
        client.close()
    return {"requests": len(latencies), "seconds": seconds, **_spread(latencies)}


async def rate(port: int, connections: int, count: int, size: int, a_second: float) -> dict[str, float]:
    """Open loop over a fixed set of connections; a request waits for a free one."""
    message = _chat(size)
    latencies: list[float] = []
    free: asyncio.Queue[_Client] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await _connect(port))

    async def one(due: float) -> None:
        client = await free.get()
        await client.send(message)
        latencies.append(monotonic() - due)
        free.put_nowait(client)

    begun = monotonic()
    tasks = []
    for number in range(count):
        due = begun + number / a_second
        if (wait := due - monotonic()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*tasks)
    seconds = monotonic() - begun
    while not free.empty():
        free.get_nowait().close()
    return {"requests": count, "seconds": seconds, **_spread(latencies)}


async def streams(port: int, count: int, chunks: int, interval: float) -> dict[str, float]:
    """Every stream at once, begun evenly over one interval; times in microseconds."""
    body = {"model": "bench", "messages": [{"role": "user", "content": "x"}], "stream": True}
    message = _message(orjson.dumps({**body, "chunks": chunks, "interval": interval}))
    clients = [await _connect(port) for _ in range(count)]
    begun = monotonic()
    waiting = []
    for client in clients:
        waiting.append(client.send(message))
        await asyncio.sleep(interval / count)
    await asyncio.gather(*waiting)
    seconds = monotonic() - begun
    for client in clients:
        client.close()
    firsts = [client.first - client.sent for client in clients]
    off = [abs(gap - interval) for client in clients for gap in client.gaps]
    return {
        "streams": count,
        "chunks": sum(client.chunks for client in clients),
        "seconds": seconds,
        **{f"first_{name}": value for name, value in _spread(firsts).items()},
        **{f"jitter_{name}": value for name, value in _spread(off).items()},
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    found = sorted(seconds) or [0.0]
    return {
        "p50_us": found[len(found) // 2] * 1e6,
        "p99_us": found[min(int(len(found) * 0.99), len(found) - 1)] * 1e6,
    }


def main(argv: list[str]) -> None:
    """Run one load and print its figures."""
    kind, port, first, second, third, *rest = argv
    if kind == "requests":
        load = requests(int(port), int(first), int(second), int(third))
    elif kind == "rate":
        load = rate(int(port), int(first), int(second), int(third), float(rest[0]))
    else:
        load = streams(int(port), int(first), int(second), float(third))

    async def bounded() -> dict[str, float]:
        async with asyncio.timeout(_PATIENCE):
            return await load

    print(orjson.dumps(uvloop.run(bounded())).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
