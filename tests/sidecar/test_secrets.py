"""A whole scenario, sidecar and ledger: no key, token, prompt or answer is in a log, a metric or a page of theirs."""

import socket
from pathlib import Path

from tests.ledger.process import Ledger
from tests.sidecar.conftest import KEY, StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.test_spool import ledger, spool, to
from tests.sidecar.upstream import Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    STREAM_HEAD,
    answer,
    chat_chunk,
    chunk,
    event,
    json_answer,
    stream,
    usage,
)

__all__ = ["ledger", "spool"]  # fixtures

PROMPT, ANSWER, TOKEN = "the-prompt-7d1", "the-answer-9c4", "the-token-5b8"
OTHERS = ["wrong-key-1a2", "the-cookie-2f7", "the-query-8e3", "the-header-3e2", "the-trailer-6f1"]
SECRETS = [KEY, PROMPT, ANSWER, TOKEN, *OTHERS]


def test_no_secret_leaves_by_a_log_a_metric_or_a_page(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path, tmp_path: Path
) -> None:
    (tmp_path / "apiKey").write_text(KEY)
    (tmp_path / "token").write_text(TOKEN)
    sidecar = start_sidecar(
        **to(ledger.port, spool, api_key_file=tmp_path / "apiKey", ledger_token_file=tmp_path / "token")
    )
    asked = _scenario(sidecar, upstream)
    eventually(lambda: ledger.total()[0] == asked, f"the ledger has {asked} events")
    pages = [
        sidecar.admin(path)[1] for path in ("/metrics", "/healthz", "/readyz", "/", f"/{PROMPT}", f"/{KEY}")
    ]
    pages += [
        _admin(sidecar, f"GET /metrics HTTP/1.1\r\nauthorization: Bearer {KEY}\r\n\r\n"),
        _admin(sidecar, KEY),
    ]
    kept = "".join(path.read_text() for path in spool.glob("*.spool"))
    sidecar.terminate()
    assert sidecar.wait() == 0
    written = {"log": sidecar.output(), "errors": sidecar.errors(), "ledger": ledger.log, "spool": kept}
    written |= {f"page {number}": page for number, page in enumerate(pages)}
    for secret in SECRETS:
        assert [where for where, text in written.items() if secret in text] == [], secret
    assert "alice" not in pages[0]  # who asked is in the log and the event, and no label


def _scenario(sidecar: Sidecar, upstream: Upstream) -> int:
    """Requests of every ending; how many of them are metered."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    keyed = (
        f"authorization: Bearer {KEY}",
        "x-user-id: alice",
        "cookie: the-cookie-2f7",
        "x-secret: the-header-3e2",
        "proxy-authorization: Basic the-header-3e2",
    )
    said = event(chat_chunk(ANSWER))
    replies = [
        json_answer(
            {"choices": [{"message": {"content": ANSWER}}], "usage": usage(3, 4)},
            "set-cookie: the-cookie-2f7",
        ),
        json_answer({"error": {"message": ANSWER}}, status="500 Internal Server Error"),
        json_answer({"error": {"message": ANSWER}}, status="400 Bad Request"),
        stream(said, event({"error": {"message": ANSWER}}), DONE),
        b"HTTP/1.1 broken " + ANSWER.encode() + b"\r\n\r\n",
        STREAM_HEAD + chunk(said) + f"{ANSWER}\r\n".encode(),
        json_answer({"usage": {"prompt_tokens": ANSWER, "completion_tokens": [ANSWER]}}),
    ]
    upstream.answer(*replies)
    for _ in replies:
        with sidecar.client() as client:
            client.post(f"{CHAT}?api_key=the-query-8e3", {**body, "stream": True}, *keyed)
            client.response()
    refused = [
        (f"authorization: Bearer {OTHERS[0]}",),
        ("authorization: Basic wrong-key-1a2",),
        (*keyed, f"content-encoding: {PROMPT}"),
    ]
    for headers in refused:
        with sidecar.client() as client:
            client.post(CHAT, body, *headers)
            assert client.response().status in (401, 415)
    for raw in (f'{{"model": "m", "{PROMPT}'.encode(), f'{{"stream": "{PROMPT}"}}'.encode(), PROMPT.encode()):
        with sidecar.client() as client:
            client.post(CHAT, raw, *keyed)
            assert client.response().status == 400
    upstream.answer(answer(ANSWER.encode()))
    with sidecar.client() as client:
        client.request("PUT", "/upload?token=the-query-8e3", *keyed, body=PROMPT.encode())
        assert client.response().status == 200
        client.send(f"GET /{PROMPT} HTTP/1.1\r\nhost : {KEY}\r\n\r\n".encode())
        assert client.response().status == 400
    return len(replies) + len(refused) + 3


def _admin(sidecar: Sidecar, raw: str) -> str:
    """What the admin port answers to these bytes."""
    with socket.create_connection(("127.0.0.1", sidecar.admin_port), 10) as connection:
        connection.sendall(raw.encode())
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received.decode()


def test_who_forges_an_identity_is_counted_as_the_gateway_counts(
    guarded: Sidecar, upstream: Upstream, request_id: str
) -> None:
    """Of two user headers Envoy's rate limit takes the first; so does the count. Without the key none is believed."""
    upstream.answer(json_answer({"usage": usage(3, 4)}))
    users = ("x-user-id: first", "X-User-Id: second", "x_user_id: third", "connection: x-user-id")
    with guarded.client() as client:
        client.post(
            CHAT, {"model": "m"}, f"authorization: Bearer {KEY}", *users, f"x-request-id: {request_id}"
        )
        assert client.response().status == 200
        client.post(CHAT, {"model": "m"}, "x-ai-eg-model: m", *users, f"x-request-id: {request_id}-2")
        assert client.response().status == 401
    assert guarded.record(request_id)["user"] == "first"
    assert "user" not in guarded.record(f"{request_id}-2")


def test_an_answer_cannot_name_a_user_or_a_channel(
    guarded: Sidecar, upstream: Upstream, request_id: str
) -> None:
    """A model server that is not trusted with identities: what it says of them is only its answer."""
    upstream.answer(
        json_answer({"usage": usage(3, 4), "user": "bob"}, "x-user-id: bob", "x-ai-eg-model: other")
    )
    with guarded.client() as client:
        client.post(
            CHAT, {"model": "m", "user": "bob"}, f"authorization: Bearer {KEY}", f"x-request-id: {request_id}"
        )
        assert client.response().status == 200
    line = guarded.record(request_id)
    assert ("user" in line, line["model"]) == (False, "m")
