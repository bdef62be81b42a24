"""Load from a process of its own, so that its CPU is never the proxy's. Prints one JSON object.

`python -m benchmarks.load requests PORT CONNECTIONS COUNT BYTES`: closed loop, keep-alive connections.
`python -m benchmarks.load streams PORT STREAMS CHUNKS INTERVAL`: every stream at once, read to its end.
"""

import asyncio
import sys
from time import monotonic
from typing import cast

import httptools
import orjson
import uvloop


class _Client(asyncio.Protocol):
    """One keep-alive connection: sends, and tells of each answer's end."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.bytes = 0
        self.chunks = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the connection was lost in an answer"))

    def data_received(self, data: bytes) -> None:
        self.chunks += data.count(b"data: {")
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.bytes += len(body)

    def on_message_complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def send(self, message: bytes) -> "asyncio.Future[None]":
        self.done = asyncio.get_running_loop().create_future()
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


async def _connect(port: int) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    return client


async def requests(port: int, connections: int, count: int, size: int) -> dict[str, float]:
    """Closed loop; latencies in microseconds."""
    body = orjson.dumps(
        {"model": "bench", "messages": [{"role": "user", "content": "x" * max(size - 70, 1)}]}
    )
    message = _message(body)
    latencies: list[float] = []
    clients = [await _connect(port) for _ in range(connections)]

    async def work(client: _Client) -> None:
        for _ in range(count // connections):
            begun = monotonic()
            await client.send(message)
            latencies.append(monotonic() - begun)

    begun = monotonic()
    await asyncio.gather(*map(work, clients))
    seconds = monotonic() - begun
    for client in clients:
        client.close()
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": seconds,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
    }


async def streams(port: int, count: int, chunks: int, interval: float) -> dict[str, float]:
    """Every stream at once, begun evenly over one interval."""
    body = orjson.dumps(
        {"model": "bench", "messages": [], "stream": True, "chunks": chunks, "interval": interval}
    )
    message = _message(body)
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
    return {"streams": count, "chunks": sum(client.chunks for client in clients), "seconds": seconds}


def main(argv: list[str]) -> None:
    """Run one load and print its figures."""
    kind, port, *rest = argv
    if kind == "requests":
        connections, count, size = map(int, rest)
        result = uvloop.run(requests(int(port), connections, count, size))
    else:
        result = uvloop.run(streams(int(port), int(rest[0]), int(rest[1]), float(rest[2])))
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
