"""Connections that end at every awkward moment: nothing is left of them, and what reached the model is counted once.

TOKEN_METER_CONNECTIONS asks for more of them (`TOKEN_METER_CONNECTIONS=50000 pytest tests/sidecar/test_awkward.py`).
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from tests.sidecar.client import Client
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    chat_chunk,
    chunk,
    event,
    usage,
    usage_chunk,
)

CONNECTIONS = int(os.environ.get("TOKEN_METER_CONNECTIONS", "3000"))
AT_ONCE = 64
MIB = 1 << 20
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
ANSWER = [
    STREAM_HEAD,
    *(chunk(event(chat_chunk(f"word {number} ", usage=usage(5, number)))) for number in range(1, 9)),
    chunk(event(usage_chunk(usage(5, 8)))),
    chunk(DONE) + LAST_CHUNK,
]


def _request(number: int) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: model\r\nx-request-id: {number:08}\r\ncontent-length: {len(BODY)}\r\n\r\n"
    return head.encode() + BODY


def _moments() -> Iterator[tuple[int, int]]:
    """Over and over: how many bytes of the request are sent, how many of the answer are read."""
    request, answer = len(_request(0)), sum(map(len, ANSWER))
    return cycle(
        [*((sent, 0) for sent in range(request)), *((request, read) for read in range(0, answer, 3))]
    )


def _leave(client: Client, number: int) -> None:
    """By FIN, by FIN to one side only, or by RST."""
    (client.close, client.finish_sending, client.reset)[number % 3]()


def _counted(sidecar: Sidecar) -> list[dict[str, Any]]:
    return [line for line in sidecar.lines() if line.get("total_tokens") and line["request_id"] != "first"]


def _descriptors(sidecar: Sidecar) -> int:
    return len(list(Path(f"/proc/{sidecar.process.pid}/fd").iterdir()))


def test_connections_that_end_at_every_moment_leave_nothing_and_are_counted_once(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    sidecar = start_sidecar(base_path="/v1", server="vllm")

    def serve(peer: Peer, _: Received) -> None:
        peer.send(*ANSWER)

    upstream.answer(serve)
    with sidecar.client() as client:
        client.post(CHAT, BODY, "x-request-id: first")
        client.response()
    before = _descriptors(sidecar), sidecar.total("token_meter_tasks"), sidecar.resident_bytes()
    numbers, moments, left = count(1), islice(_moments(), CONNECTIONS), 0
    while batch := list(islice(moments, AT_ONCE)):
        clients = [(sidecar.client(), next(numbers), *moment) for moment in batch]
        for client, number, sent, _ in clients:
            client.send(_request(number)[:sent])
        for client, number, _, read in clients:
            if read:
                client.receive_some(read)
            _leave(client, number)
        for client, *_ in clients:
            client.close()
        left += len(batch)
    assert left == CONNECTIONS
    eventually(lambda: sidecar.total("token_meter_requests_in_flight") == 0, "nothing is in flight")
    eventually(lambda: sidecar.total("token_meter_client_connections") == 0, "nobody is connected")
    eventually(lambda: sidecar.total("token_meter_tasks") <= before[1], "no task is left")
    upstream.settle()
    # Idle connections to the model are kept, as many as there were streams at once.
    assert _descriptors(sidecar) <= before[0] + AT_ONCE
    assert sidecar.resident_bytes() - before[2] < 16 * MIB
    reached = Counter((request.header(b"x-request-id") or b"").decode() for request in upstream.received[1:])
    eventually(
        lambda: reached.keys() <= {line["request_id"] for line in _counted(sidecar)}, "all are counted"
    )
    counted = _counted(sidecar)
    known = Counter(line["request_id"] for line in counted)
    assert max(known.values()) == max(reached.values()) == 1
    # The model may not have read what was cut at once; it may have.
    assert {line["outcome"] for line in counted if line["request_id"] not in reached} <= {"client_disconnect"}
    assert {line["input_tokens"] for line in counted if line["counted_by"] != "estimate"} == {5}
    assert {line["output_tokens"] for line in counted if line["outcome"] == "completed"} == {8}
    with sidecar.client() as client:
        client.post(CHAT, BODY)
        assert client.response().status == 200
