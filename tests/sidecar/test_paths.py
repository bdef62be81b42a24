"""What is metered, by which path, and what is left alone."""

import gzip
import json

import pytest

from tests.sidecar.client import Client
from tests.sidecar.conftest import KEY, SidecarFactory, StartSidecar
from tests.sidecar.process import Sidecar
from tests.sidecar.upstream import Peer, Received, Upstream
from tests.sidecar.wire import CHAT, answer, json_answer, usage

BODY = {"model": "m", "input": "hello"}
REPLY = {"object": "x", "usage": usage(3, 4)}
NO_ROUTE = json_answer({"detail": "Not Found"}, status="404 Not Found")
NO_MODEL = json_answer(
    {
        "error": {
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        }
    },
    status="404 Not Found",
)

BELOW_BASE = {
    "/chat/completions": "chat_completions",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/responses": "responses",
    "/rerank": "rerank",
    "/score": "score",
    "/messages": "messages",
    "/audio/transcriptions": "audio_transcriptions",
    "/audio/translations": "audio_translations",
}
ALIASES = {
    "/invocations": "invocations",
    "/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/score": "score",
    "/pooling": "pooling",
    "/classify": "classify",
}
METERED = {f"{base}{path}": name for base in ("/v1", "/openai/v1") for path, name in BELOW_BASE.items()}

_AUDIO_FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\0\xff\r\n--b--\r\n'
)


def _post(client: Client, target: str, *headers: str) -> None:
    if "/audio/" in target:
        client.request(
            "POST", target, "content-type: multipart/form-data; boundary=b", *headers, body=_AUDIO_FORM
        )
    else:
        client.post(target, BODY, *headers)


@pytest.mark.parametrize(("target", "endpoint"), [*METERED.items(), *ALIASES.items()])
def test_every_path_that_burns_tokens_is_metered(
    sidecar: Sidecar, client: Client, upstream: Upstream, target: str, endpoint: str
) -> None:
    upstream.answer(json_answer(REPLY))
    before = sidecar.tokens(endpoint=endpoint)
    _post(client, target)
    assert client.response().json == REPLY
    after = sidecar.tokens(endpoint=endpoint)
    assert (after[0] - before[0], after[1] - before[1]) == (3, 4)


@pytest.mark.parametrize("target", [*METERED, *ALIASES])
def test_every_path_that_burns_tokens_wants_the_key(
    guarded: Sidecar, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(REPLY))
    with guarded.client() as client:
        _post(client, target)
        assert client.response().status == 401
        assert upstream.received == []
        _post(client, target, f"authorization: Bearer {KEY}")
        assert client.response().status == 200


@pytest.mark.parametrize("target", METERED)
def test_either_prefix_reaches_a_server_at_v1(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(json_answer(REPLY))
    _post(client, target + "?api-version=1&x=%2F")
    assert client.response().status == 200
    path = target.removeprefix("/openai")
    assert upstream.only.target == path.encode() + b"?api-version=1&x=%2F"


@pytest.fixture(scope="module")
def _kserve(sidecars: SidecarFactory) -> Sidecar:
    return sidecars(base_path="/openai/v1", server="huggingface")


@pytest.fixture
def kserve(_kserve: Sidecar, upstream: Upstream) -> Sidecar:
    """Before KServe's own server, whose API is at /openai/v1."""
    return _kserve


@pytest.mark.parametrize("target", METERED)
def test_either_prefix_reaches_a_server_at_openai_v1(
    kserve: Sidecar, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(REPLY))
    with kserve.client() as client:
        _post(client, target)
        assert client.response().status == 200
    assert upstream.only.target == b"/openai" + target.removeprefix("/openai").encode()


@pytest.mark.parametrize("target", ALIASES)
def test_an_alias_goes_to_its_own_path(client: Client, upstream: Upstream, target: str) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(target, BODY)
    assert client.response().status == 200
    assert upstream.only.target == target.encode()


# -- the base path is learnt where it is not known


@pytest.mark.parametrize("server", ["/v1", "/openai/v1", "/v3"])
@pytest.mark.parametrize("asked", ["/v1", "/openai/v1"])
def test_the_base_path_is_learnt_once(
    start_sidecar: StartSidecar, upstream: Upstream, server: str, asked: str
) -> None:
    def script(peer: Peer, request: Received) -> None:
        peer.send(json_answer(REPLY) if request.target.startswith(server.encode() + b"/") else NO_ROUTE)

    upstream.answer(script)
    with start_sidecar().client() as client:
        client.post(f"{asked}/chat/completions", BODY)
        assert client.response().json == REPLY
        upstream.received.clear()
        for other in ("/v1", "/openai/v1"):
            client.post(f"{other}/embeddings", BODY)
            assert client.response().json == REPLY
    assert [request.target for request in upstream.received] == [f"{server}/embeddings".encode()] * 2


def test_a_model_that_is_not_there_teaches_nothing(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    """404 also means "no such model": it is passed on, and no other prefix is tried."""
    upstream.answer(NO_MODEL)
    with start_sidecar().client() as client:
        client.post(CHAT, BODY)
        response = client.response()
        assert response.status == 404
        assert response.json["error"]["type"] == "NotFoundError"
        assert upstream.only.target == CHAT.encode()


def test_a_model_that_is_not_there_is_found_to_be_so_behind_a_learnt_prefix(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    def script(peer: Peer, request: Received) -> None:
        peer.send(NO_MODEL if request.target.startswith(b"/openai/v1/") else NO_ROUTE)

    upstream.answer(script)
    with start_sidecar().client() as client:
        client.post(CHAT, BODY)
        assert client.response().json["error"]["type"] == "NotFoundError"


def test_a_server_without_the_route_answers_for_itself(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    upstream.answer(NO_ROUTE)
    with start_sidecar().client() as client:
        client.post("/v1/responses", BODY)
        response = client.response()
        assert (response.status, response.json) == (404, {"detail": "Not Found"})
        upstream.answer(_openai_only)
        client.post(CHAT, BODY)
        assert client.response().json == REPLY  # nothing wrong was learnt from it


def _openai_only(peer: Peer, request: Received) -> None:
    peer.send(json_answer(REPLY) if request.target.startswith(b"/openai/v1/") else NO_ROUTE)


def test_learning_sends_the_whole_request_again(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    upstream.answer(_openai_only)
    with start_sidecar().client() as client:
        client.post(CHAT, BODY, "x-a: b")
        assert client.response().json == REPLY
    assert [json.loads(request.body) for request in upstream.received] == [BODY, BODY]
    assert upstream.received[-1].header(b"x-a") == b"b"


def test_a_request_is_counted_once_however_often_it_was_asked(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    upstream.answer(_openai_only)
    sidecar = start_sidecar()
    with sidecar.client() as client:
        client.post(CHAT, BODY)
        assert client.response().json == REPLY
    assert sidecar.tokens() == (3, 4)
    assert sidecar.total("token_meter_requests_total") == 1


# -- no spelling of a metered path goes by unmetered

SPELLINGS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/./chat/completions",
    "/v1/x/../chat/completions",
    "/x/../v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "/v1/chat/completions/.",
    "/v1/%63hat/completions",
    "/v1/chat%2Fcompletions",
    "/v1%2fchat/completions",
    "/%76%31/chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/x/%2E%2e/chat/completions",
    "/openai//v1/chat/completions",
    "/openai/%76%31/chat/completions",
    "http://model/v1/chat/completions",
    "HTTP://model:8080/v1/chat/completions?x=1",
    "/v1/chat/completions?",
    "/v1/chat/completions?a=b",
    "/v1/chat/completions#a",
    "/%2Fv1/chat/completions",
    "/v1/%25%36%33hat/../chat/completions",
    "/./invocations",
    "/invocations/",
    "//invocations",
    "/%69nvocations",
]


@pytest.mark.parametrize("target", SPELLINGS)
def test_another_spelling_of_a_metered_path_wants_the_key(
    guarded: Sidecar, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(REPLY))
    with guarded.client() as client:
        client.post(target, BODY)
        assert client.response().status in (400, 401)
    assert upstream.received == []


@pytest.mark.parametrize("target", SPELLINGS)
def test_another_spelling_of_a_metered_path_is_metered_or_refused(
    sidecar: Sidecar, client: Client, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(REPLY))
    before = sidecar.tokens()
    client.post(target, BODY)
    if client.response().status == 200:
        after = sidecar.tokens()
        assert (after[0] - before[0], after[1] - before[1]) == (3, 4)
    else:
        assert upstream.received == []


def test_an_upgrade_on_a_metered_path_is_no_way_around(guarded: Sidecar, upstream: Upstream) -> None:
    """uvicorn ignores an upgrade that it does not know, and serves the request."""
    upstream.reads_body = False
    upstream.answer(json_answer(REPLY, "connection: close"))
    with guarded.client() as client:
        client.post(CHAT, BODY, "connection: Upgrade", "upgrade: websocket")
        assert client.head("POST").status in (400, 401)
    assert upstream.heads == []


@pytest.mark.parametrize("method", ["post", "Post", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"])
def test_another_method_on_a_metered_path_does_not_reach_the_model_as_post(
    sidecar: Sidecar, upstream: Upstream, method: str
) -> None:
    upstream.answer(json_answer(REPLY))
    with sidecar.client() as client:
        client.request(method, CHAT, body=b"{}")
        client.head(method.upper())
    assert [request.method for request in upstream.received] in ([], [method.encode()])
    assert method == method.upper() or upstream.received == []


@pytest.mark.parametrize(
    "header", ["x-http-method-override: POST", "x-http-method: POST", "x-original-url: /v1/chat/completions"]
)
def test_headers_do_not_change_what_a_request_is(guarded: Sidecar, upstream: Upstream, header: str) -> None:
    upstream.answer(answer(b"ok"))
    with guarded.client() as client:
        client.request("GET", "/health", header)
        assert client.response().body == b"ok"
    assert (upstream.only.method, upstream.only.target) == (b"GET", b"/health")


@pytest.mark.parametrize(
    "target",
    [
        "/tokenize",
        "/detokenize",
        "/v1/messages/count_tokens",
        "/v1/chat/completions/render",
        "/v1/chat",
        "/v1/completionsx",
        "/x/v1/chat/completions",
        "/v2/models/m/infer",
    ],
)
def test_what_burns_no_tokens_is_not_metered(guarded: Sidecar, upstream: Upstream, target: str) -> None:
    upstream.answer(json_answer(REPLY))
    before = guarded.total("token_meter_requests_total")
    with guarded.client() as client:
        client.post(target, BODY)
        assert client.response().json == REPLY
    assert guarded.total("token_meter_requests_total") == before
    assert upstream.only.target == target.encode()


# -- all else, byte for byte


def test_what_is_not_metered_is_relayed_byte_for_byte(client: Client, upstream: Upstream) -> None:
    body = bytes(range(256)) * 40
    reply = bytes(reversed(range(256))) * 40
    upstream.answer(
        answer(reply, "content-type: application/octet-stream", "ETag: W/1", status="201 Made Up Words")
    )
    client.request(
        "PATCH",
        "/a%20b/../c//d;e=f?q=%C3%A9&q=+",
        "X-Case: Kept",
        "content-encoding: gzip",
        "accept-encoding: gzip, br",
        "authorization: Basic eDp5",
        body=body,
    )
    response = client.response()
    seen = upstream.only
    assert (seen.method, seen.body) == (b"PATCH", body)
    assert seen.target.startswith(b"/a%20b/../c//d;e=f?q=%C3%A9&q=+")
    assert seen.header(b"x-case") == b"Kept"
    assert seen.header(b"accept-encoding") == b"gzip, br"
    assert seen.header(b"content-encoding") == b"gzip"
    assert seen.header(b"authorization") == b"Basic eDp5"
    assert (response.status, response.body) == (201, reply)
    assert response.header(b"etag") == b"W/1"
    assert b"201 Made Up Words" in response.raw


def test_a_compressed_answer_that_is_not_metered_stays_compressed(client: Client, upstream: Upstream) -> None:
    packed = gzip.compress(b"text" * 100)
    upstream.answer(answer(packed, "content-encoding: gzip"))
    client.request("GET", "/file", "accept-encoding: gzip")
    response = client.response()
    assert (response.body, response.header(b"content-encoding")) == (packed, b"gzip")


def test_the_server_s_own_errors_pass(client: Client, upstream: Upstream) -> None:
    upstream.answer(answer(b"teapot", "x-why: tea", status="418 I'm a teapot"))
    for target in ("/other", CHAT):
        client.post(target, BODY)
        response = client.response()
        assert (response.status, response.body, response.header(b"x-why")) == (418, b"teapot", b"tea")


# -- the list of models

_KSERVE_MODELS = {"models": ["llama3-1b", "lora-é"]}


@pytest.mark.parametrize("target", ["/v1/models", "/openai/v1/models"])
def test_kserve_s_list_of_models_is_given_in_openai_s_shape(
    client: Client, upstream: Upstream, target: str
) -> None:
    upstream.answer(json_answer(_KSERVE_MODELS))
    client.request("GET", target, "accept-encoding: gzip")
    response = client.response()
    assert response.header(b"content-type") == b"application/json"
    assert response.json["object"] == "list"
    assert [(model["id"], model["object"]) for model in response.json["data"]] == [
        ("llama3-1b", "model"),
        ("lora-é", "model"),
    ]
    assert all(isinstance(model["created"], int) and model["owned_by"] for model in response.json["data"])


@pytest.mark.parametrize(
    "body",
    [
        b'{ "object": "list",\n "data": [ {"id": "m", "object": "model", "created": 1, "owned_by": "vllm"} ] }',
        # llama.cpp has both.
        b'{"models":[{"name":"m"}],"object":"list","data":[{"id":"m"}]}',
        b'{"object":"list","data":[]}',
        b"not json",
        b"[]",
    ],
)
def test_openai_s_list_of_models_is_left_byte_for_byte(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    upstream.answer(json_answer(body, "x-a: b"))
    client.request("GET", "/v1/models")
    response = client.response()
    assert (response.body, response.header(b"x-a")) == (body, b"b")


def test_the_list_of_models_needs_no_key(guarded: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(_KSERVE_MODELS))
    with guarded.client() as client:
        client.request("GET", "/v1/models")
        assert client.response().status == 200


def test_an_error_instead_of_the_list_of_models_passes(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer({"error": "no"}, status="401 Unauthorized"))
    client.request("GET", "/v1/models")
    response = client.response()
    assert (response.status, response.json) == (401, {"error": "no"})


def test_a_list_of_models_is_found_where_the_server_has_it(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    upstream.answer(
        lambda peer, request: peer.send(
            json_answer({"object": "list", "data": [{"id": "m"}]})
            if request.target == b"/openai/v1/models"
            else NO_ROUTE
        )
    )
    with start_sidecar().client() as client:
        client.request("GET", "/v1/models")
        assert client.response().json["data"] == [{"id": "m"}]
