"""Streams without end: `python -m benchmarks.soak_clients PORT STREAMS SECONDS SEED` keeps so many open for so long.

Of each ten, six are read to their end, three are left after a chunk that the server stops at, and one is read so slowly
that the sidecar has to wait. Prints one JSON object.
"""

import asyncio
import random
import sys
from time import monotonic
from typing import cast

import orjson
import uvloop

_PATIENCE = 120.0
_SLOW_SECONDS = 2.0
_PADDING = 100


class _Stream(asyncio.Protocol):
    """One connection with one stream; `done` when it has ended, or has been left."""

    def __init__(self, plan: dict[str, int | float | bool]) -> None:
        self._plan = plan
        self.chunks = 0
        self.whole = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        body = {"model": "bench", "messages": [{"role": "user", "content": "x" * _PADDING}], "stream": True}
        raw = orjson.dumps(body | self._plan)
        self._transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n"
            b"content-type: application/json\r\n"
            b"x-user-id: alice\r\nx-ai-eg-model: bench\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw)
        )

    def data_received(self, data: bytes) -> None:
        self.chunks += data.count(b'"content":" word"')
        self.whole |= b"[DONE]" in data
        if self._plan.get("stop") == self.chunks:
            self._transport.abort()
        elif self._plan.get("slow") and self.chunks % 7 == 0:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_SLOW_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def soak(port: int, streams: int, seconds: float, seed: int) -> dict[str, int]:
    """Run it; what the clients have seen."""
    rng = random.Random(seed)
    seen = {"streams": 0, "whole": 0, "left": 0, "broken": 0, "refused": 0}
    end = monotonic() + seconds
    loop = asyncio.get_running_loop()

    async def slot() -> None:
        await asyncio.sleep(rng.random() * min(20.0, seconds / 4))
        while monotonic() < end:
            plan: dict[str, int | float | bool] = {
                "chunks": rng.randint(10, 60),
                "interval": rng.uniform(0.5, 1.5),
            }
            kind = rng.random()
            if kind < 0.3:
                plan["stop"] = rng.randint(1, int(plan["chunks"]) - 1)
            elif kind < 0.4:
                plan["slow"] = True
            try:
                _, stream = await loop.create_connection(lambda: _Stream(plan), "127.0.0.1", port)  # noqa: B023
            except OSError:
                seen["refused"] += 1
                await asyncio.sleep(1.0)
                continue
            seen["streams"] += 1
            async with asyncio.timeout(_PATIENCE):
                await stream.done
            how = "whole" if stream.whole else "left" if stream.chunks == plan.get("stop") else "broken"
            seen[how] += 1

    await asyncio.gather(*(slot() for _ in range(streams)))
    return seen


if __name__ == "__main__":
    port_, streams_, seconds_, seed_ = sys.argv[1:]
    print(orjson.dumps(uvloop.run(soak(int(port_), int(streams_), float(seconds_), int(seed_)))).decode())
