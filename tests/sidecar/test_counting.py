"""The count where the server gives none, or not all of it: who gets it, and what the record says of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar.client import Client
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar
from tests.sidecar.tokens.words import put
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    COMPLETIONS,
    DONE,
    STREAM_HEAD,
    chat_chunk,
    chunk,
    event,
    events,
    json_answer,
    stream,
    text_chunk,
    usage,
)

GATEWAY = "x-ai-eg-model: m"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
WORDS = ["four ", "five ", "six ", "seven"]
SILENT = [*(chat_chunk(word) for word in WORDS), chat_chunk(finish="stop")]


def words(question: dict[str, Any]) -> int:
    """A tokenizer whose tokens are words, and two more for each chat's template."""
    if "messages" in question:
        return 2 + sum(len(message["content"].split()) for message in question["messages"])
    return len(question["prompt"].split())


@pytest.fixture
def counting(start_sidecar: StartSidecar, upstream: Upstream) -> Sidecar:
    """Before a server without usage that has /tokenize."""
    upstream.count_tokens = words
    return start_sidecar(base_path="/v1")


def told(line: dict[str, Any]) -> tuple[Any, ...]:
    names = ("input_tokens", "output_tokens", "counted_by", "exact", "outcome", "gateway_saw")
    return tuple(line[name] for name in names)


# -- by the model's own files


def test_a_silent_server_without_tokenize_is_counted_by_the_models_files(
    start_sidecar: StartSidecar, upstream: Upstream, request_id: str, tmp_path: Path
) -> None:
    put(tmp_path, "{% for m in messages %}<user> {{ m.content }} {% endfor %}<model>")
    sidecar = start_sidecar(base_path="/v1", model_dir=tmp_path)
    upstream.answer(stream(*map(event, SILENT), DONE))
    with sidecar.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        found = events(client.response().body)
    assert found[-2]["usage"] == usage(5, 4)
    expected = (5, 4, "tokenizer", False, "completed", "final_usage")
    assert told(sidecar.record(request_id)) == expected


# -- streams without usage


def test_usage_that_nobody_showed_the_gateway_is_not_called_charged(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    """Running usage that the sidecar asked for and took away, on chunks that each end a choice, and no usage chunk."""
    chunks = [{**chat_chunk(word, finish="stop"), "usage": usage(5, i)} for i, word in enumerate(WORDS, 1)]
    upstream.answer(stream(*map(event, chunks), DONE))
    body = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    with counting.client() as client:
        client.post(CHAT, body, f"x-request-id: {request_id}", GATEWAY)
        found = events(client.response().body)
    line = counting.record(request_id)
    shown = any(part.get("usage") for part in found if isinstance(part, dict))
    assert (line["output_tokens"], line["gateway_saw"] == "final_usage") == (4, shown)


def test_the_gateway_gets_the_count_on_the_last_chunk(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(*map(event, SILENT), DONE))
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        found = events(client.response().body)
    assert found == [*SILENT[:-1], {**SILENT[-1], "usage": usage(5, 4)}, "[DONE]"]
    expected = (5, 4, "tokenize", False, "completed", "final_usage")
    assert told(counting.record(request_id)) == expected


def test_who_asked_gets_a_usage_chunk_before_the_end(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(*map(event, SILENT), DONE))
    options = {"stream_options": {"include_usage": True}}
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True, **options}, f"x-request-id: {request_id}")
        *found, last, done = events(client.response().body)
    assert (found, done) == (SILENT, "[DONE]")
    assert (last["choices"], last["usage"], last["id"]) == ([], usage(5, 4), SILENT[0]["id"])
    expected = (5, 4, "tokenize", False, "completed", "nothing")
    assert told(counting.record(request_id)) == expected


def test_who_did_not_ask_gets_the_server_s_bytes(counting: Sidecar, upstream: Upstream) -> None:
    sent = b"".join([*map(event, SILENT), DONE])
    upstream.answer(stream(sent))
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True})
        assert client.response().body == sent


def test_a_stream_without_done_is_counted_too(counting: Sidecar, upstream: Upstream, request_id: str) -> None:
    upstream.answer(stream(*map(event, SILENT)))
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        assert events(client.response().body)[-1]["usage"] == usage(5, 4)
    assert counting.record(request_id)["total_tokens"] == 9


def test_each_choice_is_counted_whole(counting: Sidecar, upstream: Upstream, request_id: str) -> None:
    """Cut between chunks, `seven` would be two words; of two choices mixed, too."""
    chunks = [
        text_chunk("sev", index=0),
        text_chunk("si", index=1),
        text_chunk("en", index=0),
        text_chunk("x six", index=1),
        text_chunk(index=0, finish="stop"),
        text_chunk(index=1, finish="stop"),
    ]
    upstream.answer(stream(*map(event, chunks), DONE))
    with counting.client() as client:
        body = {"model": "m", "prompt": "one two", "n": 2, "stream": True}
        client.post(COMPLETIONS, body, f"x-request-id: {request_id}")
        assert client.response().status == 200
    line = counting.record(request_id)
    assert (line["input_tokens"], line["output_tokens"]) == (2, 3)


def test_an_aborted_stream_is_counted_to_what_was_delivered(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    closed = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, *(chunk(event(part)) for part in SILENT[:3]))
        if peer.wait_closed():
            closed.set()

    upstream.answer(script)
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        client.head()
        client.body_until(event(SILENT[2]))
    closed.pass_through()
    expected = (5, 3, "tokenize", False, "client_disconnect", "nothing")
    assert told(counting.record(request_id)) == expected


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_a_stream_that_is_aborted_before_its_first_word_costs_its_prompt(
    counting: Sidecar, upstream: Upstream, request_id: str, path: str
) -> None:
    closed = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        if peer.wait_closed():
            closed.set()

    upstream.answer(script)
    with counting.client() as client:
        client.post(path, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        client.head()
    closed.pass_through()
    line = counting.record(request_id)
    assert (line["input_tokens"] >= 3, line["output_tokens"], line["outcome"]) == (
        True,
        0,
        "client_disconnect",
    )


@pytest.mark.parametrize("how", ["broken off", "error event"])
def test_a_stream_that_fails_is_counted_to_what_was_delivered(
    counting: Sidecar, upstream: Upstream, request_id: str, how: str
) -> None:
    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, *(chunk(event(part)) for part in SILENT[:3]))
        if how == "error event":
            peer.send(chunk(event({"error": {"message": "boom"}})), chunk(DONE), b"0\r\n\r\n")
        else:
            peer.close()

    upstream.answer(script)
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        found = events(client.response().body)
    assert all("usage" not in part for part in found if part != "[DONE]")
    assert told(counting.record(request_id)) == (5, 3, "tokenize", False, "upstream_error", "nothing")


def test_a_stream_of_errors_alone_costs_nothing(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(event({"error": {"message": "boom"}}), DONE))
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "stream": True}, f"x-request-id: {request_id}", GATEWAY)
        assert client.response().status == 200
    assert told(counting.record(request_id)) == (0, 0, "none", False, "upstream_error", "nothing")


MESSAGES = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 8, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "four five "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "six"}},
]
RESPONSES = [
    {"type": "response.created", "response": {"usage": None}},
    {"type": "response.output_text.delta", "item_id": "i", "delta": "four five "},
    {"type": "response.output_text.delta", "item_id": "i", "delta": "six"},
]


@pytest.mark.parametrize(
    ("target", "sent", "counted"),
    [("/v1/messages", MESSAGES, (8, 3)), ("/v1/responses", RESPONSES, (3, 3))],
)
def test_aborted_messages_and_responses_are_counted_to_what_was_delivered(
    counting: Sidecar,
    upstream: Upstream,
    request_id: str,
    target: str,
    sent: list[Any],
    counted: tuple[int, int],
) -> None:
    closed = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, *(chunk(event(part)) for part in sent))
        if peer.wait_closed():
            closed.set()

    upstream.answer(script)
    with counting.client() as client:
        body = {"model": "m", "input": "one two three", "stream": True}
        client.post(target, body, f"x-request-id: {request_id}")
        client.head()
        client.body_until(event(sent[-1]))
    closed.pass_through()
    line = counting.record(request_id)
    assert (line["input_tokens"], line["output_tokens"], line["outcome"]) == (*counted, "client_disconnect")
    assert not line["exact"]


# -- whole answers


ANSWER = b'{ "id": "x", "choices" : [{"index":0,"message":{"content":"four five"}}], "x":1.50}'


def test_the_gateway_gets_a_usage_that_the_answer_lacks(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer(ANSWER))
    with counting.client() as client:
        client.post(CHAT, ASKED, f"x-request-id: {request_id}", GATEWAY)
        found = client.response()
    assert found.body.startswith(ANSWER[:-1])
    assert found.json["usage"] == usage(5, 2)
    assert told(counting.record(request_id)) == (5, 2, "tokenize", False, "completed", "final_usage")


def test_a_direct_client_gets_the_answer_as_it_is(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer(ANSWER))
    with counting.client() as client:
        client.post(CHAT, ASKED, f"x-request-id: {request_id}")
        assert client.response().body == ANSWER
    assert told(counting.record(request_id)) == (5, 2, "tokenize", False, "completed", "nothing")


def test_a_usage_of_zero_is_the_server_s_word(client: Client, sidecar: Sidecar, upstream: Upstream) -> None:
    answer = {"choices": [{"message": {"content": "four"}}], "usage": usage(0, 0)}
    upstream.answer(json_answer(answer))
    before = sidecar.tokens()
    client.post(CHAT, ASKED, GATEWAY)
    assert client.response().json == answer
    assert sidecar.tokens() == before


@pytest.mark.parametrize("target", ["/v1/rerank", "/v2/rerank", "/v1/score"])
def test_a_ranking_tells_the_gateway_its_tokens_where_it_reads_them(
    client: Client, sidecar: Sidecar, upstream: Upstream, request_id: str, target: str
) -> None:
    body = b'{"results":[ {"index":0,"relevance_score":0.50} ],"usage":{"prompt_tokens":7,"total_tokens":7}}'
    upstream.answer(json_answer(body))
    client.post(target, {"model": "m"}, f"x-request-id: {request_id}", GATEWAY)
    found = client.response()
    assert found.body == body[:-1] + b',"meta":{"tokens":{"input_tokens":7,"output_tokens":0}}}'
    assert told(sidecar.record(request_id)) == (7, 0, "server", True, "completed", "final_usage")


@pytest.mark.parametrize(
    ("headers", "meta"),
    [
        ([], {}),
        ([GATEWAY], {"meta": {"tokens": {"input_tokens": 7, "output_tokens": 0}, "api_version": 2}}),
    ],
    ids=["direct", "told already"],
)
def test_a_ranking_stays_as_it_is_where_it_can(
    client: Client, upstream: Upstream, headers: list[str], meta: dict[str, Any]
) -> None:
    body = json.dumps({**meta, "results": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}).encode()
    upstream.answer(json_answer(body))
    client.post("/v1/rerank", {"model": "m"}, *headers)
    assert client.response().body == body


@pytest.mark.parametrize("end", [b"}", b"}\n", b" } \r\n"])
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_large_ranking_tells_the_gateway_its_tokens_too(
    client: Client, sidecar: Sidecar, upstream: Upstream, request_id: str, end: bytes, pieces: int
) -> None:
    text = b'"document":{"text":"%b}"}' % (b"a} " * 100_000)
    body = b'{"usage":{"prompt_tokens":7,"total_tokens":7},' + text
    size = len(body + end) // pieces + 1
    sent = [(body + end)[at : at + size] for at in range(0, len(body + end), size)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    upstream.answer(lambda peer, _: peer.send(head % len(body + end), *sent))
    client.post("/v1/rerank", {"model": "m"}, f"x-request-id: {request_id}", GATEWAY)
    found = client.response().body
    added = b',"meta":{"tokens":{"input_tokens":7,"output_tokens":0}}'
    assert found == body + end[: end.index(b"}")] + added + end[end.index(b"}") :]
    assert told(sidecar.record(request_id)) == (7, 0, "server", True, "completed", "final_usage")


# -- clients that go before a whole answer


def test_an_abandoned_answer_is_counted_by_its_prompt_and_the_server_s_pace(
    counting: Sidecar, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer({"usage": usage(5, 1_000_000)}))
    with counting.client() as client:
        client.post(CHAT, ASKED)
        assert client.response().status == 200
    arrived, closed = Gate(), Gate()

    def script(peer: Peer, _: Received) -> None:
        arrived.set()
        if peer.wait_closed():
            closed.set()

    upstream.answer(script)
    with counting.client() as client:
        client.post(CHAT, {**ASKED, "max_tokens": 7}, f"x-request-id: {request_id}")
        arrived.pass_through()
    closed.pass_through()
    line = counting.record(request_id)
    # At a million tokens in some milliseconds, any time is enough for what the client allowed.
    assert told(line) == (5, 7, "estimate", False, "client_disconnect", "nothing")


def test_an_abandoned_answer_is_finished_where_that_is_set(
    start_sidecar: StartSidecar, upstream: Upstream, request_id: str
) -> None:
    sidecar = start_sidecar(base_path="/v1", finish_abandoned=1)
    arrived, left = Gate(), Gate()

    def script(peer: Peer, _: Received) -> None:
        arrived.set()
        left.pass_through()
        peer.send(json_answer({"choices": [], "usage": usage(5, 6)}))

    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, ASKED, f"x-request-id: {request_id}")
        arrived.pass_through()
    # Another is beyond the bound; its end says that the first one's client has been seen to go.
    second, closed = Gate(), Gate()

    def beyond(peer: Peer, _: Received) -> None:
        second.set()
        if peer.wait_closed():
            closed.set()

    upstream.answer(beyond)
    with sidecar.client() as client:
        client.post(CHAT, ASKED)
        second.pass_through()
    closed.pass_through()
    left.set()
    assert told(sidecar.record(request_id)) == (5, 6, "server", True, "client_disconnect", "nothing")


def test_a_finished_answer_that_does_not_come_is_given_up(
    start_sidecar: StartSidecar, upstream: Upstream, request_id: str
) -> None:
    sidecar = start_sidecar(base_path="/v1", finish_abandoned=1, finish_abandoned_seconds=0.2)
    arrived, closed = Gate(), Gate()

    def script(peer: Peer, _: Received) -> None:
        arrived.set()
        if peer.wait_closed():
            closed.set()

    upstream.answer(script)
    with sidecar.client() as client:
        client.post(CHAT, ASKED, f"x-request-id: {request_id}")
        arrived.pass_through()
    closed.pass_through()
    line = sidecar.record(request_id)
    assert (line["counted_by"], line["outcome"], line["exact"]) == ("estimate", "client_disconnect", False)
    assert line["input_tokens"] > 0
