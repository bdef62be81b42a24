"""What the model server is asked, as a function of what the client sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialect import wanted
from sidecar.endpoints import Endpoint, route
from sidecar.errors import Refusal
from sidecar.request_body import PARSE_LIMIT, Ask, RequestBody, read_request
from sidecar.settings import ServerKind

CHAT = Endpoint.CHAT_COMPLETIONS


def asking(body: RequestBody, ask: Ask, server: ServerKind = ServerKind.VLLM) -> bytes:
    return body.with_members(wanted(server, body, ask))


def test_the_rest_of_the_body_stays_as_it_came() -> None:
    raw = b'{ "stream" : true,\n "x": 1.10, "big": 99999999999999999999, "t": "\\u00e9" }'
    asked = asking(read_request(raw, CHAT), Ask.FINAL_USAGE)
    assert asked == b'{"stream_options":{"include_usage":true},' + raw[1:]


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RESPONSES, Endpoint.MESSAGES])
def test_only_streams_of_chunks_are_asked(endpoint: Endpoint) -> None:
    raw = b'{"stream": true}'
    assert asking(read_request(raw, endpoint), Ask.RUNNING_USAGE) is raw


def test_a_request_without_a_stream_is_left_alone() -> None:
    raw = b'{"model": "m"}'
    assert asking(read_request(raw, CHAT), Ask.RUNNING_USAGE) is raw


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": None, "other": 1}, {"include_usage": True, "other": 1}),
        ({"include_usage": True}, {"include_usage": True}),
    ],
)
def test_the_clients_own_options_are_kept(options: Any, expected: dict[str, Any]) -> None:
    raw = json.dumps({"a": 1, "stream_options": options, "stream": True}).encode()
    body = read_request(raw, CHAT)
    assert json.loads(asking(body, Ask.FINAL_USAGE)) == {"a": 1, "stream_options": expected, "stream": True}
    assert body.wants_usage == bool(options and options.get("include_usage"))


@pytest.mark.parametrize("filler", [0, PARSE_LIMIT])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"stream": "true"}',
        b'{"stream": 1}',
        b'{"stream": true, "stream_options": 7}',
        b'{"stream": true, "stream_options": {"include_usage": "no"}}',
        b'{"stream": false, "stream": true}',
        b'{"stream": false, "str\\u0065am": true}',
        b'{"stream_options": null, "stream_options": {}, "stream": true}',
        b'{"model": "a", "model": "b"}',
        b"[]",
        b"",
        b'{"stream": true',
        b'\xef\xbb\xbf{"stream": true}',
        '{"stream": true}'.encode("utf-16"),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(raw: bytes, filler: int) -> None:
    if filler and raw.startswith(b'{"'):
        raw = b'{"fill": "' + b"x" * filler + b'", ' + raw[1:]
    with pytest.raises(Refusal) as refused:
        read_request(raw, CHAT)
    assert refused.value.status == 400
    assert b'"message"' in refused.value.body


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none(), max_size=5), st.booleans())
def test_asking_adds_stream_options_and_nothing_else(members: dict[str, Any], big: bool) -> None:
    members = {name: value for name, value in members.items() if name not in ("stream_options", "n", "model")}
    value = {**members, "stream": True, "fill": "x" * PARSE_LIMIT if big else ""}
    body = read_request(json.dumps(value).encode(), CHAT)
    assert body.stream
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    assert json.loads(asking(body, Ask.RUNNING_USAGE)) == {**value, "stream_options": wanted}


@pytest.mark.parametrize("base", ["/v1", "/openai/v1", "/v3"])
@pytest.mark.parametrize(
    "spelling",
    ["/chat/completions", "/chat//completions", "/chat/completions/", "/./chat/completions", "/x/../chat/completions",
     "/%63hat/completions", "/chat%2Fcompletions"],
)  # fmt: skip
def test_every_spelling_of_a_metered_path_is_metered(base: str, spelling: str) -> None:
    assert route((base + spelling).encode()).endpoint is CHAT


@pytest.mark.parametrize(
    "path", ["/v1/models", "/tokenize", "/metrics", "/v2/models/m/infer", "/v1/chat", "/"]
)
def test_other_paths_are_not(path: str) -> None:
    assert route(path.encode()).endpoint is None
