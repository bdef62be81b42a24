"""Clients that go, and clients that are slow."""

import threading
from collections.abc import Callable

import pytest

from tests.sidecar.client import Client
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    answer,
    chat_chunk,
    chunk,
    event,
    json_answer,
    stream,
    usage,
    usage_chunk,
)

STREAM = {"model": "m", "stream": True}
MIB = 1024 * 1024

Leave = Callable[[Client], None]
LEAVING = pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["FIN", "RST"])


class Watched:
    """A script that sends something and waits until its connection is closed by the other side."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.arrived = Gate()
        self.closed = Gate()

    def __call__(self, peer: Peer, _: Received) -> None:
        peer.send(*self._pieces)
        self.arrived.set()
        if peer.wait_closed():
            self.closed.set()


# -- clients that go


@LEAVING
def test_a_client_that_goes_mid_stream_ends_the_model_s_work_and_is_counted_so_far(
    vllm: Sidecar, upstream: Upstream, request_id: str, leave: Leave
) -> None:
    chunks = [chunk(event(chat_chunk("a", usage=usage(5, number)))) for number in range(4)]
    script = Watched(STREAM_HEAD, *chunks)
    upstream.answer(script)
    client = vllm.client()
    client.post(CHAT, STREAM, f"x-request-id: {request_id}")
    client.head()
    client.body_until(event(chat_chunk("a")) * 4)
    leave(client)
    script.closed.pass_through()
    line = vllm.record(request_id)
    assert (line["input_tokens"], line["output_tokens"]) == (5, 3)
    assert (line["outcome"], line["exact"], line["status"]) == ("client_disconnect", False, 200)
    assert line["counted_by"] != "server"
    assert vllm.tokens(outcome="client_disconnect") >= (5, 3)


def test_an_aborted_stream_of_several_choices_counts_each(
    vllm: Sidecar, upstream: Upstream, request_id: str
) -> None:
    chunks = [
        chat_chunk("", index=0, usage=usage(5, 0)),
        chat_chunk("", index=1, usage=usage(5, 0)),
        chat_chunk("a", index=0, usage=usage(5, 4)),
        chat_chunk("b", index=1, usage=usage(5, 3)),
        chat_chunk("c", index=0, usage=usage(5, 7)),
        chat_chunk("seen", index=0),
    ]
    script = Watched(STREAM_HEAD, *(chunk(event(part)) for part in chunks))
    upstream.answer(script)
    with vllm.client() as client:
        client.post(CHAT, {**STREAM, "n": 2}, f"x-request-id: {request_id}")
        client.head()
        client.body_until(b"seen")
    script.closed.pass_through()
    line = vllm.record(request_id)
    assert (line["input_tokens"], line["output_tokens"]) == (5, 10)


@LEAVING
@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_client_that_goes_before_the_answer_ends_the_model_s_work(
    sidecar: Sidecar, upstream: Upstream, request_id: str, leave: Leave, target: str
) -> None:
    script = Watched()
    upstream.answer(script)
    client = sidecar.client()
    client.post(target, {"model": "m"}, f"x-request-id: {request_id}")
    script.arrived.pass_through()
    leave(client)
    script.closed.pass_through()
    if target == CHAT:
        line = sidecar.record(request_id)
        assert (line["outcome"], line["counted_by"], line["exact"]) == (
            "client_disconnect",
            "estimate",
            False,
        )


@LEAVING
@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_client_that_goes_in_the_middle_of_json_ends_the_model_s_work(
    sidecar: Sidecar, upstream: Upstream, leave: Leave, target: str
) -> None:
    script = Watched(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    upstream.answer(script)
    client = sidecar.client()
    client.post(target, {"model": "m"})
    client.head()
    client.body_until(b"{")
    leave(client)
    script.closed.pass_through()


@LEAVING
def test_a_client_that_goes_while_it_sends_never_reaches_the_model(
    sidecar: Sidecar, upstream: Upstream, request_id: str, leave: Leave
) -> None:
    client = sidecar.client()
    client.request("POST", CHAT, f"x-request-id: {request_id}", "content-length: 100")
    client.send(b'{"model":')
    sidecar.settle()
    leave(client)
    assert sidecar.record(request_id)["outcome"] == "client_disconnect"
    assert upstream.heads == []


def test_a_client_that_goes_while_an_unmetered_upload_streams_ends_it(
    sidecar: Sidecar, upstream: Upstream
) -> None:
    upstream.reads_body = False
    script = Watched()
    upstream.answer(script)
    with sidecar.client() as client:
        client.request("PUT", "/upload", "content-length: 1000000")
        client.send(b"a" * 500_000)
        script.arrived.pass_through()
    script.closed.pass_through()


def test_a_client_that_goes_after_the_end_completed_its_request(
    sidecar: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(event(chat_chunk("a")), event(usage_chunk(usage(5, 6))), DONE))
    with sidecar.client() as client:
        client.post(CHAT, STREAM, f"x-request-id: {request_id}")
        assert client.response().status == 200
    assert sidecar.record(request_id)["outcome"] == "completed"


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "not asked"])
def test_a_client_that_goes_at_done_completed_its_request(
    sidecar: Sidecar, upstream: Upstream, request_id: str, asks: bool
) -> None:
    """OpenAI's client reads no further than [DONE]; the body's own end may come after it has closed."""
    sent = [event(chat_chunk("a", finish="stop")), event(usage_chunk(usage(5, 6))), DONE]
    script = Watched(STREAM_HEAD, *map(chunk, sent))
    upstream.answer(script)
    with sidecar.client() as client:
        body = {**STREAM, "stream_options": {"include_usage": True}} if asks else STREAM
        client.post(CHAT, body, f"x-request-id: {request_id}")
        client.head()
        client.body_until(DONE)
    line = sidecar.record(request_id)
    assert (line["input_tokens"], line["output_tokens"], line["counted_by"]) == (5, 6, "server")
    assert (line["outcome"], line["exact"]) == ("completed", True)


def test_nothing_is_left_in_flight_by_clients_that_went(sidecar: Sidecar, upstream: Upstream) -> None:
    upstream.answer(lambda peer, _: peer.wait_closed())
    for number in range(50):
        client = sidecar.client()
        client.post(CHAT, {"model": "m"})
        if number % 2:
            sidecar.settle()
        client.reset()
    eventually(lambda: sidecar.total("token_meter_requests_in_flight") == 0, "nothing is in flight")
    eventually(lambda: sidecar.total("token_meter_client_connections") == 0, "nobody is connected")
    upstream.settle()


# -- clients that are slow


def _growth(sidecar: Sidecar, before: int) -> int:
    return sidecar.resident_bytes() - before


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_reader_that_stops_stops_the_model_s_writes(
    sidecar: Sidecar, upstream: Upstream, target: str
) -> None:
    blocked = Gate()
    piece = chunk(event(chat_chunk("x" * 1000)) * 16)

    def flood(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        if peer.send_until_blocked(piece, 256 * MIB):
            blocked.set()

    upstream.answer(flood)
    before = sidecar.resident_bytes()
    with sidecar.client(receive_buffer=4096) as client:
        client.post(target, STREAM)
        blocked.pass_through()
        assert _growth(sidecar, before) < 16 * MIB


def test_a_reader_that_goes_on_gets_everything(sidecar: Sidecar, upstream: Upstream) -> None:
    blocked = Gate()
    part = event(chat_chunk("x" * 1000))

    def flood(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        assert peer.send_until_blocked(chunk(part), 256 * MIB)
        blocked.set()
        flood_end.pass_through()
        # The piece that could not be sent may stand half on the wire; this test ends it by its connection.
        peer.close()

    flood_end = Gate()
    upstream.answer(flood)
    with sidecar.client(receive_buffer=4096) as client:
        client.post(CHAT, STREAM)
        client.head()
        blocked.pass_through()
        flood_end.set()
        body = client.rest()
    whole, _, error = body.rpartition(b'data: {"error"')
    assert error
    assert whole.count(part) > 100
    assert whole.rstrip(b"\n") == (part * whole.count(part)).rstrip(b"\n")


def test_a_large_json_answer_waits_for_its_reader(sidecar: Sidecar, upstream: Upstream) -> None:
    blocked = Gate()

    def flood(peer: Peer, _: Received) -> None:
        peer.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (300 * MIB)
        )
        peer.send(b'{"x":"')
        if peer.send_until_blocked(b"x" * 65536, 256 * MIB):
            blocked.set()

    upstream.answer(flood)
    before = sidecar.resident_bytes()
    with sidecar.client(receive_buffer=4096) as client:
        client.post(CHAT, {"model": "m"})
        blocked.pass_through()
        assert _growth(sidecar, before) < 16 * MIB


def test_a_model_that_does_not_read_stops_an_upload(sidecar: Sidecar, upstream: Upstream) -> None:
    upstream.reads_body = False
    done = Gate()

    def held(peer: Peer, _: Received) -> None:
        done.pass_through()
        peer.close()
        raise ConnectionAbortedError  # what is left of the body is no request to read on

    upstream.answer(held)
    before = sidecar.resident_bytes()
    with sidecar.client() as client:
        client.request("PUT", "/upload", f"content-length: {512 * MIB}")
        assert client.send_until_blocked(b"x" * 65536, 256 * MIB)
        assert _growth(sidecar, before) < 16 * MIB
    done.set()


@pytest.mark.parametrize(
    "side",
    [
        "client",
        "model",
    ],
)
def test_a_tunnel_s_reader_that_stops_stops_the_other_side(
    sidecar: Sidecar, upstream: Upstream, side: str
) -> None:
    done, blocked = Gate(), Gate()

    def websocket(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
        if side == "model" and peer.send_until_blocked(b"x" * 65536, 128 * MIB):
            blocked.set()
        done.pass_through()
        peer.close()

    upstream.answer(websocket)
    before = sidecar.resident_bytes()
    with sidecar.client(receive_buffer=4096) as client:
        client.request("GET", "/v1/realtime", "connection: Upgrade", "upgrade: websocket")
        assert client.head(upgrade=True).status == 101
        if side == "client":
            stopped = client.send_until_blocked(b"x" * 65536, 128 * MIB)
        else:
            blocked.pass_through()
            stopped = True
        growth = _growth(sidecar, before)
        done.set()
    assert (stopped, growth < 16 * MIB) == (True, True)


def test_pipelined_requests_wait_outside(sidecar: Sidecar, upstream: Upstream) -> None:
    done = Gate()

    def held(peer: Peer, _: Received) -> None:
        done.pass_through()
        peer.send(answer(b"ok"))

    upstream.answer(held)
    before = sidecar.resident_bytes()
    with sidecar.client() as client:
        request = b"GET /health HTTP/1.1\r\nhost: m\r\nx-a: %b\r\n\r\n" % (b"a" * 1000)
        assert client.send_until_blocked(request * 60, 64 * MIB)
        assert _growth(sidecar, before) < 16 * MIB
    done.set()
    eventually(
        lambda: sidecar.total("token_meter_client_connections") == 0, "it has seen that the client went"
    )


def test_200_fast_streams_pass_a_slow_one(sidecar: Sidecar, upstream: Upstream) -> None:
    """A reader of 4 KiB a second of a long stream, and 200 streams beside it that are read at once."""
    fast = [chunk(event(chat_chunk(f"word {number} "))) for number in range(100)]
    long = chunk(event(chat_chunk("x" * 1000)))
    over = Gate()

    def serve(peer: Peer, request: Received) -> None:
        peer.send(STREAM_HEAD)
        if request.header(b"x-reader") == b"slow":
            while not over.is_set() and not peer.send_until_blocked(long, MIB):
                pass
            over.pass_through()
        else:
            peer.send(*fast, chunk(event(usage_chunk(usage(5, 100)))), chunk(DONE), LAST_CHUNK)

    def read_slowly() -> None:
        while not over.wait(1.0):
            slow.receive_some(4096)

    upstream.answer(serve)
    before, memory = sidecar.tokens(outcome="completed"), sidecar.resident_bytes()
    with sidecar.client(receive_buffer=4096) as slow:
        slow.post(CHAT, STREAM, "x-reader: slow")
        reader = threading.Thread(target=read_slowly)
        reader.start()
        try:
            clients = [sidecar.client() for _ in range(200)]
            for client in clients:
                client.post(CHAT, STREAM)
            bodies = [client.response().body for client in clients]
            for client in clients:
                client.close()
            still_open = sidecar.total("token_meter_requests_in_flight")
            growth = _growth(sidecar, memory)
        finally:
            over.set()
            reader.join()
    assert set(bodies) == {b"".join(event(chat_chunk(f"word {number} ")) for number in range(100)) + DONE}
    assert still_open == 1  # the slow one
    after = sidecar.tokens(outcome="completed")
    assert (after[0] - before[0], after[1] - before[1]) == (200 * 5, 200 * 100)
    assert growth < 32 * MIB


def test_40_readers_that_stopped_do_not_grow_memory_without_bound(
    sidecar: Sidecar, upstream: Upstream
) -> None:
    """Half a MiB for each is the bound stated here; the kernel's buffers are not the sidecar's."""
    part = chunk(event(chat_chunk("x" * 1000)) * 256)
    over = Gate()
    full = threading.Semaphore(0)

    def flood(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        peer.send_until_blocked(part, 8 * MIB)
        full.release()
        over.pass_through()

    upstream.answer(flood)
    memory = sidecar.resident_bytes()
    clients = [sidecar.client(receive_buffer=4096) for _ in range(40)]
    for client in clients:
        client.post(CHAT, STREAM)
    for _ in clients:
        assert full.acquire(timeout=10)
    growth = _growth(sidecar, memory)
    over.set()
    for client in clients:
        client.reset()
    assert growth < 40 * 512 * 1024
    upstream.answer(json_answer({"usage": usage(1, 1)}))
    with sidecar.client() as client:
        client.post(CHAT, {"model": "m"})
        assert client.response().status == 200
