"""Event streams as servers really write them, and however the network cuts them."""

import gzip
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sidecar.client import Client
from tests.sidecar.process import Sidecar
from tests.sidecar.upstream import Gate, Peer, Received, Script, Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    chat_chunk,
    chunk,
    event,
    events,
    stream,
    usage,
    usage_chunk,
)

GATEWAY = "x-ai-eg-model: m"
ASKS = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
DOES_NOT_ASK = {"model": "m", "stream": True}

TALK = [
    event(chat_chunk("héllo 😀")),
    event(chat_chunk('a "usage": {"prompt_tokens": 99}')),
    event(chat_chunk("\r\n\n data:[DONE]")),
    event(chat_chunk(finish="stop")),
]
FINAL = event(usage_chunk(usage(5, 6)))


class Counted:
    """What the sidecar counts from one moment on."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._before = sidecar.tokens(endpoint="chat_completions")

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output."""
        after = self._sidecar.tokens(endpoint="chat_completions")
        return after[0] - self._before[0], after[1] - self._before[1]


@pytest.fixture
def counted(sidecar: Sidecar) -> Counted:
    return Counted(sidecar)


def _cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes cut at these places."""
    ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


def _sent_in(sidecar: Sidecar, pieces: Sequence[bytes]) -> Script:
    """A stream whose pieces are each read by the sidecar before the next is sent."""

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD)
        sidecar.settle()
        for piece in pieces:
            peer.send(chunk(piece))
            sidecar.settle()
        peer.send(LAST_CHUNK)

    return script


def _ask(client: Client, body: object, *headers: str) -> bytes:
    client.post(CHAT, body, *headers)
    response = client.response()
    assert response.status == 200
    return response.body


# -- cuts


_STREAMS = {
    "LF": b"".join([*TALK, FINAL, DONE]),
    "CRLF": b"".join([*TALK, FINAL, DONE]).replace(b"\n", b"\r\n"),
    "CR": b"".join([*TALK, FINAL, DONE]).replace(b"\n", b"\r"),
    "comments": b": ping\n\n" + b": keep-alive\n\n".join([*TALK, FINAL, DONE]) + b": bye\n\n",
    "no space": b"".join([*TALK, FINAL, DONE]).replace(b"data: ", b"data:"),
    "other fields": b"".join(b"event: x\nid: 1\nretry: 5\n" + part for part in [*TALK, FINAL, DONE]),
    "usage on the last content chunk": b"".join(
        [*TALK[:-1], event(chat_chunk(finish="stop", usage=usage(5, 6))), DONE]
    ),
}
_CUTS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_PLACES = st.lists(st.integers(0, 4000), max_size=6)


@_CUTS
@given(name=st.sampled_from(sorted(_STREAMS)), places=_PLACES)
def test_any_cut_gives_who_asked_the_same_bytes_and_the_same_count(
    sidecar: Sidecar, upstream: Upstream, name: str, places: list[int]
) -> None:
    data = _STREAMS[name]
    upstream.answer(_sent_in(sidecar, _cut(data, places)))
    counted = Counted(sidecar)
    with sidecar.client() as client:
        assert _ask(client, ASKS) == data
    assert counted.tokens == (5, 6)


@_CUTS
@given(name=st.sampled_from(sorted(_STREAMS)), places=_PLACES, through_gateway=st.booleans())
def test_any_cut_gives_who_did_not_ask_the_same_bytes_and_the_same_count(
    sidecar: Sidecar, upstream: Upstream, name: str, places: list[int], through_gateway: bool
) -> None:
    data = _STREAMS[name]
    headers = [GATEWAY] if through_gateway else []
    pieces = _cut(data, places)
    counted = Counted(sidecar)
    upstream.answer(stream(data), _sent_in(sidecar, pieces))
    with sidecar.client() as client:
        whole = _ask(client, DOES_NOT_ASK, *headers)
        assert _ask(client, DOES_NOT_ASK, *headers) == whole
    assert counted.tokens == (10, 12)
    chunks = [part for part in events(whole) if part != "[DONE]"]
    assert [part["choices"][0]["delta"] for part in chunks] == [
        {"content": "héllo 😀"},
        {"content": 'a "usage": {"prompt_tokens": 99}'},
        {"content": "\r\n\n data:[DONE]"},
        {},
    ]
    assert ["usage" in part for part in chunks] == [False, False, False, through_gateway]


@pytest.mark.parametrize(
    ("name", "before"),
    [(name, before) for name in _STREAMS for before in range(5)],
)
def test_a_cut_around_every_event_s_end_changes_nothing(
    sidecar: Sidecar, client: Client, upstream: Upstream, name: str, before: int
) -> None:
    data = _STREAMS[name]
    ends = [match.end() - before for match in re.finditer(rb"\r\n\r\n|\n\n|\r\r", data)]
    cut = _sent_in(sidecar, _cut(data, ends))
    counted = Counted(sidecar)
    upstream.answer(cut, stream(data), cut)
    assert _ask(client, ASKS) == data
    whole = _ask(client, DOES_NOT_ASK, GATEWAY)
    assert _ask(client, DOES_NOT_ASK, GATEWAY) == whole
    assert counted.tokens == (15, 18)


def test_byte_by_byte(sidecar: Sidecar, client: Client, upstream: Upstream, counted: Counted) -> None:
    data = b"".join([TALK[3], FINAL, DONE])
    upstream.answer(_sent_in(sidecar, [data[at : at + 1] for at in range(len(data))]))
    assert _ask(client, DOES_NOT_ASK) == TALK[3] + DONE
    assert counted.tokens == (5, 6)


def test_an_event_leaves_when_it_is_whole(sidecar: Sidecar, client: Client, upstream: Upstream) -> None:
    """An event that is cut waits for its rest, those before it do not."""
    gate = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(TALK[0] + TALK[1][:20]))
        gate.pass_through()
        peer.send(chunk(TALK[1][20:] + DONE), LAST_CHUNK)

    upstream.answer(script)
    client.post(CHAT, DOES_NOT_ASK)
    client.head()
    client.body_until(TALK[0])
    gate.set()
    assert client.rest() == TALK[0] + TALK[1] + DONE


# -- ways to write an event


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda data: b"data: " + data + b"\n\n", id="data: and a space"),
        pytest.param(lambda data: b"data:" + data + b"\n\n", id="data: without a space"),
        pytest.param(lambda data: b"data:  " + data + b"\n\n", id="two spaces"),
        pytest.param(lambda data: b"data: " + data + b"\r\n\r\n", id="CRLF"),
        pytest.param(lambda data: b"data: " + data + b"\r\r", id="CR"),
        pytest.param(lambda data: b"data: " + data + b"\r\n\n", id="CRLF and LF"),
        pytest.param(lambda data: b"data: " + data + b"\n\n\n\n", id="more blank lines"),
        pytest.param(
            lambda data: b"event: message\nid: 7\ndata: " + data + b"\n\n", id="other fields before"
        ),
        pytest.param(lambda data: b"data: " + data + b"\nid: 7\n\n", id="other fields after"),
        pytest.param(lambda data: b": ping\ndata: " + data + b"\n\n", id="a comment inside"),
        pytest.param(lambda data: b": ping\n\ndata: " + data + b"\n\n", id="a comment before"),
        pytest.param(
            lambda data: b"data: " + data.replace(b",", b",\ndata: ") + b"\n\n", id="several data lines"
        ),
        pytest.param(
            lambda data: b"data: " + data.replace(b",", b" ,\t").replace(b":", b" : ") + b"\n\n",
            id="white space",
        ),
    ],
)
@pytest.mark.parametrize("headers", [[GATEWAY], []], ids=["gateway", "direct"])
def test_however_events_are_written_the_usage_is_found_and_goes_where_it_belongs(
    client: Client, upstream: Upstream, counted: Counted, write: Any, headers: list[str]
) -> None:
    chunks = [chat_chunk("a"), chat_chunk("b"), chat_chunk(finish="stop"), usage_chunk(usage(5, 6))]
    sent = [write(json.dumps(part).encode()) for part in chunks]
    upstream.answer(stream(*sent, write(b"[DONE]").replace(b",", b"")))
    body = _ask(client, DOES_NOT_ASK, *headers)
    *found, done = events(body)
    assert done == "[DONE]"
    bare = [{name: value for name, value in part.items() if name != "usage"} for part in found]
    assert bare == chunks[:3]
    totals = [part["usage"]["total_tokens"] if "usage" in part else None for part in found]
    assert totals == [None, None, 11 if headers else None]
    assert counted.tokens == (5, 6)


def test_a_byte_order_mark_is_no_obstacle(client: Client, upstream: Upstream, counted: Counted) -> None:
    data = b"\xef\xbb\xbf" + b"".join([*TALK, FINAL, DONE])
    upstream.answer(stream(data))
    assert _ask(client, ASKS) == data
    assert counted.tokens == (5, 6)


@pytest.mark.parametrize(
    "ping", [b": ping\n\n", b":\n\n", b":keep-alive\r\n\r\n", b"event: ping\n\n", b"\n\n"]
)
def test_pings_pass_at_once_and_mean_nothing(
    client: Client, upstream: Upstream, counted: Counted, ping: bytes
) -> None:
    gate = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(ping))
        gate.pass_through()
        peer.send(chunk(b"".join([*TALK, ping, FINAL, ping, DONE])), LAST_CHUNK)

    upstream.answer(script)
    client.post(CHAT, DOES_NOT_ASK)
    client.head()
    client.body_until(ping)
    gate.set()
    assert client.rest().count(ping) >= 3
    assert counted.tokens == (5, 6)


@pytest.mark.parametrize(
    "line",
    [
        b"data:\n\n",
        b"data\n\n",
        b"data: \n\n",
        b"data: 5\n\n",
        b"data: null\n\n",
        b"data: {\n\n",
        b"data: []\n\n",
    ],
)
def test_an_event_that_is_no_chunk_passes_as_it_is(
    client: Client, upstream: Upstream, counted: Counted, line: bytes
) -> None:
    upstream.answer(stream(TALK[0], line, TALK[3], FINAL, DONE))
    assert _ask(client, DOES_NOT_ASK) == b"".join([TALK[0], line, TALK[3], DONE])
    assert counted.tokens == (5, 6)


# -- the end


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["nothing", "LF", "CRLF"])
@pytest.mark.parametrize("body", [ASKS, DOES_NOT_ASK], ids=["asked", "not asked"])
def test_a_last_event_without_its_blank_line_is_counted_and_ended(
    client: Client, upstream: Upstream, counted: Counted, end: bytes, body: object
) -> None:
    """AI Gateway does not read an event that no blank line ends."""
    chunks = [chat_chunk("a"), chat_chunk(finish="stop", usage=usage(5, 6))]
    sent = event(chunks[0]) + event(chunks[1]).rstrip(b"\n") + end
    upstream.answer(stream(sent))
    found = _ask(client, body, GATEWAY)
    assert found.endswith((b"\n\n", b"\r\n\r\n", b"\n\r\n"))
    assert events(found) == chunks
    assert counted.tokens == (5, 6)


def test_a_done_without_its_blank_line_is_ended(client: Client, upstream: Upstream, counted: Counted) -> None:
    upstream.answer(stream(*TALK, FINAL, b"data: [DONE]"))
    found = _ask(client, DOES_NOT_ASK, GATEWAY)
    assert found.endswith(b"data: [DONE]\n\n")
    assert counted.tokens == (5, 6)


def test_a_stream_without_done_is_whole_when_its_body_is(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(*TALK, FINAL))
    *_, last = events(_ask(client, DOES_NOT_ASK, GATEWAY, f"x-request-id: {request_id}"))
    assert last["usage"]["total_tokens"] == 11
    assert sidecar.record(request_id)["outcome"] == "completed"


def test_a_stream_without_a_finish_reason_gets_its_usage_to_the_gateway(
    client: Client, upstream: Upstream, counted: Counted
) -> None:
    upstream.answer(stream(*TALK[:3], FINAL, DONE))
    *chunks, _ = events(_ask(client, DOES_NOT_ASK, GATEWAY))
    assert [part["usage"]["total_tokens"] for part in chunks if part.get("usage")] == [11]
    assert all(part["choices"] for part in chunks)
    assert counted.tokens == (5, 6)


def test_an_empty_stream_is_an_empty_stream(client: Client, upstream: Upstream, counted: Counted) -> None:
    upstream.answer(STREAM_HEAD + LAST_CHUNK)
    assert _ask(client, DOES_NOT_ASK) == b""
    assert counted.tokens == (0, 0)


@pytest.mark.parametrize("framing", ["content-length", "until close"])
def test_a_stream_that_is_not_chunked_is_read_too(
    client: Client, upstream: Upstream, counted: Counted, framing: str
) -> None:
    data = b"".join([*TALK, FINAL, DONE])
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    if framing == "content-length":
        head += b"content-length: %d\r\n" % len(data)

    def script(peer: Peer, _: Received) -> None:
        peer.send(head + b"\r\n", data)
        if framing == "until close":
            peer.close()

    upstream.answer(script)
    *chunks, _ = events(_ask(client, DOES_NOT_ASK, GATEWAY))
    assert chunks[-1]["usage"] == usage(5, 6)
    assert counted.tokens == (5, 6)


# -- where the usage stands


def test_usage_before_the_last_event_is_found(client: Client, upstream: Upstream, counted: Counted) -> None:
    """Kuadrant reads only the second-to-last event; the usage may stand before that."""
    more = event(chat_chunk("late"))
    upstream.answer(stream(TALK[0], TALK[3], FINAL, more, b": bye\n\n", DONE))
    chunks = [part for part in events(_ask(client, DOES_NOT_ASK, GATEWAY)) if part != "[DONE]"]
    assert sum(part["usage"]["total_tokens"] for part in chunks if part.get("usage")) == 11
    assert chunks[-1]["choices"][0]["delta"] == {"content": "late"}
    assert counted.tokens == (5, 6)


def test_usage_after_done_is_counted(client: Client, upstream: Upstream, counted: Counted) -> None:
    upstream.answer(stream(*TALK, DONE, FINAL))
    assert events(_ask(client, ASKS))[-2:] == ["[DONE]", usage_chunk(usage(5, 6))]
    assert counted.tokens == (5, 6)


def test_an_early_usage_of_zero_does_not_win(client: Client, upstream: Upstream, counted: Counted) -> None:
    early = [event(chat_chunk("a", usage=usage(0, 0))), event(usage_chunk(usage(0, 0)))]
    upstream.answer(stream(*early, *TALK, FINAL, DONE))
    chunks = [part for part in events(_ask(client, DOES_NOT_ASK, GATEWAY)) if part != "[DONE]"]
    assert chunks[-1]["usage"]["total_tokens"] == 11
    assert counted.tokens == (5, 6)


def test_running_usage_that_is_far_off_yields_to_the_final_one(
    client: Client, upstream: Upstream, counted: Counted
) -> None:
    upstream.answer(stream(event(chat_chunk("a", usage=usage(5, 19503))), TALK[3], FINAL, DONE))
    _ask(client, DOES_NOT_ASK)
    assert counted.tokens == (5, 6)


def test_a_true_usage_of_zero_is_counted_as_zero(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(stream(*TALK, event(usage_chunk(usage(0, 0))), DONE))
    _ask(client, DOES_NOT_ASK, f"x-request-id: {request_id}")
    line = sidecar.record(request_id)
    assert (line["total_tokens"], line["counted_by"], line["exact"]) == (0, "server", True)


def test_a_chunk_without_choices_and_usage_is_the_server_s_own(client: Client, upstream: Upstream) -> None:
    """Azure's first chunk has prompt_filter_results and no choices."""
    azure = event({"id": "", "object": "", "choices": [], "prompt_filter_results": []})
    upstream.answer(stream(azure, *TALK, FINAL, DONE))
    assert _ask(client, DOES_NOT_ASK) == b"".join([azure, *TALK, DONE])


def test_the_word_usage_in_the_text_is_text(client: Client, upstream: Upstream, counted: Counted) -> None:
    """The answer's text is not changed, whatever it says."""
    texts = [
        '","usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}',
        '"usage":{"prompt_tokens":9}',
        ',"usage":{"a":1}}',
        '"finish_reason":"stop"',
        '"error":{"message":"no"}',
        '"choices":[]',
        "data: [DONE]\n\n",
    ]
    sent = [event(chat_chunk(text)) for text in texts]
    upstream.answer(stream(*sent, TALK[3], FINAL, DONE))
    assert _ask(client, DOES_NOT_ASK) == b"".join([*sent, TALK[3], DONE])
    assert counted.tokens == (5, 6)


def test_a_usage_inside_of_a_choice_is_not_the_request_s(
    vllm: Sidecar, upstream: Upstream, request_id: str
) -> None:
    chunks = [
        chat_chunk("a"),
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"function": {"arguments": "{}"}}]},
                    "usage": usage(9, 9),
                }
            ]
        },
        chat_chunk(finish="stop"),
    ]
    upstream.answer(stream(*map(event, chunks), FINAL, DONE))
    with vllm.client() as client:
        assert events(_ask(client, DOES_NOT_ASK, f"x-request-id: {request_id}")) == [*chunks, "[DONE]"]
    assert vllm.record(request_id)["total_tokens"] == 11


def test_other_members_of_a_chunk_that_loses_its_usage_stay_as_they_are(
    vllm: Sidecar, upstream: Upstream
) -> None:
    """Also where the usage does not stand last, and where it has objects inside."""
    details = usage(5, 6, prompt_tokens_details={"cached_tokens": 1})
    chunks: list[dict[str, Any]] = [
        {"usage": details, "id": "1", "choices": [{"index": 0, "delta": {"content": "a"}}], "x": 1.50},
        {
            "id": "1",
            "usage": details,
            "choices": [{"index": 0, "delta": {"content": "b"}}],
            "timings": {"n": 1},
        },
        {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": details},
    ]
    upstream.answer(stream(*map(event, chunks), DONE))
    with vllm.client() as client:
        found = events(_ask(client, DOES_NOT_ASK))[:-1]
    assert found == [{name: value for name, value in part.items() if name != "usage"} for part in chunks]
    assert [list(part) for part in found] == [
        ["id", "choices", "x"],
        ["id", "choices", "timings"],
        ["id", "choices"],
    ]


# -- errors


ERROR = event({"error": {"message": "CUDA out of memory", "type": "InternalServerError", "code": 500}})


@pytest.mark.parametrize("body", [ASKS, DOES_NOT_ASK], ids=["asked", "not asked"])
def test_an_error_inside_of_a_200_is_no_success(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str, body: object
) -> None:
    """vLLM sends [DONE] after it: "[DONE] seen" is not success."""
    sent = [TALK[0], ERROR, DONE]
    upstream.answer(_sent_in(sidecar, sent))
    assert _ask(client, body, f"x-request-id: {request_id}") == b"".join(sent)
    line = sidecar.record(request_id)
    assert (line["outcome"], line["status"]) == ("upstream_error", 200)


def test_an_error_after_running_usage_is_counted_so_far(
    vllm: Sidecar, upstream: Upstream, request_id: str
) -> None:
    chunks = [event(chat_chunk("a", usage=usage(5, number))) for number in (1, 2)]
    upstream.answer(stream(*chunks, ERROR, DONE))
    with vllm.client() as client:
        _ask(client, DOES_NOT_ASK, f"x-request-id: {request_id}")
    line = vllm.record(request_id)
    assert (line["input_tokens"], line["output_tokens"], line["outcome"]) == (5, 2, "upstream_error")


# -- size


@pytest.mark.parametrize("size", [9_000, 100_000, 1_500_000])
@pytest.mark.parametrize("headers", [[GATEWAY], []], ids=["gateway", "direct"])
def test_large_events_pass_whole(
    client: Client, upstream: Upstream, counted: Counted, size: int, headers: list[str]
) -> None:
    """Envoy's sse_to_metadata gives up at 8 KiB, APISIX at 1 MiB."""
    large = chat_chunk("x" * size)
    upstream.answer(stream(event(large), event(chat_chunk(finish="stop", logprobs="y" * size)), FINAL, DONE))
    first, last, _ = events(_ask(client, DOES_NOT_ASK, *headers))
    assert first == large
    assert ("usage" in last) is bool(headers)
    assert counted.tokens == (5, 6)


def test_an_endless_event_is_not_kept_in_memory(sidecar: Sidecar, client: Client, upstream: Upstream) -> None:
    size = 64 * 1024 * 1024
    piece = chunk(b"x" * 65536)

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: "), *[piece] * (size // 65536), chunk(b"\n\n"), LAST_CHUNK)

    before = sidecar.resident_bytes()
    upstream.answer(script)
    client.post(CHAT, DOES_NOT_ASK)
    client.head()
    received = 0
    while chunk_ := client.receive_some(1 << 20):
        received += len(chunk_)
        if chunk_.endswith(LAST_CHUNK):
            break
    assert received > size
    assert sidecar.resident_bytes() - before < 32 * 1024 * 1024


def test_a_stream_that_the_server_compressed_passes_as_it_is(client: Client, upstream: Upstream) -> None:
    """The sidecar asks for identity; a server that compresses all the same is not broken."""
    packed = gzip.compress(b"".join([*TALK, FINAL, DONE]))
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    upstream.answer(head + chunk(packed[:40]) + chunk(packed[40:]) + LAST_CHUNK)
    client.post(CHAT, DOES_NOT_ASK, "accept-encoding: gzip")
    response = client.response()
    assert (response.body, response.header(b"content-encoding")) == (packed, b"gzip")
