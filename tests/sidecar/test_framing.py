"""HTTP/1.1 on both sides: what is kept, what ends at this hop, and what is refused."""

import json

import pytest

from tests.sidecar.client import Broken, Client
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import CHAT, LAST_CHUNK, STREAM_HEAD, answer, chunk, json_answer

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
REPLY = b'{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'


# -- both sides speak HTTP/1.1 in full


def test_a_client_connection_carries_one_request_after_another(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer({"n": 1}), json_answer({"n": 2}), json_answer({"n": 3}))
    found = []
    for _ in range(3):
        client.post(CHAT, BODY)
        found.append(client.response().json["n"])
    assert found == [1, 2, 3]


def test_pipelined_requests_are_answered_in_their_order(client: Client, upstream: Upstream) -> None:
    def echo(peer: Peer, request: Received) -> None:
        peer.send(answer(request.target))

    upstream.answer(echo)
    client.send(b"".join(b"GET /one/%d HTTP/1.1\r\nhost: m\r\n\r\n" % number for number in range(5)))
    assert [client.response().body for _ in range(5)] == [b"/one/%d" % number for number in range(5)]


def test_a_pipelined_request_after_a_metered_one_gets_its_own_answer(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(json_answer(REPLY), answer(b"healthy"))
    raw = json.dumps(BODY).encode()
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw)
        + b"GET /health HTTP/1.1\r\nhost: m\r\n\r\n"
    )
    assert client.response().body == REPLY
    assert client.response().body == b"healthy"


def test_a_head_that_comes_byte_by_byte_is_read(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    head = b"GET /health HTTP/1.1\r\nhost: model\r\nx-a: b\r\n\r\n"
    client.send(*(head[at : at + 1] for at in range(len(head))))
    assert client.response().body == b"ok"
    assert upstream.only.header(b"x-a") == b"b"


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_chunked_request_body_arrives_whole(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(json_answer(REPLY))
    raw = json.dumps(BODY).encode()
    client.request("POST", target, "transfer-encoding: chunked")
    client.send(chunk(raw[:1]), chunk(raw[1:20]), chunk(raw[20:]), LAST_CHUNK)
    assert client.response().body == REPLY
    assert upstream.only.body == raw


def test_chunk_extensions_and_trailers_do_not_reach_the_model(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    raw = json.dumps(BODY).encode()
    client.request("POST", CHAT, "transfer-encoding: chunked", "trailer: x-late")
    client.send(b"%x;ext=1\r\n%b\r\n0\r\nx-late: 1\r\n\r\n" % (len(raw), raw))
    assert client.response().status == 200
    assert upstream.only.body == raw
    assert upstream.only.header(b"x-late") is None


@pytest.mark.parametrize("target", [CHAT, "/other"])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_answer_arrives_whole_however_it_is_cut(
    client: Client, upstream: Upstream, target: str, size: int
) -> None:
    body = json.dumps({"text": "é" * 5000, "usage": {"prompt_tokens": 1, "total_tokens": 1}}).encode()
    framed = b"".join(chunk(body[at : at + 997]) for at in range(0, len(body), 997))
    whole = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        + framed
        + LAST_CHUNK
    )

    def cut(peer: Peer, _: Received) -> None:
        peer.send(*(whole[at : at + size] for at in range(0, len(whole), size)))

    upstream.answer(cut)
    client.post(target, BODY)
    assert client.response().body == body
    client.post(target, BODY)
    assert client.response().body == body


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_an_answer_that_ends_with_its_connection_arrives_whole(
    client: Client, upstream: Upstream, target: str
) -> None:
    def until_close(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", REPLY[:10], REPLY[10:])
        peer.close()

    upstream.answer(until_close)
    for _ in range(2):
        client.post(target, BODY)
        assert client.response().body == REPLY


def test_an_http_1_0_server_is_understood(client: Client, upstream: Upstream) -> None:
    def old(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + REPLY)
        peer.close()

    upstream.answer(old)
    client.post(CHAT, BODY)
    assert client.response().body == REPLY


@pytest.mark.parametrize("target", [CHAT, "/upload"])
def test_expect_100_continue_is_answered_before_the_body_is_sent(
    client: Client, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(REPLY))
    raw = json.dumps(BODY).encode()
    client.request("POST", target, "expect: 100-continue", f"content-length: {len(raw)}")
    assert client.receive_raw(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(raw)
    assert client.response().body == REPLY
    assert upstream.only.body == raw


def test_a_client_that_expects_100_gets_a_refusal_without_sending_its_body(
    guarded: Sidecar, upstream: Upstream
) -> None:
    with guarded.client() as client:
        client.request("POST", CHAT, "expect: 100-continue", "content-length: 1000000")
        response = client.response()
        assert (response.status, response.interim) == (401, [])
        assert client.closed()
    assert upstream.received == []


def test_head_gets_the_headers_and_no_body(client: Client, upstream: Upstream) -> None:
    upstream.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\n", answer(b"after"))
    client.request("HEAD", "/health")
    response = client.response("HEAD")
    assert (response.status, response.header(b"content-length"), response.body) == (200, b"5", b"")
    assert upstream.only.method == b"HEAD"
    client.request("GET", "/health")
    assert client.response().body == b"after"


def test_head_of_a_chunked_answer_leaves_the_connection_in_step(client: Client, upstream: Upstream) -> None:
    upstream.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", answer(b"after"))
    client.request("HEAD", "/health")
    assert client.response("HEAD").body == b""
    client.request("GET", "/health")
    assert client.response().body == b"after"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body_leave_the_connection_in_step(
    client: Client, upstream: Upstream, status: str
) -> None:
    upstream.answer(f"HTTP/1.1 {status}\r\nx-a: b\r\n\r\n".encode(), answer(b"after"))
    client.request("GET", "/thing")
    response = client.response()
    assert (response.status, response.body) == (int(status[:3]), b"")
    assert response.header(b"transfer-encoding") is None
    client.request("GET", "/thing")
    assert client.response().body == b"after"


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_early_hints_are_passed_on(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + json_answer(REPLY))
    client.post(target, BODY)
    response = client.response()
    assert [(hint.status, hint.header(b"link")) for hint in response.interim] == [(103, b"</a>")]
    assert response.body == REPLY


def test_a_100_of_the_server_s_own_does_not_reach_a_client_that_did_not_ask(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(b"HTTP/1.1 100 Continue\r\n\r\n" + json_answer(REPLY))
    client.post(CHAT, BODY)
    response = client.response()
    assert (response.interim, response.body) == ([], REPLY)


def test_interim_answers_are_kept_from_an_http_1_0_client(client: Client, upstream: Upstream) -> None:
    upstream.answer(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + answer(b"ok"))
    client.send(b"GET /health HTTP/1.0\r\nhost: m\r\n\r\n")
    assert client.response().interim == []


def test_an_http_1_0_client_need_not_name_a_host(client: Client, upstream: Upstream) -> None:
    """The model server is spoken to in HTTP/1.1, where a Host is mandatory."""
    upstream.answer(answer(b"ok"))
    client.send(b"GET /health HTTP/1.0\r\n\r\n")
    status = client.response().status
    refused, upstream.failures = upstream.failures, []
    assert (status, refused) == (200, [])
    assert upstream.only.header(b"host")


def test_an_http_1_0_client_gets_an_unchunked_stream_that_ends_with_the_connection(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + LAST_CHUNK)
    client.send(b"GET /events HTTP/1.0\r\nhost: m\r\n\r\n")
    response = client.response()
    assert response.header(b"transfer-encoding") is None
    assert response.body == b"data: 1\n\ndata: 2\n\n"
    assert client.closed()


def test_an_http_1_0_client_that_asks_is_kept(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    for _ in range(2):
        client.send(b"GET /health HTTP/1.0\r\nhost: m\r\nconnection: keep-alive\r\n\r\n")
        response = client.response()
        assert (response.body, response.header(b"connection")) == (b"ok", b"keep-alive")


def test_a_client_that_says_close_is_closed_after_its_answer(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    client.request("GET", "/health", "connection: close")
    response = client.response()
    assert (response.body, response.header(b"connection")) == (b"ok", b"close")
    assert client.closed()


def test_a_chunk_leaves_as_soon_as_it_arrived(client: Client, upstream: Upstream) -> None:
    gate = Gate()

    def slowly(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: one\n\n"))
        gate.pass_through()
        peer.send(chunk(b"data: two\n\n"), LAST_CHUNK)

    upstream.answer(slowly)
    client.request("GET", "/events")
    client.head()
    assert client.body_until(b"\n\n") == b"data: one\n\n"  # the second is not sent before this was read
    gate.set()
    assert client.rest() == b"data: one\n\ndata: two\n\n"


def test_the_headers_leave_before_the_first_chunk_comes(client: Client, upstream: Upstream) -> None:
    gate = Gate()

    def slowly(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        gate.pass_through()
        peer.send(chunk(b"data: [DONE]\n\n"), LAST_CHUNK)

    upstream.answer(slowly)
    client.post(CHAT, {**BODY, "stream": True})
    assert client.head().status == 200
    gate.set()
    assert client.rest() == b"data: [DONE]\n\n"


def test_a_large_request_streams_through_where_it_is_not_metered(client: Client, upstream: Upstream) -> None:
    first_half = Gate()
    upstream.reads_body = False

    def collect(peer: Peer, request: Received) -> None:
        for piece in peer.body_pieces():
            request.body += piece
            if len(request.body) >= 100_000:
                first_half.set()
        peer.send(answer(b"%d" % len(request.body)))

    upstream.answer(collect)
    client.request("PUT", "/upload", "content-length: 2000000")
    client.send(b"a" * 1_000_000)
    first_half.pass_through()  # the model has it before the client has sent the rest
    client.send(b"b" * 1_000_000)
    assert client.response().body == b"2000000"
    assert upstream.only.body == b"a" * 1_000_000 + b"b" * 1_000_000


def test_a_request_without_a_body_gains_none(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    for method in ("GET", "DELETE", "OPTIONS"):
        client.request(method, "/thing")
        assert client.response().body == b"ok"
    client.request("POST", "/thing", body=b"")
    assert client.response().body == b"ok"
    framing = [
        (request.header(b"content-length"), request.header(b"transfer-encoding"))
        for request in upstream.received
    ]
    assert framing == [(None, None)] * 3 + [(b"0", None)]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (b"http://model/health?a=b", b"/health?a=b"),
        (b"http://model:8080", b"/"),
        (b"HTTPS://model/a//b", b"/a//b"),
    ],
)
def test_an_absolute_target_loses_its_host(
    client: Client, upstream: Upstream, given: bytes, seen: bytes
) -> None:
    upstream.answer(answer(b"ok"))
    client.send(b"GET %b HTTP/1.1\r\nhost: model\r\n\r\n" % given)
    assert client.response().body == b"ok"
    assert upstream.only.target == seen


def test_the_server_as_a_whole_can_be_asked_for_its_options(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    client.request("OPTIONS", "*")
    assert client.response().body == b"ok"
    assert upstream.only.target == b"*"


def test_connect_is_not_served(client: Client, upstream: Upstream) -> None:
    client.send(b"CONNECT model:80 HTTP/1.1\r\nhost: model:80\r\n\r\n")
    assert client.response().status in (400, 405)
    assert upstream.heads == []


def test_an_expectation_that_nobody_knows_is_refused(client: Client, upstream: Upstream) -> None:
    client.request("POST", CHAT, "expect: 200-ok", body=b"{}")
    assert client.response().status == 417
    assert upstream.heads == []


# -- headers of one hop

_HOP_BY_HOP = [
    "keep-alive: timeout=5",
    "te: trailers",
    "trailer: x-late",
    "proxy-authorization: Basic eDp5",
    "proxy-connection: keep-alive",
    "upgrade: h2c",
    "connection: keep-alive, X-Private, upgrade",
    "x-private: 1",
]


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_hop_by_hop_headers_of_the_client_end_here(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(target, BODY, *_HOP_BY_HOP, "x-public: 2")
    assert client.response().status == 200
    names = {name for name, _ in upstream.only.headers}
    assert names.isdisjoint({line.partition(":")[0].encode() for line in _HOP_BY_HOP} - {b"connection"})
    assert b"x-private" not in (upstream.only.header(b"connection") or b"").lower()
    assert upstream.only.header(b"x-public") == b"2"


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_hop_by_hop_headers_of_the_server_end_here(client: Client, upstream: Upstream, target: str) -> None:
    headers = ["keep-alive: timeout=5", "connection: keep-alive, X-Private", "x-private: 1"]
    headers += ["proxy-authenticate: Basic", "trailer: x-late", "x-public: 2"]
    upstream.answer(json_answer(REPLY, *headers))
    client.post(target, BODY)
    response = client.response()
    names = {name for name, _ in response.headers}
    assert names.isdisjoint({b"keep-alive", b"x-private", b"proxy-authenticate", b"trailer"})
    assert response.header(b"x-public") == b"2"


def test_the_connection_header_cannot_take_the_length_or_the_host_away(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(CHAT, BODY, "connection: host, content-length, content-type, x-request-id")
    assert client.response().status == 200
    assert upstream.only.header(b"host") == b"model"
    assert json.loads(upstream.only.body) == BODY


def test_other_headers_pass_in_their_order_with_their_repeats(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY, "x-a: 1", "X-B: 2", "set-cookie: a=1", "set-cookie: b=2"))
    client.post("/other", BODY, "x-one: 1", "x-two:   spaced  ", "x-one: again", "x-empty:")
    response = client.response()
    ours = [header for header in upstream.only.headers if header[0].startswith(b"x-")]
    assert ours == [(b"x-one", b"1"), (b"x-two", b"spaced"), (b"x-one", b"again"), (b"x-empty", b"")]
    theirs = [header for header in response.headers if header[0].startswith((b"x-", b"set"))]
    assert theirs == [(b"x-a", b"1"), (b"x-b", b"2"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_latin_1_header_values_pass_as_they_are(client: Client, upstream: Upstream) -> None:
    upstream.answer(b"HTTP/1.1 200 OK\r\nx-name: caf\xe9\r\ncontent-length: 0\r\n\r\n")
    client.send(b"GET /health HTTP/1.1\r\nhost: m\r\nx-name: \xfcber\r\n\r\n")
    assert client.response().header(b"x-name") == b"caf\xe9"
    assert upstream.only.header(b"x-name") == b"\xfcber"


# -- Upgrade


def test_a_websocket_is_tunnelled_both_ways(client: Client, upstream: Upstream) -> None:
    def websocket(peer: Peer, _: Received) -> None:
        peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: abc\r\n\r\n\x81\x02hi"
        )
        while data := peer.receive_raw(4):
            peer.send(data[::-1])
        peer.close()

    upstream.answer(websocket)
    client.request(
        "GET",
        "/v1/realtime",
        "connection: keep-alive, Upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
    )
    response = client.head(upgrade=True)
    assert response.status == 101
    assert response.header(b"sec-websocket-accept") == b"abc"
    assert (response.header(b"upgrade") or b"").lower() == b"websocket"
    assert b"upgrade" in (response.header(b"connection") or b"").lower()
    assert upstream.only.header(b"upgrade") == b"websocket"
    assert upstream.only.header(b"sec-websocket-key") == b"dGhlIHNhbXBsZSBub25jZQ=="
    assert client.receive_raw(4) == b"\x81\x02hi"
    for frame in (b"\x00\x01\x02\x03", b"GET ", b"\r\n\r\n"):
        client.send(frame)
        assert client.receive_raw(4) == frame[::-1]


def test_a_tunnel_ends_when_either_side_ends(sidecar: Sidecar, upstream: Upstream) -> None:
    ended = Gate()

    def agree(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")

    def until_client_ends(peer: Peer, request: Received) -> None:
        agree(peer, request)
        if peer.wait_closed():
            ended.set()

    def end_at_once(peer: Peer, request: Received) -> None:
        agree(peer, request)
        peer.close()

    for script in (until_client_ends, end_at_once):
        upstream.answer(script)
        with sidecar.client() as client:
            client.request("GET", "/v1/realtime", "connection: Upgrade", "upgrade: websocket")
            assert client.head(upgrade=True).status == 101
            if script is end_at_once:
                assert client.closed()
    ended.pass_through()


def test_a_refused_upgrade_is_an_ordinary_answer(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"no", status="403 Forbidden"), answer(b"ok"))
    client.request("GET", "/v1/realtime", "connection: Upgrade", "upgrade: websocket")
    response = client.response()
    assert (response.status, response.body) == (403, b"no")


def test_a_connection_whose_upgrade_was_refused_goes_on_or_is_closed(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(answer(b"no", status="403 Forbidden"), answer(b"ok"))
    client.request("GET", "/v1/realtime", "connection: Upgrade", "upgrade: websocket")
    response = client.response()
    if response.header(b"connection") == b"close":
        assert client.closed()
    else:
        client.request("GET", "/health")
        assert client.response().body == b"ok"


def test_what_was_meant_for_a_refused_tunnel_is_no_request(sidecar: Sidecar, upstream: Upstream) -> None:
    """A server without WebSocket answers in plain HTTP: a tunnel must not become a way around the count."""
    upstream.answer(answer(b"plain"))
    raw = json.dumps(BODY).encode()
    with sidecar.client() as client:
        client.send(
            b"GET /v1/realtime HTTP/1.1\r\nhost: m\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
            + _POST
            + b"content-length: %d\r\n\r\n%b" % (len(raw), raw)
        )
        assert client.response().body == b"plain"
        sidecar.settle()
    assert [request.target for request in upstream.heads if request.method == b"POST"] == []


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_switch_that_nobody_asked_for_is_an_error(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw")
    client.post(target, BODY)
    assert client.response().status == 502


def test_an_upgrade_to_http_2_is_not_taken_up(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"plain"))
    client.request(
        "GET", "/health", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA"
    )
    response = client.response()
    assert (response.status, response.body) == (200, b"plain")
    assert upstream.only.header(b"upgrade") is None


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "TLS/1.0"])
def test_a_body_beside_a_declined_upgrade_is_no_request(
    client: Client, upstream: Upstream, upgrade: str
) -> None:
    """Java's HttpClient offers h2c with every request, those with a body too."""
    upstream.answer(answer(b"ok"))
    client.request(
        "POST",
        CHAT,
        "connection: Upgrade, HTTP2-Settings",
        f"upgrade: {upgrade}",
        "http2-settings: AA",
        body=b"GET /smuggled HTTP/1.1\r\nhost: m\r\n\r\n",
    )
    response = client.response()
    assert response.error["code"] == "invalid_json"
    client.request("GET", "/health")
    assert client.response().body == b"ok"
    assert [request.target for request in upstream.received] == [b"/health"]


# -- what the two sides could read differently is refused, and never reaches the model

_POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\n"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: m\r\n\r\n"

AMBIGUOUS = {
    "a length beside Transfer-Encoding": _POST
    + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding beside a length": _POST
    + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths that differ": _POST + b"content-length: 2\r\ncontent-length: 40\r\n\r\n{}" + _SMUGGLED,
    "two lengths that agree": _POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": _POST + b"content-length: 2, 2\r\n\r\n{}",
    "a signed length": _POST + b"content-length: +2\r\n\r\n{}",
    "a negative length": _POST + b"content-length: -2\r\n\r\n{}",
    "a hexadecimal length": _POST + b"content-length: 0x2\r\n\r\n{}",
    "an empty length": _POST + b"content-length:\r\n\r\n",
    "a length with a space in it": _POST + b"content-length: 1 2\r\n\r\n{}",
    "a length larger than any": _POST + b"content-length: 99999999999999999999999\r\n\r\n{}",
    "a chunk size that is no number": _POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk size with 0x": _POST + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a signed chunk size": _POST + b"transfer-encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with a space before it": _POST + b"transfer-encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n",
    "a chunk size that overflows": _POST
    + b"transfer-encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than its size": _POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n",
    "a chunk that ends in a bare LF": _POST + b"transfer-encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
    "chunk data that ends in a bare LF": _POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n",
    "a chunk extension with a bare CR": _POST
    + b"transfer-encoding: chunked\r\n\r\n2;a\rb\r\n{}\r\n0\r\n\r\n",
    "a bare LF in a chunk extension": _POST + b"transfer-encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
    "a bare CR in a header": _POST + b"x-a: b\rtransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "a bare CR after a header": _POST + b"x-a: b\r\rcontent-length: 2\r\n\r\n{}",
    "lines that end in LF alone": _POST.replace(b"\r", b"") + b"content-length: 2\n\n{}",
    "one header line that ends in LF alone": _POST + b"x-a: b\ncontent-length: 2\r\n\r\n{}",
    "a blank line of LF alone": _POST + b"content-length: 2\r\n\n{}",
    "NUL in a header value": _POST + b"x-a: b\0c\r\ncontent-length: 2\r\n\r\n{}",
    "a control byte in a header value": _POST + b"x-a: b\x01c\r\ncontent-length: 2\r\n\r\n{}",
    "DEL in a header value": _POST + b"x-a: b\x7fc\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a header name": _POST + b"x\0a: b\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nhost: m\r\n\r\n",
    "a control byte in the target": b"GET /a\x01b HTTP/1.1\r\nhost: m\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nhost: m\r\n\r\n",
    "a folded header": _POST + b"x-a: b\r\n content-length: 9\r\ncontent-length: 2\r\n\r\n{}",
    "a folded Transfer-Encoding": _POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a space before the first header": b"GET / HTTP/1.1\r\n host: m\r\n\r\n",
    "a space before the colon": _POST + b"content-length : 2\r\n\r\n{}",
    "a tab before the colon": _POST + b"transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a header without a colon": _POST + b"content-length 2\r\n\r\n{}",
    "a header without a name": _POST + b": 2\r\ncontent-length: 2\r\n\r\n{}",
    "Transfer-Encoding other than chunked": _POST + b"transfer-encoding: gzip\r\n\r\n{}",
    "Transfer-Encoding of two codings": _POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": _POST + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two Transfer-Encoding headers": _POST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "the same Transfer-Encoding twice": _POST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: identity": _POST + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\n{}",
    "Transfer-Encoding with a vertical tab": _POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "an almost chunked Transfer-Encoding": _POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding in HTTP/1.0": b"POST /v1/completions HTTP/1.0\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\n"
    b"0\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nhost: m\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nhost: m\r\n\r\n",
    "a lower-case protocol": b"GET / http/1.1\r\nhost: m\r\n\r\n",
    "two Host headers": b"GET / HTTP/1.1\r\nhost: m\r\nhost: m\r\n\r\n",
    "no Host header": b"GET / HTTP/1.1\r\nx-a: b\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a method of its own making": b"G@T / HTTP/1.1\r\nhost: m\r\n\r\n",
}


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_refused_with_400_and_a_closed_connection(sidecar: Sidecar, upstream: Upstream, raw: bytes) -> None:
    upstream.answer(answer(b"the model got it"))
    with sidecar.client() as client:
        client.send(raw)
        response = client.response()
        assert response.status == 400
        assert response.error["type"] == "invalid_request_error"
        assert response.header(b"connection") == b"close"
        assert client.closed()
    sidecar.settle()
    assert upstream.heads == []


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_follows_a_refused_request_is_not_read(sidecar: Sidecar, upstream: Upstream, raw: bytes) -> None:
    upstream.answer(answer(b"smuggled"))
    with sidecar.client() as client:
        client.send(raw + _SMUGGLED)
        assert client.response().status == 400
        assert client.closed()
    sidecar.settle()
    assert upstream.heads == []


def test_a_good_request_before_a_bad_one_is_answered(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    client.send(b"GET /good HTTP/1.1\r\nhost: m\r\n\r\nGET /bad HTTP/1.1\r\nhost : m\r\n\r\n")
    assert client.response().body == b"ok"
    assert client.response().status == 400
    assert client.closed()
    assert [request.target for request in upstream.received] == [b"/good"]


def test_a_pipelined_request_with_a_bad_body_is_refused_when_its_turn_comes(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(answer(b"ok"))
    client.send(
        b"GET /good HTTP/1.1\r\nhost: m\r\n\r\n" + _POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"
    )
    assert client.response().body == b"ok"
    assert client.response().status == 400
    assert client.closed()
    assert [request.target for request in upstream.received] == [b"/good"]


def test_a_request_that_is_cut_never_reaches_the_model(sidecar: Sidecar, upstream: Upstream) -> None:
    upstream.answer(answer(b"the model got it"))
    for raw in (
        b"GET /a HTTP/1.1\r\nhost:",
        _POST + b"content-length: 20\r\n\r\n{",
        _POST + b"content-length: 1",
    ):
        with sidecar.client() as client:
            client.send(raw)
            client.finish_sending()
            assert client.closed()
    sidecar.settle()
    assert upstream.heads == []


# -- limits


@pytest.fixture(scope="module")
def _limited(request: pytest.FixtureRequest) -> Sidecar:
    factory = request.getfixturevalue("sidecars")
    started: Sidecar = factory(base_path="/v1", max_body_bytes=10_000, header_timeout=0.3, body_timeout=0.3)
    return started


@pytest.fixture
def limited(_limited: Sidecar, upstream: Upstream) -> Sidecar:
    return _limited


def test_413_for_a_body_over_the_limit(limited: Sidecar, upstream: Upstream) -> None:
    with limited.client() as client:
        client.post(CHAT, b'{"model":"' + b"m" * 10_000 + b'"}')
        response = client.response()
    assert response.status == 413
    assert "TOKEN_METER_MAX_BODY_BYTES" in response.error["message"]
    assert upstream.heads == []


def test_413_for_a_chunked_body_over_the_limit(limited: Sidecar, upstream: Upstream) -> None:
    with limited.client() as client:
        client.request("POST", CHAT, "transfer-encoding: chunked")
        client.send(chunk(b"a" * 6_000), chunk(b"a" * 6_000))  # and no end
        response = client.response()
        assert (response.status, response.error["type"]) == (413, "invalid_request_error")
        assert client.closed()
    assert upstream.heads == []


def test_413_for_a_length_over_the_limit_before_any_of_it_is_sent(
    limited: Sidecar, upstream: Upstream
) -> None:
    with limited.client() as client:
        client.request("POST", CHAT, "content-length: 10001")
        assert client.response().status == 413
        assert client.closed()
    assert upstream.heads == []


def test_a_body_of_exactly_the_limit_passes(limited: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    body = b'{"model":"m","prompt":"%b"}' % (b"a" * (10_000 - 25))
    assert len(body) == 10_000
    with limited.client() as client:
        client.post("/v1/completions", body)
        assert client.response().body == REPLY
    assert upstream.only.body == body


def test_large_bodies_share_one_bound(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", max_buffered_bytes=100_000)
    with sidecar.client() as one, sidecar.client() as two:
        one.request("POST", CHAT, "content-length: 90000")
        one.send(b'{"x":"' + b"a" * 69_994)
        sidecar.settle()
        two.request("POST", CHAT, "content-length: 90000")
        two.send(b'{"x":"' + b"a" * 69_994)
        response = two.response()
        assert response.status == 503
        assert int(response.header(b"retry-after") or 0) > 0
        one.send(b"a" * 19_998 + b'"}')
        assert one.response().status == 200
    with sidecar.client() as three:
        three.post(CHAT, b'{"x":"' + b"a" * 89_992 + b'"}')  # what was held has been let go
        assert three.response().status == 200


def test_a_client_that_is_still_sending_can_read_its_413(limited: Sidecar, upstream: Upstream) -> None:
    """The refusal must not be lost to a RST while the client still writes its body."""
    with limited.client() as client:
        client.request("POST", CHAT, "content-length: 1000000")
        client.send(*[b"a" * 10_000] * 20)
        assert client.response().status == 413
    assert upstream.heads == []


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: m\r\nx-a: " + b"a" * 66_000,
        b"GET / HTTP/1.1\r\nhost: m\r\n" + b"x-a: b\r\n" * 8_300 + b"x-last: b",
        b"GET /" + b"a" * 66_000 + b" HTTP/1.1\r\nhost: m",
    ],
    ids=["one long value", "many headers", "a long target"],
)
def test_431_for_more_than_64_kib_of_headers(
    sidecar: Sidecar, upstream: Upstream, head: bytes, ended: bool
) -> None:
    upstream.answer(answer(b"the model got it"))
    with sidecar.client() as client:
        client.send(head + (b"\r\n\r\n" if ended else b""))
        response = client.response()
        assert response.status == 431
        assert response.error["type"] == "invalid_request_error"
        assert client.closed()
    sidecar.settle()
    assert upstream.heads == []


def test_60_kib_of_headers_pass(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    client.request("GET", "/health", *[f"x-{number}: {'a' * 1000}" for number in range(60)])
    assert client.response().body == b"ok"
    assert upstream.only.header(b"x-59") == b"a" * 1000


def test_408_for_headers_that_do_not_end(limited: Sidecar, upstream: Upstream) -> None:
    with limited.client() as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\n")
        response = client.response()
        assert response.status == 408
        assert response.error["type"] == "invalid_request_error"
        assert client.closed()
    assert upstream.heads == []


def test_408_for_slow_headers_of_a_later_request(limited: Sidecar, upstream: Upstream) -> None:
    upstream.answer(answer(b"ok"))
    with limited.client() as client:
        client.request("GET", "/health")
        assert client.response().body == b"ok"
        client.send(b"GET /health HTTP/1.1\r\nhos")
        assert client.response().status == 408
        assert client.closed()


def test_an_idle_connection_is_not_closed_under_the_gateway_s_feet(
    limited: Sidecar, upstream: Upstream
) -> None:
    """Envoy keeps idle connections for an hour: the header timeout begins with a request's first byte."""
    upstream.answer(answer(b"ok"))
    with limited.client() as idle:
        idle.request("GET", "/health")
        assert idle.response().body == b"ok"
        with limited.client() as slow:
            slow.send(b"GET")
            assert slow.response().status == 408  # by now the timeout has passed for the idle one too
        idle.request("GET", "/health")
        assert idle.response().body == b"ok"


def test_408_for_a_body_that_does_not_come(limited: Sidecar, upstream: Upstream) -> None:
    with limited.client() as client:
        client.request("POST", CHAT, "content-length: 100")
        assert client.response().status == 408
        assert client.closed()
    assert upstream.heads == []


# -- the server's own framing


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a : b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-a: b\0\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 031 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
    ],
    ids=[
        "two lengths",
        "a length beside chunked",
        "a space before the colon",
        "NUL",
        "a bad status",
        "an interim answer with a body",
        "a status below 100",
        "NUL in the reason",
        "a coding besides chunked",
        "chunked twice",
        "no HTTP",
    ],
)
def test_502_for_an_answer_that_is_no_http(client: Client, upstream: Upstream, raw: bytes) -> None:
    upstream.answer(raw)
    client.post(CHAT, BODY)
    response = client.response()
    assert response.status == 502
    assert response.error["type"] == "upstream_error"


def test_a_bad_chunk_in_an_answer_breaks_it(client: Client, upstream: Upstream) -> None:
    upstream.answer(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n'
        b"zz\r\n"
    )
    client.post(CHAT, BODY)
    with pytest.raises(Broken):
        client.response()


def test_bytes_after_an_answer_do_not_become_the_next_one(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY) + answer(b"injected"), json_answer({"n": 2}))
    client.post(CHAT, BODY)
    assert client.response().body == REPLY
    client.post(CHAT, BODY)
    assert client.response().json == {"n": 2}


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_garbage_in_one_piece_with_an_answer_s_end_does_not_hold_it_up(
    client: Client, upstream: Upstream, target: str
) -> None:
    head_is_there = Gate()

    def untidy(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: 1\n\n"))
        head_is_there.pass_through()
        peer.send(chunk(b"data: 2\n\n") + LAST_CHUNK + b"garbage")

    upstream.answer(untidy, json_answer({"n": 2}))
    client.post(target, {**BODY, "stream": True})
    client.head()
    assert client.body_until(b"\n\n") == b"data: 1\n\n"
    head_is_there.set()
    assert client.rest() == b"data: 1\n\ndata: 2\n\n"
    client.post(CHAT, BODY)
    assert client.response().json == {"n": 2}
    first, second = (request.connection for request in upstream.received)
    assert first != second


def test_two_requests_with_a_sidecar_of_small_header_limit(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    """TOKEN_METER_MAX_HEADER_BYTES is the limit of each head, not of the connection."""
    upstream.answer(answer(b"ok"))
    small = start_sidecar(base_path="/v1", max_header_bytes=1024)
    with small.client() as client:
        for _ in range(5):
            client.request("GET", "/health", f"x-a: {'a' * 500}")
            assert client.response().body == b"ok"
        client.request("GET", "/health", f"x-a: {'a' * 1100}")
        assert client.response().status == 431
