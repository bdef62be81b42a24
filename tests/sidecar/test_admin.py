"""The admin port, the metrics and the log."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.sidecar.client import Client
from tests.sidecar.conftest import KEY, StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    EMBEDDINGS,
    answer,
    chat_chunk,
    event,
    json_answer,
    stream,
    usage,
    usage_chunk,
)

REPLY = {"id": "x", "usage": usage(3, 4)}


# -- health and readiness


def test_it_is_healthy_and_not_ready_while_the_model_loads(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    upstream.stop()
    sidecar = start_sidecar(wait=False)
    eventually(lambda: sidecar.admin("/healthz")[0] == 200, "the sidecar lives")
    status, text = sidecar.admin("/readyz")
    assert status == 503
    assert f"http://127.0.0.1:{upstream.port}" in text
    upstream.start()
    eventually(lambda: sidecar.admin("/readyz")[0] == 200, "the sidecar is ready")


def test_ready_follows_the_model(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar()
    assert sidecar.admin("/readyz")[0] == 200
    upstream.ready = False
    eventually(lambda: sidecar.admin("/readyz")[0] == 503, "the model has gone")
    assert sidecar.admin("/healthz")[0] == 200
    upstream.ready = True
    eventually(lambda: sidecar.admin("/readyz")[0] == 200, "the model is back")


def test_in_knative_the_data_port_opens_when_the_model_answers(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    """The revision is ready when a TCP connect succeeds."""
    upstream.ready = False
    sidecar = start_sidecar(wait=False, wait_for_model="true")
    eventually(lambda: sidecar.admin("/readyz")[0] == 503, "the sidecar has asked")
    assert not sidecar.listens()
    upstream.ready = True
    eventually(sidecar.listens, "the port is open")


def test_without_that_the_data_port_is_open_at_once(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    upstream.stop()
    sidecar = start_sidecar(wait=False)
    eventually(sidecar.listens, "the port is open")
    with sidecar.client() as client:
        client.post(CHAT, {"model": "m"})
        assert client.response().status == 503


def test_admin_paths_are_not_served_on_the_data_port(client: Client, upstream: Upstream) -> None:
    """There /metrics is the model server's."""
    upstream.answer(answer(b"vllm:metrics 1"))
    client.request("GET", "/metrics")
    assert client.response().body == b"vllm:metrics 1"


def test_the_admin_port_serves_nothing_else(sidecar: Sidecar) -> None:
    assert sidecar.admin("/v1/models")[0] == 404
    with Client(sidecar.admin_port) as client:
        client.request("POST", "/metrics", body=b"{}")
        assert client.response().status == 405


def test_the_admin_port_answers_head(sidecar: Sidecar) -> None:
    with Client(sidecar.admin_port) as client:
        client.request("HEAD", "/healthz")
        response = client.response("HEAD")
        assert (response.status, response.body) == (200, b"")


# -- metrics


def _labels(sidecar: Sidecar, name: str) -> list[dict[str, str]]:
    return [dict(labels) for sample, labels in sidecar.metrics() if sample == name]


def test_tokens_and_requests_are_counted_by_their_labels(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    sidecar = start_sidecar(base_path="/v1", models="llama,lora")
    upstream.answer(
        json_answer(REPLY),
        json_answer(REPLY),
        json_answer({"usage": {"prompt_tokens": 9, "total_tokens": 9}}),
    )
    with sidecar.client() as client:
        for target, headers in ((CHAT, []), (CHAT, ["x-ai-eg-model: llama"]), (EMBEDDINGS, [])):
            client.post(target, {"model": "llama"}, *headers)
            assert client.response().status == 200
    metrics = sidecar.metrics()

    def value(name: str, **labels: str) -> float:
        return metrics[name, frozenset(labels.items())]

    tokens = {"model": "llama", "outcome": "completed"}
    assert value("token_meter_tokens_total", endpoint="chat_completions", direction="input", **tokens) == 6
    assert value("token_meter_tokens_total", endpoint="chat_completions", direction="output", **tokens) == 8
    assert value("token_meter_tokens_total", endpoint="embeddings", direction="input", **tokens) == 9
    requests = {"model": "llama", "outcome": "completed", "status": "200"}
    for channel in ("direct", "gateway"):
        assert (
            value("token_meter_requests_total", endpoint="chat_completions", channel=channel, **requests) == 1
        )
    assert value("token_meter_requests_in_flight") == 0


def test_requests_in_flight_are_seen(sidecar: Sidecar, client: Client, upstream: Upstream) -> None:
    arrived, gate = Gate(), Gate()

    def held(peer: Peer, _: Received) -> None:
        arrived.set()
        gate.pass_through()
        peer.send(json_answer(REPLY))

    upstream.answer(held)
    client.post(CHAT, {"model": "m"})
    arrived.pass_through()
    assert sidecar.total("token_meter_requests_in_flight") == 1
    gate.set()
    client.response()
    assert sidecar.total("token_meter_requests_in_flight") == 0


def test_a_request_is_counted_before_its_client_has_the_end(
    sidecar: Sidecar, client: Client, upstream: Upstream
) -> None:
    upstream.answer(stream(event(chat_chunk("a")), event(usage_chunk(usage(5, 6))), DONE))
    before = sidecar.tokens()
    for number in range(1, 20):
        client.post(CHAT, {"model": "m", "stream": True})
        assert client.response().status == 200
        after = sidecar.tokens()
        assert (after[0] - before[0], after[1] - before[1]) == (5 * number, 6 * number)


def test_times_are_measured_under_the_names_of_opentelemetry(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    sidecar = start_sidecar(base_path="/v1")
    upstream.answer(stream(event(chat_chunk("a")), event(usage_chunk(usage(5, 6))), DONE))
    with sidecar.client() as client:
        client.post(CHAT, {"model": "m", "stream": True})
        assert client.response().status == 200
    for name in (
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
        "token_meter_overhead_seconds",
    ):
        assert sidecar.total(f"{name}_count") == 1, name
    _, text = sidecar.admin("/metrics")
    for family in ("token_meter_tokens_total counter", "token_meter_requests_in_flight gauge"):
        assert f"# TYPE {family}" in text


def test_no_user_is_a_label_by_default(guarded: Sidecar, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    with guarded.client() as client:
        client.post(CHAT, {"model": "m"}, f"authorization: Bearer {KEY}", "x-user-id: alice-in-metrics")
        assert client.response().status == 200
    assert "alice-in-metrics" not in guarded.admin("/metrics")[1]


def test_users_are_a_label_by_choice_and_bounded(
    start_sidecar: StartSidecar, upstream: Upstream, tmp_path: Any
) -> None:
    (tmp_path / "apiKey").write_text(KEY)
    sidecar = start_sidecar(base_path="/v1", api_key_file=tmp_path / "apiKey", user_metrics=2)
    upstream.answer(json_answer(REPLY))
    with sidecar.client() as client:
        for number in range(5):
            client.post(CHAT, {"model": "m"}, f"authorization: Bearer {KEY}", f"x-user-id: u{number}")
            assert client.response().status == 200
    users = {labels["user"] for labels in _labels(sidecar, "token_meter_user_tokens_total")}
    assert len(users) == 3
    assert sidecar.total("token_meter_user_tokens_total") == 5 * 7


def test_clients_cannot_make_labels_at_will(start_sidecar: StartSidecar, upstream: Upstream) -> None:
    sidecar = start_sidecar(base_path="/v1", models="llama")
    upstream.answer(json_answer({"error": {"message": "no"}}, status="404 Not Found"))
    with sidecar.client() as client:
        for number in range(100):
            client.post(CHAT, {"model": f"made-up-{number}"})
            assert client.response().status == 404
        upstream.answer(json_answer(REPLY))
        for number in range(300):
            client.post(CHAT, {"model": f"served-{number}"})
            assert client.response().status == 200
    assert "made-up" not in sidecar.admin("/metrics")[1]
    assert len({labels["model"] for labels in _labels(sidecar, "token_meter_requests_total")}) <= 100
    assert sidecar.tokens() == (900, 1200)


# -- the log


_FIELDS = {
    "time",
    "event",
    "model",
    "endpoint",
    "channel",
    "stream",
    "status",
    "outcome",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "counted_by",
    "exact",
    "gateway_saw",
    "charged_by_gateway",
    "request_id",
    "duration_ms",
    "ttft_ms",
}


def test_each_request_has_one_line_with_its_usage(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    count = usage(
        5,
        6,
        prompt_tokens_details={"cached_tokens": 3},
        completion_tokens_details={"reasoning_tokens": 2},
    )
    upstream.answer(stream(event(chat_chunk("a")), event(usage_chunk(count)), DONE))
    client.post(CHAT, {"model": "m", "stream": True}, f"x-request-id: {request_id}")
    assert client.response().status == 200
    line = sidecar.record(request_id)
    assert set(line) == _FIELDS
    assert line["duration_ms"] >= line["ttft_ms"] > 0
    del line["time"], line["duration_ms"], line["ttft_ms"]
    assert line == {
        "event": "request",
        "model": "m",
        "endpoint": "chat_completions",
        "channel": "direct",
        "stream": True,
        "status": 200,
        "outcome": "completed",
        "input_tokens": 5,
        "output_tokens": 6,
        "total_tokens": 11,
        "cached_input_tokens": 3,
        "reasoning_tokens": 2,
        "counted_by": "server",
        "exact": True,
        "gateway_saw": "nothing",
        "charged_by_gateway": False,
        "request_id": request_id,
    }


def test_a_request_without_an_id_gets_one(sidecar: Sidecar, client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer(REPLY))
    seen = {line.get("request_id") for line in sidecar.lines()}
    for _ in range(2):
        client.post(CHAT, {"model": "without-an-id"})
        assert client.response().status == 200

    def new() -> list[str]:
        return [
            line["request_id"]
            for line in sidecar.lines()
            if line.get("model") == "without-an-id" and line["request_id"] not in seen
        ]

    first, second = eventually(lambda: found if len(found := new()) == 2 else None, "two lines") or ("", "")
    assert first != second


def test_neither_prompt_nor_answer_nor_key_is_logged(
    guarded: Sidecar, upstream: Upstream, request_id: str
) -> None:
    secret_prompt, secret_answer = "the-prompt-7d1", "the-answer-9c4"
    replies = [
        json_answer({"choices": [{"message": {"content": secret_answer}}], "usage": usage(3, 4)}),
        json_answer({"error": {"message": secret_answer}}, status="500 Internal Server Error"),
        stream(event(chat_chunk(secret_answer)), event({"error": {"message": secret_answer}}), DONE),
        b"HTTP/1.1 broken " + secret_answer.encode() + b"\r\n\r\n",
    ]
    upstream.answer(*replies)
    for _ in replies:
        with guarded.client() as client:
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": secret_prompt}]}
            client.post(CHAT, body, f"authorization: Bearer {KEY}", "x-secret: the-header-3e2")
            client.response()
    with guarded.client() as client:
        client.post(CHAT, f'{{"model": "m", "{secret_prompt}'.encode(), f"authorization: Bearer {KEY}")
        assert client.response().status == 400
        client.post(CHAT, {"model": "m"}, f"authorization: Bearer {KEY}-wrong", f"x-request-id: {request_id}")
        assert client.response().status == 401
    guarded.record(request_id)  # the last line is there, and so are those before it
    for secret in (secret_prompt, secret_answer, "the-header-3e2", KEY):
        assert secret not in guarded.output()


def test_a_log_line_is_one_line_whatever_a_client_sends(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer(REPLY))
    model = 'm\n{"event":"request"}\u2028\x00é'
    client.post(CHAT, {"model": model}, f"x-request-id: {request_id}")
    assert client.response().status == 200
    assert sidecar.record(request_id)["model"] == model


def test_every_line_is_json_with_a_time_and_an_event(sidecar: Sidecar) -> None:
    lines = eventually(sidecar.lines, "a line")
    assert all(line["time"] and line["event"] for line in lines)


# -- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_METER_PORT", "http"),
        ("TOKEN_METER_PORT", "70000"),
        ("TOKEN_METER_UPSTREAM", "https://127.0.0.1:8080"),
        ("TOKEN_METER_UPSTREAM", "127.0.0.1:8080"),
        ("TOKEN_METER_BASE_PATH", "v1/"),
        ("TOKEN_METER_SERVER", "vlm"),
        ("TOKEN_METER_DRAIN_SECONDS", "soon"),
        ("TOKEN_METER_PROT", "9180"),
    ],
)
def test_a_wrong_setting_is_named_and_ends_the_start(name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sidecar"],
        env={name: value},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_said_in_a_line(sidecar: Sidecar) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sidecar"],
        env={"TOKEN_METER_HOST": "127.0.0.1", "TOKEN_METER_ADMIN_PORT": str(sidecar.admin_port)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode != 0
    assert str(sidecar.admin_port) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["event"] if ended.stdout else True
