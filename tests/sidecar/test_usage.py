"""Asking the model for usage, counting it, and what of it reaches whom."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sidecar.client import Client
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    COMPLETIONS,
    DONE,
    EMBEDDINGS,
    LAST_CHUNK,
    STREAM_HEAD,
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

GATEWAY = "x-ai-eg-model: m"
PLAIN_STREAM = stream(event(chat_chunk("a")), event(chat_chunk(finish="stop")), DONE)


def _without_options(body: bytes) -> bytes:
    """The body without the stream_options that the sidecar put in (at the beginning, or at the end)."""
    options = b'"stream_options":{"include_usage":true}'
    assert body.count(options) == 1
    at = body.index(options)
    before, after = body[:at], body[at + len(options) :]
    if after.startswith(b","):
        return before + after[1:]
    assert before.endswith(b",")
    return before[:-1] + after


# -- the request: the client's own bytes


STRANGE_BODIES = {
    "plain": b'{"model":"m","stream":true,"messages":[]}',
    "white space": b' \r\n{ "model" : "m" ,\t"stream"\n: true , "messages" : [ ] } \n',
    "stream first": b'{"stream":true,"model":"m"}',
    "stream alone": b'{"stream":true}',
    "a big integer": b'{"model":"m","stream":true,"seed":123456789012345678901234567890}',
    "floats as they were written": b'{"model":"m","stream":true,"temperature":0.70,"top_p":1E-2,"x":-0.0}',
    "a float of many digits": b'{"model":"m","stream":true,"x":0.12345678901234567890123}',
    "unicode escapes": rb'{"model":"m","stream":true,"prompt":"\u00e9\ud83d\ude00\/\u0000 \"stream_options\""}',
    "raw unicode": '{"model":"m","stream":true,"prompt":"é😀\u2028"}'.encode(),
    "other names twice": b'{"model":"m","stop":"a","stream":true,"stop":"b"}',
    "the names inside": b'{"model":"m","stream":true,"x":{"stream":false,"stream_options":{"include_usage":false}}}',
    "the names in a text": rb'{"model":"m","stream":true,"prompt":"\"stream\":false,\"stream_options\":{}"}',
    "braces in a text": b'{"model":"m","prompt":"}{][\\\\","stream":true}',
    "a large prompt": b'{"model":"m","prompt":"%b","stream":true}' % (b"word " * 60_000),
    "a large prompt with escapes": b'{"stream":true,"prompt":"%b","model":"m"}' % (rb"\"\u00e9\\" * 30_000),
}


@pytest.mark.parametrize("target", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("body", STRANGE_BODIES.values(), ids=STRANGE_BODIES)
def test_a_stream_is_asked_for_usage_and_else_stays_byte_for_byte(
    client: Client, upstream: Upstream, target: str, body: bytes
) -> None:
    upstream.answer(PLAIN_STREAM)
    client.post(target, body)
    assert client.response().status == 200
    seen = upstream.only
    assert json.loads(seen.body)["stream_options"] == {"include_usage": True}
    assert _without_options(seen.body) == body
    assert seen.header(b"content-length") == b"%d" % len(seen.body)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.dictionaries(
        st.text(max_size=8).filter(lambda name: name not in ("model", "stream", "stream_options", "n")),
        _json,
        max_size=5,
    ),
    at=st.integers(0, 5),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_any_body_is_spliced_and_not_written_anew(
    sidecar: Sidecar,
    upstream: Upstream,
    members: dict[str, Any],
    at: int,
    ascii_only: bool,
    indent: int | None,
) -> None:
    names = list(members.items())
    whole = dict([*names[:at], ("stream", True), *names[at:]])
    body = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()
    upstream.received.clear()
    upstream.answer(PLAIN_STREAM)
    with sidecar.client() as client:
        client.post(CHAT, body)
        assert client.response().status == 200
    assert _without_options(upstream.only.body) == body


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CHAT, b'{ "model":"m","messages":[] }'),
        (CHAT, b'{"model":"m","stream":false, "seed":1e1}'),
        (CHAT, b'{"model":"m","stream":null}'),
        (EMBEDDINGS, b'{"model":"m","input":"a","stream":true}'),
        ("/v1/responses", b'{"model":"m","input":"a", "stream":true}'),
        ("/v1/messages", b'{"model":"m","max_tokens":1, "stream":true}'),
        ("/rerank", b'{"model":"m","query":"a", "documents":[]}'),
    ],
)
def test_what_is_no_stream_of_chunks_goes_as_it_came(
    client: Client, upstream: Upstream, target: str, body: bytes
) -> None:
    upstream.answer(json_answer({"usage": usage(1, 1)}))
    client.post(target, body)
    assert client.response().status == 200
    assert upstream.only.body == body


def test_a_client_that_asks_is_passed_on_as_it_came(client: Client, upstream: Upstream) -> None:
    body = b'{"model":"m", "stream":true,"stream_options": {"include_usage" :true , "x":1.0}}'
    upstream.answer(PLAIN_STREAM)
    client.post(CHAT, body)
    assert client.response().status == 200
    assert upstream.only.body == body


@pytest.mark.parametrize("options", ["{}", '{"include_usage":false}', '{ "x" : [1.50] }', "null"])
def test_a_client_s_stream_options_are_kept(client: Client, upstream: Upstream, options: str) -> None:
    body = b'{"model":"m","stream_options":%b,"stream":true,"x":1.50}' % options.encode()
    upstream.answer(PLAIN_STREAM)
    client.post(CHAT, body)
    assert client.response().status == 200
    seen = upstream.only.body
    given = json.loads(options) or {}
    assert json.loads(seen)["stream_options"] == {**given, "include_usage": True}
    start = body.index(options.encode())
    assert seen.startswith(body[:start])
    assert seen.endswith(body[start + len(options) :])


def test_vllm_is_asked_for_running_usage_too(vllm: Sidecar, upstream: Upstream) -> None:
    upstream.answer(PLAIN_STREAM)
    with vllm.client() as client:
        client.post(CHAT, {"model": "m", "stream": True})
        assert client.response().status == 200
    assert json.loads(upstream.only.body)["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","stream":false,"stream":true}',
        b'{"model":"m","stream":true,"stream_options":{},"stream_options":{"include_usage":false}}',
        rb'{"model":"m","stream":true,"stre\u0061m":false}',
        b'{"model":"m","model":"other"}',
        b'{"model":"m","stream":tru}',
        b'{"model":"m"',
        b'{"model":"m"} {}',
        b'{"model":"m",}',
        b"{'model':'m'}",
        b'{"model":"m","x":NaN}',
        b'{"model":"\xff"}',
        b'\xef\xbb\xbf{"model":"m"}',
        '{"model":"m"}'.encode("utf-16"),
        b"[]",
        b'"text"',
        b"",
        b"model=m",
        b'{"model":"m","stream":"true"}',
        b'{"model":"m","stream":1}',
        b'{"model":"m","stream":true,"stream_options":"include_usage"}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":"true"}}',
        b'{"model":"m","x":"' + b"a" * 100_000 + b'",',
    ],
)
def test_400_where_the_model_could_read_another_request(
    client: Client, upstream: Upstream, body: bytes
) -> None:
    client.post(CHAT, body)
    response = client.response()
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert upstream.received == []


def test_a_compressed_request_is_refused_on_a_metered_path(client: Client, upstream: Upstream) -> None:
    client.post(CHAT, b"\x1f\x8b", "content-encoding: gzip")
    assert client.response().status in (400, 415)
    assert upstream.received == []


def test_the_model_is_asked_for_an_uncompressed_answer(client: Client, upstream: Upstream) -> None:
    upstream.answer(json_answer({"usage": usage(1, 1)}))
    client.post(CHAT, {"model": "m"}, "accept-encoding: gzip, br")
    assert client.response().status == 200
    assert upstream.only.header(b"accept-encoding") == b"identity"


# -- a server that refuses stream_options


_REFUSALS = {
    "vLLM 0.4.3": json_answer(
        {
            "object": "error",
            "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted'}]",  # noqa: E501 as vLLM 0.4 wrote it
            "type": "BadRequestError",
            "code": 400,
        },
        status="400 Bad Request",
    ),
    "FastAPI": json_answer(
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]},
        status="422 Unprocessable Entity",
    ),
}


@pytest.mark.parametrize("refusal", _REFUSALS.values(), ids=_REFUSALS)
def test_a_server_that_refuses_stream_options_is_asked_without_and_remembered(
    start_sidecar: StartSidecar, upstream: Upstream, refusal: bytes
) -> None:
    def old(peer: Peer, request: Received) -> None:
        peer.send(refusal if b"stream_options" in request.body else PLAIN_STREAM)

    upstream.answer(old)
    body = b'{"model":"m", "stream":true}'
    with start_sidecar(base_path="/v1").client() as client:
        for _ in range(3):
            client.post(CHAT, body)
            assert events(client.response().body)[-1] == "[DONE]"
    assert [request.body == body for request in upstream.received] == [False, True, True, True]


def test_a_server_that_refuses_running_usage_alone_is_still_asked_for_the_final_one(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    def older(peer: Peer, request: Received) -> None:
        refusal = json_answer(
            {"message": "stream_options.continuous_usage_stats: extra_forbidden"}, status="400 Bad Request"
        )
        peer.send(refusal if b"continuous_usage_stats" in request.body else PLAIN_STREAM)

    upstream.answer(older)
    with start_sidecar(base_path="/v1", server="vllm").client() as client:
        for _ in range(2):
            client.post(CHAT, {"stream": True})
            assert client.response().status == 200
    asked = [json.loads(request.body)["stream_options"] for request in upstream.received]
    assert asked[1:] == [{"include_usage": True}] * 2


def test_another_400_is_passed_on_and_teaches_nothing(client: Client, upstream: Upstream) -> None:
    refusal = {"error": {"message": "max_tokens is too large", "type": "BadRequestError", "code": 400}}
    upstream.answer(json_answer(refusal, status="400 Bad Request"), PLAIN_STREAM)
    client.post(CHAT, {"stream": True})
    response = client.response()
    assert (response.status, response.json) == (400, refusal)
    client.post(CHAT, {"stream": True})
    assert client.response().status == 200
    assert [b"include_usage" in request.body for request in upstream.received] == [True, True]


def test_a_client_whose_own_stream_options_are_refused_gets_the_server_s_word(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(_REFUSALS["FastAPI"], PLAIN_STREAM)
    client.post(CHAT, {"stream": True, "stream_options": {"include_usage": True}})
    assert client.response().status == 422
    client.post(CHAT, {"stream": True})
    assert client.response().status == 200
    assert b"include_usage" in upstream.received[-1].body  # one client cannot switch the metering off


def test_a_client_s_odd_stream_options_do_not_switch_the_metering_off(
    client: Client, upstream: Upstream
) -> None:
    """A server may refuse them only together with ours."""

    def particular(peer: Peer, request: Received) -> None:
        refused = b"odd" in request.body and b'"include_usage":true' in request.body
        peer.send(_REFUSALS["FastAPI"] if refused else PLAIN_STREAM)

    upstream.answer(particular)
    client.post(CHAT, {"stream": True, "stream_options": {"odd": 1}})
    client.response()
    upstream.received.clear()
    client.post(CHAT, {"stream": True})
    assert client.response().status == 200
    assert b'"include_usage":true' in upstream.only.body


def test_stream_options_without_a_stream_is_the_server_s_to_refuse(
    client: Client, upstream: Upstream
) -> None:
    upstream.answer(_REFUSALS["vLLM 0.4.3"])
    body = b'{"model":"m","stream_options":{"include_usage":true}}'
    client.post(CHAT, body)
    assert client.response().status == 400
    assert upstream.only.body == body


# -- what reaches whom


# Of a request without a prompt that was answered by "ab": an estimate, as nothing better is at hand.
COUNTED = (0, 1)
FINAL = usage(11, 3, prompt_tokens_details={"cached_tokens": 4})


def _served(kind: str, how: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The chunks that a server sends, and the same without any usage."""
    make = chat_chunk if kind == "chat" else text_chunk
    contents = [make("a"), make("b"), make(finish="stop")]
    chunk_kind = "chat.completion.chunk" if kind == "chat" else "text_completion"
    match how:
        case "separate":
            return [*contents, usage_chunk(FINAL, chunk_kind)], contents
        case "separate, null before":
            return [*({**part, "usage": None} for part in contents), usage_chunk(FINAL, chunk_kind)], contents
        case "on the last content chunk":
            return [*contents[:2], {**contents[2], "usage": FINAL}], contents
        case "running":
            counts = [usage(11, 1), usage(11, 2), usage(11, 3)]
            sent = [{**part, "usage": count} for part, count in zip(contents, counts, strict=True)]
            return [*sent, usage_chunk(FINAL, chunk_kind)], contents
        case "running, and none at the end":
            counts = [usage(11, 1), usage(11, 2), FINAL]
            return [{**part, "usage": count} for part, count in zip(contents, counts, strict=True)], contents
        case _:
            return contents, contents


HOW = [
    "separate",
    "separate, null before",
    "on the last content chunk",
    "running",
    "running, and none at the end",
    "none",
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("channel", ["gateway", "direct"])
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("kind", ["chat", "text"])
def test_who_gets_which_usage(
    vllm: Sidecar, upstream: Upstream, kind: str, asked: bool, channel: str, how: str
) -> None:
    sent, contents = _served(kind, how)
    upstream.answer(stream(*map(event, sent), DONE))
    body: dict[str, Any] = {"model": "m", "stream": True}
    if asked:
        body["stream_options"] = {"include_usage": True}
    headers = [GATEWAY] if channel == "gateway" else []
    before = vllm.tokens()
    requests = vllm.total("token_meter_requests_total", channel=channel)
    with vllm.client() as client:
        client.post(CHAT if kind == "chat" else COMPLETIONS, body, *headers)
        *chunks, done = events(client.response().body)
    assert done == "[DONE]"
    assert [_bare(part) for part in chunks if part["choices"]] == contents
    last = chunks[-1]
    if how == "none" and (asked or channel == "gateway"):
        assert last["usage"] == usage(*COUNTED)  # the sidecar's own count, as the server has none
        assert [_bare(part) for part in chunks if part["choices"]] == contents
        assert [_total(part) for part in chunks] == [None] * (len(chunks) - 1) + [sum(COUNTED)]
        assert last["choices"] == ([] if asked else contents[-1]["choices"])
    elif how == "none":
        assert chunks == contents
    elif asked and how.startswith("separate"):
        assert chunks == sent
    elif asked and how == "running":
        assert chunks == [*contents, sent[-1]]  # nobody asked for running usage
    elif asked:
        assert last.get("usage") == FINAL
    elif channel == "gateway":
        assert [_total(part) for part in chunks] == [None, None, 14]
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (11, 3)
    else:
        assert chunks == contents
    after = vllm.tokens()
    assert (after[0] - before[0], after[1] - before[1]) == (COUNTED if how == "none" else (11, 3))
    assert vllm.total("token_meter_requests_total", channel=channel) == requests + 1


def _bare(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "usage"}


def _total(part: dict[str, Any]) -> int | None:
    return part["usage"]["total_tokens"] if part.get("usage") else None


def test_who_asked_gets_the_server_s_own_bytes(client: Client, upstream: Upstream) -> None:
    body = b"".join(
        [
            b': hello\n\ndata:{ "choices" : [{"index":0,"delta":{"content":"a"}}] ,"usage":null}\n\n',
            b'id: 7\ndata: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2, "total_tokens":3}}\r\n\r\n',
            b"data:[DONE]\n\n",
        ]
    )
    upstream.answer(stream(body))
    client.post(CHAT, {"stream": True, "stream_options": {"include_usage": True}})
    assert client.response().body == body


def test_who_asked_for_running_usage_gets_it(vllm: Sidecar, upstream: Upstream) -> None:
    sent = stream(*map(event, _served("chat", "running")[0]), DONE)
    upstream.answer(sent)
    options = {"include_usage": True, "continuous_usage_stats": True}
    with vllm.client() as client:
        client.post(CHAT, {"stream": True, "stream_options": options})
        assert events(client.response().body)[:-1] == _served("chat", "running")[0]


@pytest.mark.parametrize("headers", [[GATEWAY], []], ids=["gateway", "direct"])
def test_the_finish_chunk_keeps_its_system_fingerprint(
    client: Client, upstream: Upstream, headers: list[str]
) -> None:
    """vLLM 0.33 moves it to the usage chunk when usage is asked for: who did not ask must not lose it."""
    upstream.answer(
        stream(
            event(chat_chunk("a")),
            event(chat_chunk(finish="stop")),
            event(usage_chunk(FINAL, system_fingerprint="fp-1")),
            DONE,
        )
    )
    client.post(CHAT, {"stream": True}, *headers)
    first, last, _ = events(client.response().body)
    assert "system_fingerprint" not in first
    assert last["system_fingerprint"] == "fp-1"


def test_with_several_choices_the_usage_rides_on_the_last_chunk(client: Client, upstream: Upstream) -> None:
    chunks = [
        chat_chunk("a", index=0),
        chat_chunk("b", index=1),
        chat_chunk(index=1, finish="stop"),
        chat_chunk("c", index=0),
        chat_chunk(index=0, finish="length"),
    ]
    upstream.answer(stream(*map(event, chunks), event(usage_chunk(FINAL)), DONE))
    client.post(CHAT, {"stream": True, "n": 2}, GATEWAY)
    *found, _ = events(client.response().body)
    assert [_bare(part) for part in found] == chunks
    assert [_total(part) for part in found] == [None] * 4 + [14]


def test_content_after_a_finish_is_not_held_back(client: Client, upstream: Upstream) -> None:
    """KServe's transformers backend writes finish_reason on every chunk."""
    chunks = [chat_chunk(word, finish="length") for word in "abcd"]
    upstream.answer(stream(*map(event, chunks), DONE))
    client.post(CHAT, {"stream": True}, GATEWAY)
    *found, last, done = events(client.response().body)
    assert (found, done) == (chunks, "[DONE]")
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
    assert (last["id"], last["model"]) == (chunks[0]["id"], chunks[0]["model"])
    assert last["usage"] == usage(0, 1)


def test_such_chunks_leave_as_soon_as_they_arrive(client: Client, upstream: Upstream) -> None:
    chunks = [chat_chunk(word, finish="length") for word in "abcd"]
    gate = Gate()

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, *(chunk(event(part)) for part in chunks))
        gate.pass_through()
        peer.send(chunk(DONE), LAST_CHUNK)

    upstream.answer(script)
    client.post(CHAT, {"stream": True}, GATEWAY)
    client.head()
    client.body_until(event(chunks[-1]))
    gate.set()
    assert events(client.rest())[-1] == "[DONE]"


def test_a_stream_of_another_type_than_asked_for_is_passed_on(client: Client, upstream: Upstream) -> None:
    """A server may answer a stream by JSON (an error, or no streaming for this model)."""
    upstream.answer(json_answer({"choices": [], "usage": usage(3, 4)}))
    client.post(CHAT, {"stream": True}, GATEWAY)
    assert client.response().json == {"choices": [], "usage": usage(3, 4)}


# -- the count


def _json_kind(target: str, body: object, *counted: int) -> Any:
    return pytest.param(target, body, counted, id=f"{target} {json.dumps(body)[:60]}")


@pytest.mark.parametrize(
    ("target", "body", "counted"),
    [
        _json_kind(CHAT, {"usage": usage(5, 6)}, 5, 6, 0, 0),
        _json_kind(
            CHAT,
            {
                "usage": usage(
                    5,
                    6,
                    prompt_tokens_details={"cached_tokens": 3},
                    completion_tokens_details={"reasoning_tokens": 2},
                )
            },
            5,
            6,
            3,
            2,
        ),
        _json_kind(CHAT, {"usage": usage(5, 6, prompt_tokens_details=None)}, 5, 6, 0, 0),
        _json_kind(CHAT, {"usage": usage(0, 0)}, 0, 0, 0, 0),
        _json_kind(COMPLETIONS, {"usage": usage(5, 6)}, 5, 6, 0, 0),
        _json_kind(EMBEDDINGS, {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5, 0, 0, 0),
        _json_kind(
            "/v1/responses",
            {
                "usage": {
                    "input_tokens": 5,
                    "output_tokens": 6,
                    "total_tokens": 11,
                    "input_tokens_details": {"cached_tokens": 3},
                    "output_tokens_details": {"reasoning_tokens": 2},
                }
            },
            5,
            6,
            3,
            2,
        ),
        _json_kind(
            "/v1/messages",
            {
                "usage": {
                    "input_tokens": 5,
                    "output_tokens": 6,
                    "cache_read_input_tokens": 3,
                    "cache_creation_input_tokens": 2,
                }
            },
            10,  # Anthropic's input_tokens leave the cached ones out
            6,
            3,
            0,
        ),
        _json_kind("/v1/rerank", {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5, 0, 0, 0),
        _json_kind("/v2/rerank", {"meta": {"tokens": {"input_tokens": 5, "output_tokens": 6}}}, 5, 6, 0, 0),
        pytest.param(
            "/rerank",
            {"usage": {"total_tokens": 5}},  # vLLM's before it had prompt_tokens here
            (5, 0, 0, 0),
        ),
        _json_kind("/v1/score", {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5, 0, 0, 0),
        _json_kind("/pooling", {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5, 0, 0, 0),
        _json_kind("/classify", {"usage": {"prompt_tokens": 5, "total_tokens": 5}}, 5, 0, 0, 0),
        _json_kind("/invocations", {"usage": usage(5, 6)}, 5, 6, 0, 0),
        _json_kind(
            "/v1/audio/transcriptions",
            {
                "text": "a",
                "usage": {"type": "tokens", "input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
            },
            5,
            6,
            0,
            0,
        ),
        _json_kind(
            "/v1/audio/transcriptions", {"text": "a", "usage": {"type": "duration", "seconds": 3}}, 0, 0, 0, 0
        ),
        # What cannot be a count is none.
        _json_kind(CHAT, {"usage": {"prompt_tokens": "5", "completion_tokens": 6}}, 0, 0, 0, 0),
        _json_kind(CHAT, {"usage": {"prompt_tokens": -5, "completion_tokens": -6}}, 0, 0, 0, 0),
        _json_kind(CHAT, {"usage": None}, 0, 0, 0, 0),
        _json_kind(CHAT, {"choices": [{"usage": usage(5, 6)}]}, 0, 0, 0, 0),
        # Only what stands at the top is the request's; without any, the text is counted.
        _json_kind(CHAT, {"choices": [{"message": {"content": '"usage":{"prompt_tokens":9}'}}]}, 0, 11, 0, 0),
    ],
)
def test_the_usage_of_a_whole_answer_is_counted(
    sidecar: Sidecar,
    client: Client,
    upstream: Upstream,
    request_id: str,
    target: str,
    body: object,
    counted: tuple[int, int, int, int],
) -> None:
    upstream.answer(json_answer(body))
    client.post(target, {"model": "m"}, f"x-request-id: {request_id}")
    assert client.response().json == body
    line = sidecar.record(request_id)
    names = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")
    assert tuple(line[name] for name in names) == counted
    assert line["total_tokens"] == counted[0] + counted[1]


@pytest.mark.parametrize("size", [1_000, 70_000, 3_000_000])
@pytest.mark.parametrize("first", [True, False], ids=["usage first", "usage last"])
def test_the_usage_of_a_large_answer_is_counted(
    sidecar: Sidecar, client: Client, upstream: Upstream, size: int, first: bool
) -> None:
    rest = {"data": [{"embedding": '"usage":{"prompt_tokens":99}' + "0" * size}]}
    count = {"usage": {"prompt_tokens": 5, "total_tokens": 5}}
    upstream.answer(json_answer({**count, **rest} if first else {**rest, **count}))
    before = sidecar.tokens(endpoint="embeddings")
    client.post(EMBEDDINGS, {"model": "m"})
    assert len(client.response().body) > size
    after = sidecar.tokens(endpoint="embeddings")
    assert (after[0] - before[0], after[1] - before[1]) == (5, 0)


@pytest.mark.parametrize("size", [100, 300_000])
def test_the_usage_of_a_compressed_answer_is_counted_and_it_passes_as_it_is(
    sidecar: Sidecar, client: Client, upstream: Upstream, size: int
) -> None:
    """A server may compress although it was asked not to."""
    packed = gzip.compress(json.dumps({"x": "y" * size, "usage": usage(5, 6)}).encode())
    upstream.answer(json_answer(packed, "content-encoding: gzip"))
    before = sidecar.tokens()
    client.post(CHAT, {"model": "m"}, "accept-encoding: gzip")
    response = client.response()
    assert (response.body, response.header(b"content-encoding")) == (packed, b"gzip")
    after = sidecar.tokens()
    assert (after[0] - before[0], after[1] - before[1]) == (5, 6)


@pytest.mark.parametrize(
    ("target", "counted"),
    [
        ("/v1/responses", (5, 6)),
        ("/v1/messages", (8, 7)),
    ],
)
def test_the_usage_of_other_streams_is_counted_and_they_pass_as_they_are(
    sidecar: Sidecar, client: Client, upstream: Upstream, target: str, counted: tuple[int, int]
) -> None:
    responses = (
        b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\\"usage\\""}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":5,'
        b'"output_tokens":6,"total_tokens":11}}}\n\n'
    )
    messages = (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":8,'
        b'"output_tokens":1}}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":7}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    sent = responses if target == "/v1/responses" else messages
    upstream.answer(stream(*(sent[at : at + 50] for at in range(0, len(sent), 50))))
    endpoint = target.rpartition("/")[2]
    before = sidecar.tokens(endpoint=endpoint)
    client.post(target, {"model": "m", "stream": True})
    assert client.response().body == sent
    after = sidecar.tokens(endpoint=endpoint)
    assert (after[0] - before[0], after[1] - before[1]) == counted


def test_an_error_is_not_counted(
    sidecar: Sidecar, client: Client, upstream: Upstream, request_id: str
) -> None:
    upstream.answer(json_answer({"usage": usage(5, 6)}, status="500 Internal Server Error"))
    client.post(CHAT, {"model": "m"}, f"x-request-id: {request_id}")
    assert client.response().status == 500
    line = sidecar.record(request_id)
    assert (line["outcome"], line["total_tokens"]) == ("upstream_error", 0)


def test_running_usage_is_never_summed(vllm: Sidecar, upstream: Upstream, request_id: str) -> None:
    chunks = [chat_chunk("w", usage=usage(11, number)) for number in range(1, 50)]
    upstream.answer(stream(*map(event, chunks), event(usage_chunk(usage(11, 49))), DONE))
    with vllm.client() as client:
        client.post(CHAT, {"stream": True}, f"x-request-id: {request_id}")
        assert client.response().status == 200
    line = vllm.record(request_id)
    assert (line["input_tokens"], line["output_tokens"]) == (11, 49)
    assert (line["counted_by"], line["exact"]) == ("server", True)


def test_running_usage_of_several_choices_is_each_choice_s_own(
    vllm: Sidecar, upstream: Upstream, request_id: str
) -> None:
    """vLLM repeats the prompt in each; without a final chunk the last of each choice add up."""
    chunks = [
        chat_chunk("a", index=0, usage=usage(11, 1)),
        chat_chunk("b", index=1, usage=usage(11, 1)),
        chat_chunk("c", index=1, usage=usage(11, 5)),
        chat_chunk("d", index=0, usage=usage(11, 2)),
        chat_chunk("d", index=0, finish="stop", usage=usage(11, 3)),
        chat_chunk("e", index=1, finish="stop", usage=usage(11, 6)),
    ]
    upstream.answer(stream(*map(event, chunks), DONE))
    with vllm.client() as client:
        client.post(CHAT, {"stream": True, "n": 2}, f"x-request-id: {request_id}", GATEWAY)
        *found, _ = events(client.response().body)
    line = vllm.record(request_id)
    assert (line["input_tokens"], line["output_tokens"]) == (11, 9)
    assert [_total(part) for part in found] == [None] * 5 + [20]


def test_the_final_usage_of_several_choices_is_the_server_s(
    vllm: Sidecar, upstream: Upstream, request_id: str
) -> None:
    chunks = [chat_chunk("a", index=index, finish="stop", usage=usage(11, 2)) for index in range(2)]
    upstream.answer(stream(*map(event, chunks), event(usage_chunk(usage(11, 4))), DONE))
    with vllm.client() as client:
        client.post(CHAT, {"stream": True, "n": 2}, f"x-request-id: {request_id}")
        assert client.response().status == 200
    assert vllm.record(request_id)["output_tokens"] == 4
