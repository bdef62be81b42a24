"""Connections to the model: kept, bounded, and what a client sees when they break."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.sidecar.client import Broken, Client
from tests.sidecar.conftest import SidecarFactory, StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    COMPLETIONS,
    LAST_CHUNK,
    STREAM_HEAD,
    answer,
    chat_chunk,
    chunk,
    event,
    events,
    json_answer,
    stream,
    text_chunk,
    usage,
    usage_chunk,
)

BODY = {"model": "m", "messages": []}
STREAM = {**BODY, "stream": True}
REPLY = {"id": "x", "choices": [], "usage": usage(3, 4)}


# -- kept connections


def test_connections_to_the_model_are_used_again(sidecar: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    for _ in range(5):
        with sidecar.client() as client:
            client.post(CHAT, BODY)
            assert client.response().status == 200
            client.request("GET", "/health")
            assert client.response().status == 200
    assert len({request.connection for request in upstream.received}) == 1


def test_a_stream_s_connection_is_used_again(client: Client, upstream: Upstream) -> None:
    upstream.answer(stream(event(chat_chunk("a", finish="stop")), b"data: [DONE]\n\n"))
    for _ in range(3):
        client.post(CHAT, STREAM)
        assert client.response().status == 200
    assert len({request.connection for request in upstream.received}) == 1


def test_a_connection_that_the_server_says_it_closes_is_not_used_again(
    client: Client, upstream: Upstream
) -> None:
    def closing(peer: Peer, _: Received) -> None:
        peer.send(json_answer(REPLY, "connection: close"))
        peer.close()

    upstream.answer(closing)
    for _ in range(3):
        client.post(CHAT, BODY)
        response = client.response()
        assert (response.status, response.header(b"connection")) == (200, None)
    assert len({request.connection for request in upstream.received}) == 3


_TARGETS = [
    ("POST", CHAT),
    ("POST", COMPLETIONS),
    ("POST", "/other"),
    ("GET", "/health"),
    ("GET", "/v1/models"),
]


def _ask(client: Client, method: str, target: str) -> int:
    if method == "POST":
        client.post(target, BODY)
    else:
        client.request(method, target)
    return client.response(method).status


@pytest.mark.parametrize(("method", "target"), _TARGETS)
def test_a_server_that_closes_after_its_answer_is_no_error(
    client: Client, upstream: Upstream, method: str, target: str
) -> None:
    """uvicorn closes idle connections after 5 s; here it does at once, without saying so."""

    def close_idle(peer: Peer, _: Received) -> None:
        peer.send(json_answer(REPLY))
        peer.close()

    upstream.answer(close_idle)
    assert [_ask(client, method, target) for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("with_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(("method", "target"), _TARGETS)
def test_a_kept_connection_that_closes_under_a_request_is_no_error(
    client: Client, upstream: Upstream, method: str, target: str, with_reset: bool
) -> None:
    """The race itself: the request is on its way when the server closes the idle connection."""
    used: set[int] = set()

    def close_used(peer: Peer, _: Received) -> None:
        if peer.number in used:
            if with_reset:
                peer.reset()
            else:
                peer.close()
            return
        used.add(peer.number)
        peer.send(json_answer(REPLY))

    upstream.answer(close_used)
    assert [_ask(client, method, target) for _ in range(10)] == [200] * 10


def test_a_request_that_a_fresh_connection_lost_is_not_sent_twice(client: Client, upstream: Upstream) -> None:
    """The model may have begun to work on it."""

    def lose(peer: Peer, _: Received) -> None:
        peer.close()

    upstream.answer(lambda peer, _: peer.send(answer(b"ok", "connection: close")), lose)
    client.request("GET", "/health")
    assert client.response().status == 200
    client.post(CHAT, BODY)
    assert client.response().status == 502
    assert len(upstream.received) == 2


def test_an_aborted_answer_s_connection_is_not_used_again(sidecar: Sidecar, upstream: Upstream) -> None:
    closed = Gate()

    def endless(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a"))))
        if peer.wait_closed():
            closed.set()

    upstream.answer(endless, json_answer(REPLY))
    with sidecar.client() as client:
        client.post(CHAT, STREAM)
        client.head()
        client.body_until(b"\n\n")
    closed.pass_through()
    with sidecar.client() as client:
        client.post(CHAT, BODY)
        assert client.response().json == REPLY


# -- a bounded pool


def test_beyond_the_bound_requests_wait_for_their_turn(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    sidecar = start_sidecar(base_path="/v1", max_upstream_connections=2)
    gates = {b"/0": Gate(), b"/1": Gate(), b"/2": Gate(), b"/3": Gate()}

    def held(peer: Peer, request: Received) -> None:
        gates[request.target].pass_through()
        peer.send(answer(request.target))

    def seen() -> list[bytes]:
        return [request.target for request in upstream.received]

    upstream.answer(held)
    clients = [sidecar.client() for _ in range(4)]
    for number, client in enumerate(clients):
        client.request("GET", f"/{number}")
        sidecar.settle()
    eventually(lambda: len(seen()) == 2, "two are at the model")
    assert sorted(seen()) == [b"/0", b"/1"]
    clients[2].close()  # gives its turn up
    gates[b"/1"].set()
    assert clients[1].response().body == b"/1"
    eventually(lambda: len(seen()) == 3, "the next is at the model")
    assert seen()[2] == b"/3"
    gates[b"/3"].set()
    gates[b"/0"].set()
    assert clients[3].response().body == b"/3"
    assert clients[0].response().body == b"/0"
    for client in clients:
        client.close()


def test_a_waiting_request_gets_the_place_of_one_that_was_cut(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    sidecar = start_sidecar(base_path="/v1", max_upstream_connections=1)

    def endless(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a"))))
        peer.wait_closed()

    upstream.answer(endless, json_answer(REPLY))
    with sidecar.client() as first, sidecar.client() as second:
        first.post(CHAT, STREAM)
        first.head()
        second.post(CHAT, BODY)
        sidecar.settle()
        assert len(upstream.received) == 1
        first.reset()
        assert second.response().json == REPLY


# -- a server that is not there


def test_503_with_retry_after_while_the_model_does_not_listen(
    client: Client, upstream: Upstream, sidecar: Sidecar, request_id: str
) -> None:
    upstream.stop()
    client.post(CHAT, BODY, f"x-request-id: {request_id}")
    response = client.response()
    assert response.status == 503
    assert int(response.header(b"retry-after") or 0) > 0
    assert response.error["type"] == "service_unavailable"
    line = sidecar.record(request_id)
    assert (line["status"], line["total_tokens"]) == (503, 0)


def test_unmetered_paths_say_503_too(client: Client, upstream: Upstream) -> None:
    upstream.stop()
    for target in ("/health", "/v1/models"):
        client.request("GET", target)
        response = client.response()
        assert (response.status, bool(response.header(b"retry-after"))) == (503, True)
        assert response.error


def test_a_model_that_restarts_is_served_again(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(CHAT, BODY)
    assert client.response().status == 200
    upstream.stop()
    client.post(CHAT, BODY)
    assert client.response().status in (502, 503)
    upstream.start()
    client.post(CHAT, BODY)
    assert client.response().json == REPLY


def test_a_model_that_restarts_between_two_requests_is_no_error(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(CHAT, BODY)
    assert client.response().status == 200
    upstream.stop()
    upstream.start()
    client.post(CHAT, BODY)
    assert client.response().json == REPLY


# -- a server that breaks off


@pytest.mark.parametrize("target", [CHAT, "/other"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"])
@pytest.mark.parametrize("with_reset", [False, True], ids=["FIN", "RST"])
def test_502_when_the_model_dies_before_it_answers(
    client: Client,
    upstream: Upstream,
    target: str,
    sent: bytes,
    with_reset: bool,
) -> None:
    def die(peer: Peer, _: Received) -> None:
        if sent:
            peer.send(sent)
        if with_reset:
            peer.reset()
        else:
            peer.close()

    # Without a kept connection there is no race to forgive.
    upstream.answer(json_answer(REPLY, "connection: close"), die)
    client.post(CHAT, BODY)
    assert client.response().status == 200
    client.post(target, BODY)
    response = client.response()
    assert response.status == 502
    assert response.error["type"] == "upstream_error"


@pytest.mark.parametrize("with_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(("target", "make"), [(CHAT, chat_chunk), (COMPLETIONS, text_chunk)])
def test_a_stream_that_breaks_ends_with_an_error_event(
    client: Client, upstream: Upstream, target: str, make: Callable[..., dict[str, Any]], with_reset: bool
) -> None:
    gate = Gate()

    def die(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(make("a"))), chunk(event(make("b"))))
        gate.pass_through()
        if with_reset:
            peer.reset()
        else:
            peer.close()

    upstream.answer(die)
    client.post(target, STREAM)
    client.head()
    client.body_until(event(make("b")))
    gate.set()
    first, second, last = events(client.rest())
    assert [first, second] == [make("a"), make("b")]
    assert last["error"]["type"] == "upstream_error"
    assert last["error"]["message"]
    assert client.closed()


@pytest.mark.parametrize(
    "half",
    [b'data: {"choices":[{"ind', event(chat_chunk("b"))[:-1], event(chat_chunk("b"))[:-2], b": pi", b"da"],
)
def test_a_half_event_does_not_swallow_the_error_event(
    client: Client, upstream: Upstream, half: bytes
) -> None:
    def die(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a"))), chunk(half))
        peer.close()

    upstream.answer(die)
    client.post(CHAT, STREAM)
    client.head()
    last = client.rest().rstrip(b"\n").rpartition(b"\n\n")[2]
    assert last.startswith(b'data: {"error":')
    assert len(last.split(b"\n")) == 1


def test_a_stream_that_breaks_after_its_usage_is_counted_in_full(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    def die(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a", finish="stop"))))
        peer.send(chunk(event(usage_chunk(usage(5, 6)))))
        peer.close()

    upstream.answer(die)
    client.post(CHAT, STREAM, f"x-request-id: {request_id}")
    assert client.response().status == 200
    line = sidecar.record(request_id)
    assert (line["input_tokens"], line["output_tokens"], line["outcome"]) == (5, 6, "upstream_error")


@pytest.mark.parametrize("target", [CHAT, "/other"])
@pytest.mark.parametrize("framing", ["content-length: 100", "transfer-encoding: chunked"])
@pytest.mark.parametrize("with_reset", [False, True], ids=["FIN", "RST"])
def test_a_json_body_that_breaks_is_no_clean_end(
    client: Client, upstream: Upstream, target: str, framing: str, with_reset: bool
) -> None:
    gate = Gate()
    part = b'{"choices":[],'

    def die(peer: Peer, _: Received) -> None:
        peer.send(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode())
        peer.send(chunk(part) if "chunked" in framing else part)
        gate.pass_through()
        if with_reset:
            peer.reset()
        else:
            peer.close()

    upstream.answer(die)
    client.post(target, BODY)
    assert client.head().status == 200
    client.body_until(part)
    gate.set()
    with pytest.raises(Broken):
        client.rest()


def test_an_http_1_0_client_can_tell_a_broken_answer_from_a_whole_one(
    client: Client, upstream: Upstream
) -> None:
    gate = Gate()

    def die(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk(b"part"))
        gate.pass_through()
        peer.close()

    upstream.answer(die)
    client.send(b"GET /file HTTP/1.0\r\nhost: m\r\n\r\n")
    client.head()
    client.body_until(b"part")
    gate.set()
    with pytest.raises(Broken):  # by RST: there is no other sign
        client.rest()


def test_a_stream_that_is_not_metered_breaks_as_it_broke(client: Client, upstream: Upstream) -> None:
    def die(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: 1\n\n"))
        peer.close()

    upstream.answer(die)
    client.request("GET", "/events")
    with pytest.raises(Broken):
        client.response()


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(False, id="reads on"),
        pytest.param(True, id="ends its side"),
    ],
)
def test_an_answer_that_comes_before_the_whole_body_was_sent_reaches_the_client(
    sidecar: Sidecar, client: Client, upstream: Upstream, ends: bool
) -> None:
    upstream.reads_body = False
    answered = Gate()

    def refuse(peer: Peer, _: Received) -> None:
        peer.send(answer(b"too much", "connection: close", status="413 Content Too Large"))
        if ends:
            peer.finish_sending()
        answered.set()
        peer.wait_closed()

    upstream.answer(refuse)
    client.request("PUT", "/upload", "content-length: 1000000")
    client.send(b"a" * 300_000)
    answered.pass_through()
    sidecar.settle()
    client.send(b"a" * 700_000)
    response = client.response()
    assert (response.status, response.body) == (413, b"too much")


# -- a server that is silent


@pytest.fixture(scope="module")
def _impatient(sidecars: SidecarFactory) -> Sidecar:
    return sidecars(base_path="/v1", upstream_timeout=0.3, stream_idle_timeout=0.3)


@pytest.fixture
def impatient(_impatient: Sidecar, upstream: Upstream) -> Sidecar:
    return _impatient


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_504_when_the_model_does_not_answer_in_time(
    impatient: Sidecar, upstream: Upstream, request_id: str, target: str
) -> None:
    closed = Gate()

    def silent(peer: Peer, _: Received) -> None:
        if peer.wait_closed():
            closed.set()

    upstream.answer(silent)
    with impatient.client() as client:
        client.post(target, BODY, f"x-request-id: {request_id}")
        response = client.response()
        assert (response.status, response.error["type"]) == (504, "upstream_timeout")
    closed.pass_through()
    if target == CHAT:
        assert impatient.record(request_id)["outcome"] == "upstream_timeout"


def test_a_stream_that_falls_silent_ends_with_an_error_event(
    impatient: Sidecar, upstream: Upstream, request_id: str
) -> None:
    closed = Gate()

    def silent(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a"))))
        if peer.wait_closed():
            closed.set()

    upstream.answer(silent)
    with impatient.client() as client:
        client.post(CHAT, STREAM, f"x-request-id: {request_id}")
        client.head()
        first, last = events(client.rest())
    assert first == chat_chunk("a")
    assert last["error"]["type"] == "upstream_timeout"
    closed.pass_through()
    assert impatient.record(request_id)["outcome"] == "upstream_timeout"


def test_a_client_that_is_slow_to_send_is_not_the_model_s_fault(
    impatient: Sidecar, upstream: Upstream
) -> None:
    """The time for an answer begins when the model has the whole request."""
    upstream.answer(json_answer(REPLY))
    with impatient.client() as slow, impatient.client() as other:
        slow.request("POST", CHAT, "content-length: 2")
        upstream.answer(lambda peer, _: peer.wait_closed())
        other.post(CHAT, BODY)
        assert other.response().status == 504  # the timeout has passed for the slow one too
        upstream.answer(json_answer(REPLY))
        slow.send(b"{}")
        assert slow.response().status == 200


def test_keep_alive_comments_keep_a_stream_alive(impatient: Sidecar, upstream: Upstream) -> None:
    """vLLM's --sse-keep-alive-interval is for this."""

    def pings(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        for _number in range(6):
            peer.send(chunk(b": keep-alive\n\n"))
            Gate().wait(0.1)  # the server's own pace: what the test is about
        peer.send(chunk(b"data: [DONE]\n\n"), LAST_CHUNK)

    upstream.answer(pings)
    with impatient.client() as client:
        client.post(CHAT, STREAM)
        assert client.response().body == b": keep-alive\n\n" * 6 + b"data: [DONE]\n\n"
