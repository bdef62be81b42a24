"""Events for the ledger from a process of its own: `python -m benchmarks.ledger_load PORT SENDERS BATCHES BATCH`.

Made before the clock starts: twenty users, five services, times of the last hours, as a cluster's would be.
"""

import asyncio
import random
import sys
import time
from uuid import uuid4

import orjson

from sidecar.endpoints import Endpoint
from sidecar.event import Source, closed_event
from sidecar.post import post
from sidecar.record import CountedBy, Record
from sidecar.sender import BATCH as CONTENT_TYPE
from sidecar.sender import EVENTS_PATH
from sidecar.usage import Usage

_SECONDS = 120.0


def _batch(size: int) -> bytes:
    service = random.randrange(5)
    source = Source.of(
        f"team-{service % 3}", f"llama-{service}", f"llama-{service}-predictor-{uuid4().hex[:5]}"
    )
    return b"[" + b",".join(orjson.dumps(closed_event(_record(), source)) for _ in range(size)) + b"]"


def _record() -> Record:
    return Record(
        Endpoint.CHAT_COMPLETIONS,
        started=1.0,
        request_id=uuid4().hex,
        admitted=time.time() - random.random() * 7200,
        model="llama",
        gateway_model="llama",
        user=f"user-{random.randrange(20)}",
        status=200,
        usage=Usage(random.randrange(4000), random.randrange(800)),
        counted_by=CountedBy.SERVER,
        ended=2.5,
    )


async def _send(port: int, batches: list[bytes]) -> None:
    for body in batches:
        answer = await post(
            f"http://127.0.0.1:{port}{EVENTS_PATH}",
            {"Content-Type": CONTENT_TYPE},
            body,
            tls=None,
            seconds=_SECONDS,
        )
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"the ledger answers {answer.status}: {answer.body[:300]!r}")


async def _main(port: int, senders: int, batches: int, size: int) -> None:
    work = [[_batch(size) for _ in range(batches)] for _ in range(senders)]
    begun = time.monotonic()
    await asyncio.gather(*(_send(port, mine) for mine in work))
    print(orjson.dumps({"seconds": time.monotonic() - begun}).decode())


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
