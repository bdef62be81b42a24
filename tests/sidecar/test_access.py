"""Who may call, whose identity counts, and by which way a request came."""

from pathlib import Path

import pytest

from tests.sidecar.client import Client, Response
from tests.sidecar.conftest import KEY, StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Upstream
from tests.sidecar.wire import CHAT, answer, json_answer, usage

BODY = {"model": "m", "messages": []}
REPLY = {"id": "x", "usage": usage(3, 4)}


def _post(sidecar: Sidecar, *headers: str) -> Response:
    with sidecar.client() as client:
        client.post(CHAT, BODY, *headers)
        return client.response()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "authorization: Bearer wrong",
        "authorization: Bearer",
        "authorization: Bearer ",
        f"authorization: Basic {KEY}",
        f"authorization: {KEY}",
        f"authorization: Bearer {KEY}x",
        f"authorization: Bearer {KEY[:-1]}",
        f"authorization: Bearer {KEY.upper()}",
        f"authorization: Bearer x {KEY}",
        "authorization: Bearer \xe9",
        f"x-api-key: {KEY}",
    ],
)
def test_401_without_the_right_key(guarded: Sidecar, upstream: Upstream, header: str | None) -> None:
    response = _post(guarded, *([header] if header else []))
    assert response.status == 401
    assert response.error["code"] == "invalid_api_key"
    assert response.header(b"www-authenticate")
    assert upstream.heads == []


def test_the_401_says_where_the_gateway_is_and_no_key(guarded: Sidecar, upstream: Upstream) -> None:
    response = _post(guarded, "authorization: Bearer wr0ng")
    assert "envoy-gateway-system/ai-gateway" in response.error["message"]
    assert KEY not in response.raw.decode()
    assert "wr0ng" not in response.raw.decode()


def test_a_refused_client_may_try_again_on_its_connection(guarded: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    with guarded.client() as client:
        client.post(CHAT, BODY)
        assert client.response().status == 401
        client.post(CHAT, BODY, f"authorization: Bearer {KEY}")
        assert client.response().status == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_key_passes_and_is_not_passed_on(guarded: Sidecar, upstream: Upstream, scheme: str) -> None:
    upstream.answer(json_answer(REPLY))
    assert _post(guarded, f"Authorization: {scheme} {KEY}").status == 200
    assert upstream.only.header(b"authorization") is None
    assert KEY.encode() not in upstream.only.raw_head


def test_two_authorization_headers_are_no_way_around(guarded: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    response = _post(guarded, "authorization: Bearer wrong", f"authorization: Bearer {KEY}")
    assert response.status in (400, 401)
    assert upstream.heads == []


def test_the_key_does_not_leak_to_paths_that_are_not_metered(guarded: Sidecar, upstream: Upstream) -> None:
    """AI Gateway sends its key with every request on the route."""
    upstream.answer(answer(b"ok"))
    with guarded.client() as client:
        client.request("GET", "/health", f"authorization: Bearer {KEY}")
        assert client.response().status == 200
        client.request("GET", "/v1/models", f"authorization: Bearer {KEY}")
        assert client.response().status == 200
    assert [KEY.encode() in request.raw_head for request in upstream.received] == [False, False]


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/health"), ("GET", "/metrics"), ("GET", "/v1/models")]
)
def test_probes_metrics_and_models_need_no_key(
    guarded: Sidecar, upstream: Upstream, method: str, target: str
) -> None:
    upstream.answer(json_answer({"object": "list", "data": []}))
    with guarded.client() as client:
        client.request(method, target)
        assert client.response().status == 200


def test_401_is_counted_as_rejected(guarded: Sidecar, upstream: Upstream, request_id: str) -> None:
    _post(guarded, f"x-request-id: {request_id}", "x-user-id: mallory")
    line = guarded.record(request_id)
    assert (line["status"], line["outcome"], line["total_tokens"]) == (401, "rejected", 0)
    assert (line["channel"], "user" in line) == ("direct", False)


# -- the key file


def test_a_key_that_was_changed_is_taken_up(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path
) -> None:
    key_file = tmp_path / "apiKey"
    key_file.write_text("first")
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=key_file)
    assert _post(sidecar, "authorization: Bearer first").status == 200
    key_file.write_text("second\n")
    eventually(lambda: _post(sidecar, "authorization: Bearer second").status == 200, "the new key counts")
    eventually(lambda: _post(sidecar, "authorization: Bearer first").status == 401, "the old key is out")


def test_a_secret_volume_s_way_of_changing_a_key_is_seen(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path
) -> None:
    """The kubelet swaps a link to a directory; the file's own name is a link into it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "apiKey").write_text(f"key-{name}")
    data = tmp_path / "..data"
    data.symlink_to("one")
    key_file = tmp_path / "apiKey"
    key_file.symlink_to("..data/apiKey")
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=key_file)
    assert _post(sidecar, "authorization: Bearer key-one").status == 200
    swapped = tmp_path / "..data_tmp"
    swapped.symlink_to("two")
    swapped.rename(data)
    eventually(lambda: _post(sidecar, "authorization: Bearer key-two").status == 200, "the new key counts")
    eventually(lambda: _post(sidecar, "authorization: Bearer key-one").status == 401, "the old key is out")


def test_the_keys_of_a_rotation_count_beside_the_key(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path
) -> None:
    files = {name: tmp_path / name for name in ("apiKey", "nextApiKey", "previousApiKey")}
    files["apiKey"].write_text("now")
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=files["apiKey"])
    assert _post(sidecar, "authorization: Bearer next").status == 401
    files["nextApiKey"].write_text("next")
    files["previousApiKey"].write_text("before")
    for key in ("next", "before"):
        eventually(lambda key=key: _post(sidecar, f"authorization: Bearer {key}").status == 200, key)  # type: ignore[misc]
    assert _post(sidecar, "authorization: Bearer now").status == 200
    files["previousApiKey"].unlink()
    eventually(lambda: _post(sidecar, "authorization: Bearer before").status == 401, "the old key is out")
    files["apiKey"].unlink()
    eventually(lambda: _post(sidecar, "authorization: Bearer next").status == 503, "there is no key")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_503_until_the_key_is_there(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path, content: str | None
) -> None:
    """The Secret is optional: the controller may make it after the pod. Readiness does not wait for it."""
    key_file = tmp_path / "key" / "apiKey"
    key_file.parent.mkdir()
    if content is not None:
        key_file.write_text(content)
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=key_file)  # which waits for readyz
    for headers in ([], ["authorization: Bearer "], ["authorization: Bearer k"]):
        response = _post(sidecar, *headers)
        assert response.status == 503
        assert int(response.header(b"retry-after") or 0) > 0
        assert response.error["type"] == "service_unavailable"
    with sidecar.client() as client:
        client.request("GET", "/health")
        assert client.response().status == 200
    assert [request.target for request in upstream.received] == [b"/health"]
    key_file.write_text("k")
    eventually(lambda: _post(sidecar, "authorization: Bearer k").status == 200, "the key counts")


def test_a_key_that_is_taken_away_closes_the_door(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path
) -> None:
    key_file = tmp_path / "apiKey"
    key_file.write_text("k")
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=key_file)
    assert _post(sidecar, "authorization: Bearer k").status == 200
    key_file.unlink()
    eventually(lambda: _post(sidecar, "authorization: Bearer k").status == 503, "the door is closed")


# -- identity and channel


def test_a_user_is_trusted_with_the_right_key(guarded: Sidecar, upstream: Upstream, request_id: str) -> None:
    upstream.answer(json_answer(REPLY))
    _post(guarded, f"authorization: Bearer {KEY}", "X-User-Id: alice", f"x-request-id: {request_id}")
    line = guarded.record(request_id)
    assert (line["user"], line["channel"]) == ("alice", "gateway")


def test_a_request_with_the_key_and_no_user_has_none(
    guarded: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer(REPLY))
    _post(guarded, f"authorization: Bearer {KEY}", f"x-request-id: {request_id}")
    line = guarded.record(request_id)
    assert ("user" in line, line["channel"]) == (False, "gateway")


def test_the_user_header_is_a_setting(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Path, request_id: str
) -> None:
    key_file = tmp_path / "apiKey"
    key_file.write_text("k")
    upstream.answer(json_answer(REPLY))
    sidecar = start_sidecar(base_path="/v1", api_key_file=key_file, user_header="X-Team")
    _post(sidecar, "authorization: Bearer k", "x-team: red", "x-user-id: bob", f"x-request-id: {request_id}")
    assert sidecar.record(request_id)["user"] == "red"


@pytest.mark.parametrize(
    "header",
    ["x-ai-eg-model: m", "x-ai-eg-original-path: /v1/chat/completions", "x-ai-eg-internal-req-id: 1"],
)
def test_without_a_key_file_ai_gateway_s_headers_make_the_channel(
    sidecar: Sidecar, upstream: Upstream, request_id: str, header: str
) -> None:
    upstream.answer(json_answer(REPLY))
    _post(sidecar, header, "x-user-id: alice", f"x-request-id: {request_id}")
    line = sidecar.record(request_id)
    assert (line["channel"], "user" in line) == ("gateway", False)


def test_without_a_key_file_and_without_those_headers_a_request_is_direct(
    sidecar: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer(REPLY))
    _post(sidecar, "x-user-id: alice", "authorization: Bearer sk-own", f"x-request-id: {request_id}")
    line = sidecar.record(request_id)
    assert (line["channel"], "user" in line) == ("direct", False)
    # The model server may want a key of its own.
    assert upstream.only.header(b"authorization") == b"Bearer sk-own"


def test_ai_gateway_s_headers_are_no_key(guarded: Sidecar, upstream: Upstream) -> None:
    assert _post(guarded, "x-ai-eg-model: m", "x-ai-eg-internal-req-id: 1").status == 401
    assert upstream.heads == []


def test_the_user_header_reaches_the_model_as_it_came(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    client.post(CHAT, BODY, "x-user-id: alice", "x-request-id: r")
    assert client.response().status == 200
    assert upstream.only.header(b"x-user-id") == b"alice"
    assert upstream.only.header(b"x-request-id") == b"r"
