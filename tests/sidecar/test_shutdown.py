"""SIGTERM: not ready, no new connections, what has begun may finish, then out."""

import signal
from contextlib import ExitStack

import pytest

from tests.sidecar.client import Broken
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import eventually
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
    events,
    json_answer,
    usage,
    usage_chunk,
)

STREAM = {"model": "m", "stream": True}


class HeldStream:
    """Sends a first chunk, and the rest when its gate is open."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a", usage=usage(5, 1)))))
        self.gate.pass_through()
        peer.send(*map(chunk, [event(chat_chunk(finish="stop")), event(usage_chunk(usage(5, 6))), DONE]))
        peer.send(LAST_CHUNK)


def test_an_open_stream_finishes_and_nothing_new_begins(
    start_sidecar: StartSidecar, upstream: Upstream, request_id: str
) -> None:
    sidecar = start_sidecar(base_path="/v1")
    script = HeldStream()
    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, STREAM, f"x-request-id: {request_id}")
        client.head()
        client.body_until(b"\n\n")
        sidecar.terminate()
        eventually(lambda: sidecar.admin("/readyz")[0] == 503, "it is not ready")
        assert sidecar.admin("/healthz")[0] == 200
        eventually(lambda: not sidecar.listens(), "it takes no connections")
        script.gate.set()
        assert events(client.rest())[-1] == "[DONE]"
        assert client.closed()
    assert sidecar.wait() == 0
    line = sidecar.record(request_id)
    assert (line["outcome"], line["total_tokens"]) == ("completed", 11)


def test_200_open_streams_all_finish_and_are_counted(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1")
    script = HeldStream()
    upstream.answer(script)
    with ExitStack() as stack:
        clients = [stack.enter_context(sidecar.client()) for _ in range(200)]
        for client in clients:
            client.post(CHAT, STREAM)
        for client in clients:
            client.head()
            client.body_until(b"\n\n")
        sidecar.terminate()
        eventually(lambda: not sidecar.listens(), "it takes no connections")
        script.gate.set()
        assert {events(client.rest())[-1] for client in clients} == {"[DONE]"}
    assert sidecar.wait() == 0
    ends = [(line["outcome"], line["total_tokens"]) for line in sidecar.lines() if "outcome" in line]
    assert ends == [("completed", 11)] * 200


def test_a_request_that_waits_for_its_answer_gets_it(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1")
    arrived, gate = Gate(), Gate()

    def held(peer: Peer, _: Received) -> None:
        arrived.set()
        gate.pass_through()
        peer.send(json_answer({"usage": usage(3, 4)}))

    upstream.answer(held)
    with sidecar.client() as client:
        client.post(CHAT, {"model": "m"})
        arrived.pass_through()
        sidecar.terminate()
        eventually(lambda: not sidecar.listens(), "it takes no connections")
        gate.set()
        response = client.response()
        assert (response.status, response.header(b"connection")) == (200, b"close")
        assert client.closed()
    assert sidecar.wait() == 0


def test_idle_connections_do_not_hold_it_up(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1", drain_seconds=60)
    upstream.answer(answer(b"ok"))
    with sidecar.client() as used, sidecar.client() as unused:
        used.request("GET", "/health")
        assert used.response().body == b"ok"
        sidecar.settle()
        sidecar.terminate()
        assert used.closed()
        assert unused.closed()
    assert sidecar.wait() == 0


def test_a_half_sent_request_does_not_hold_it_up(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1", drain_seconds=60)
    with sidecar.client() as client:
        client.send(b"POST /v1/chat")
        sidecar.settle()
        sidecar.terminate()
        assert client.closed()
    assert sidecar.wait() == 0


def test_when_the_grace_is_over_it_ends_and_the_client_can_tell(
    start_sidecar: StartSidecar, upstream: Upstream, request_id: str
) -> None:
    sidecar = start_sidecar(base_path="/v1", server="vllm", drain_seconds=0.2)
    script = HeldStream()
    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, STREAM, f"x-request-id: {request_id}")
        client.head()
        client.body_until(b"\n\n")
        sidecar.terminate()
        with pytest.raises(Broken):
            client.rest()
    assert sidecar.wait() == 0
    script.gate.set()
    assert sidecar.record(request_id)["total_tokens"] == 6  # what was used so far is not lost


def test_without_a_grace_it_ends_at_once(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1", drain_seconds=0)
    script = HeldStream()
    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, STREAM)
        client.head()
        sidecar.terminate()
        assert sidecar.wait() == 0
    script.gate.set()


def test_it_ends_while_it_waits_for_its_model(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    upstream.ready = False
    sidecar = start_sidecar(wait=False, wait_for_model="true")
    eventually(lambda: sidecar.admin("/healthz")[0] == 200, "the sidecar lives")
    sidecar.terminate()
    assert sidecar.wait() == 0


def test_a_second_signal_does_not_break_the_drain(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1")
    script = HeldStream()
    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, STREAM)
        client.head()
        client.body_until(b"\n\n")
        sidecar.terminate()
        eventually(lambda: not sidecar.listens(), "it takes no connections")
        sidecar.process.send_signal(signal.SIGTERM)
        script.gate.set()
        assert events(client.rest())[-1] == "[DONE]"
    assert sidecar.wait() == 0


def test_it_leaves_nothing_on_standard_error(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1")
    upstream.answer(answer(b"ok"))
    with sidecar.client() as client:
        client.request("GET", "/health")
        assert client.response().body == b"ok"
        sidecar.terminate()
        assert sidecar.wait() == 0
    assert sidecar.errors() == ""
