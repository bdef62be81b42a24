"""What a user of OpenAI's client meets: answers, counts that agree with the model's own, errors by their type."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.openai_client.conftest import MODEL, ModelServer, connect, environment
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Peer, Received, Upstream
from tests.sidecar.wire import (
    DONE,
    STREAM_HEAD,
    chat_chunk,
    chunk,
    event,
    json_answer,
    stream,
    usage,
    usage_chunk,
)

TALK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me of the sea."}]


class Counts:
    """What the model and the sidecar count from one moment on."""

    def __init__(self, model: ModelServer, sidecar: Sidecar) -> None:
        self._model, self._sidecar = model, sidecar
        self._model_before, self._sidecar_before = model.tokens, sidecar.tokens()

    @property
    def model(self) -> tuple[int, int]:
        """Input and output, by the model's own counters."""
        return _minus(self._model.tokens, self._model_before)

    @property
    def sidecar(self) -> tuple[int, int]:
        """Input and output, by the sidecar's metrics."""
        return _minus(self._sidecar.tokens(), self._sidecar_before)

    def agree_on(self, count: Any) -> None:
        """The usage that the client saw is what both counted."""
        seen = (count.prompt_tokens, count.completion_tokens)
        assert self.sidecar == seen
        # The model's counters follow its answer by a moment.
        eventually(lambda: self.model == seen, f"the model has counted {seen}")


def _minus(after: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def _still(model: ModelServer) -> bool:
    """Two readings a second apart are equal: nothing is being generated."""
    before = model.tokens
    time.sleep(1.0)  # the acceptance's own second
    return model.tokens == before


@pytest.fixture
def counts(model: ModelServer, sidecar: Sidecar) -> Counts:
    eventually(lambda: model.idle, "the model has nothing to do", bound=60.0)
    return Counts(model, sidecar)


# -- answers


def test_a_chat(client: openai.OpenAI, counts: Counts) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.model == MODEL
    assert answer.usage
    assert answer.usage.completion_tokens == 8
    counts.agree_on(answer.usage)


def test_a_stream_with_usage(client: openai.OpenAI, counts: Counts) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=TALK, max_tokens=8, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        *contents, last = list(chunks)
    assert "".join(part.choices[0].delta.content or "" for part in contents)
    assert contents[-1].choices[0].finish_reason == "length"
    assert last.choices == []
    assert last.usage
    counts.agree_on(last.usage)


def test_a_stream_without_usage_has_none_and_no_empty_chunk(client: openai.OpenAI, counts: Counts) -> None:
    with client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=8, stream=True) as chunks:
        found = list(chunks)
    assert all(part.choices and part.usage is None for part in found)
    assert found[-1].choices[0].finish_reason == "length"
    assert counts.sidecar[1] == 8
    eventually(lambda: counts.model == counts.sidecar, "the counts agree")


def test_a_stream_through_the_gateway_carries_its_usage_on_the_last_chunk(
    client: openai.OpenAI, counts: Counts
) -> None:
    with client.completions.create(
        model=MODEL,
        prompt="The sea is",
        max_tokens=8,
        stream=True,
        extra_headers={"x-ai-eg-model": MODEL},
    ) as chunks:
        found = list(chunks)
    assert all(part.choices for part in found)
    assert [part.usage is not None for part in found] == [False] * (len(found) - 1) + [True]
    counts.agree_on(found[-1].usage)


def test_completions(client: openai.OpenAI, counts: Counts) -> None:
    answer = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=8)
    assert answer.choices[0].text
    counts.agree_on(answer.usage)


def test_responses(client: openai.OpenAI, counts: Counts) -> None:
    answer = client.responses.create(model=MODEL, input="Tell me of the sea.", max_output_tokens=8)
    assert answer.output_text
    assert answer.usage
    assert counts.sidecar == (answer.usage.input_tokens, answer.usage.output_tokens)
    eventually(lambda: counts.model == counts.sidecar, "the counts agree")


def test_a_stream_of_responses(client: openai.OpenAI, counts: Counts) -> None:
    with client.responses.create(
        model=MODEL, input="Tell me of the sea.", max_output_tokens=8, stream=True
    ) as events:
        kinds = [part.type for part in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert counts.sidecar[1] == 8
    eventually(lambda: counts.model == counts.sidecar, "the counts agree")


def test_two_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=8, n=2)
    assert sorted(choice.index for choice in answer.choices) == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_a_stream_of_two_choices(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=8, n=2, stream=True) as chunks:
        found = list(chunks)
    assert {part.choices[0].index for part in found} == {0, 1}
    finished = [part.choices[0].index for part in found if part.choices[0].finish_reason]
    assert sorted(finished) == [0, 1]


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
def test_two_choices_are_both_counted(client: openai.OpenAI, counts: Counts, streams: bool) -> None:
    answer: Any = client.chat.completions.create(
        model=MODEL, messages=TALK, max_tokens=8, n=2, stream=streams
    )
    if streams:
        with answer:
            list(answer)
    eventually(lambda: counts.model[1] == 16, "the model has counted both")
    assert counts.sidecar[1] == 16


TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "depth",
            "description": "Depth of a sea, in metres.",
            "parameters": {
                "type": "object",
                "properties": {"sea": {"type": "string"}},
                "required": ["sea"],
            },
        },
    }
]


def test_tools_are_passed_to_the_model(client: openai.OpenAI, counts: Counts) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=8, tools=TOOLS)
    counts.agree_on(answer.usage)


def test_a_streamed_tool_call_arrives_whole(before_script: Sidecar, upstream: Upstream) -> None:
    """The small model makes none of its own."""

    def call(**part: object) -> dict[str, Any]:
        made = chat_chunk()
        made["choices"][0]["delta"] = {"tool_calls": [{"index": 0, **part}]}
        return made

    upstream.answer(
        stream(
            event(call(id="call_1", type="function", function={"name": "depth", "arguments": ""})),
            event(call(function={"arguments": '{"sea": "Bal'})),
            event(call(function={"arguments": 'tic"}'})),
            event(chat_chunk(finish="tool_calls")),
            event(usage_chunk(usage(20, 9))),
            DONE,
        )
    )
    with connect(before_script, api_key="right") as client:
        made = client.chat.completions.create(model="m", messages=TALK, tools=TOOLS, stream=True)
        with made as chunks:
            deltas = [part.choices[0].delta for part in chunks]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert calls[0].function
    assert calls[0].function.name == "depth"
    arguments = "".join(part.function.arguments or "" for part in calls if part.function)
    assert arguments == '{"sea": "Baltic"}'


@pytest.mark.parametrize("encoding", [openai.omit, "float"], ids=["the client's own choice", "float"])
def test_embeddings(client: openai.OpenAI, counts: Counts, encoding: Any) -> None:
    answer = client.embeddings.create(
        model=MODEL, input=["the sea", "a ship on the sea"], encoding_format=encoding
    )
    assert [len(item.embedding) for item in answer.data] == [640, 640]
    assert counts.sidecar == (answer.usage.prompt_tokens, 0)
    eventually(lambda: counts.model == counts.sidecar, "the counts agree")


def test_the_list_of_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_many_at_once(sidecar: Sidecar, counts: Counts) -> None:
    async def all_of_them() -> list[int]:
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{sidecar.port}/v1", api_key="unused", max_retries=0
        ) as client:
            asked: Iterable[Any] = [
                client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=number)
                for number in range(1, 9)
            ]
            answers = await asyncio.gather(*asked)
        return [answer.usage.completion_tokens for answer in answers]

    assert asyncio.run(all_of_them()) == list(range(1, 9))
    assert counts.sidecar[1] == sum(range(1, 9))
    eventually(lambda: counts.model == counts.sidecar, "the counts agree")


# -- errors


def test_400_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages="the sea")  # type: ignore[arg-type]
    assert raised.value.status_code == 400


def test_400_of_the_sidecar_s_own_is_one_too(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=TALK, extra_body={"stream": "yes"})
    assert raised.value.param == "stream"
    assert raised.value.type == "invalid_request_error"


def test_401_is_an_authentication_error_that_names_the_gateway(before_script: Sidecar) -> None:
    with (
        connect(before_script, api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.chat.completions.create(model="m", messages=TALK)
    assert "envoy-gateway-system/ai-gateway" in raised.value.message
    assert raised.value.code == "invalid_api_key"


def test_404_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.get("/nowhere", cast_to=object)


def test_404_for_a_model_is_not_found(before_script: Sidecar, upstream: Upstream) -> None:
    error = {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404}
    upstream.answer(json_answer({"error": error}, status="404 Not Found"))
    with connect(before_script, api_key="right") as client, pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="x", messages=TALK)
    assert "does not exist" in raised.value.message


def test_413_says_what_the_limit_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 200_000}])
    assert raised.value.status_code == 413
    assert "100000" in raised.value.message


def test_503_while_the_model_restarts_is_tried_again(before_script: Sidecar, upstream: Upstream) -> None:
    upstream.stop()
    with connect(before_script, api_key="right") as client:
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="m", messages=TALK)
        assert raised.value.status_code == 503
        assert int(raised.value.response.headers["retry-after"]) > 0
        upstream.start()
        upstream.answer(json_answer({"id": "1", "choices": [], "usage": usage(1, 1)}))
        assert client.chat.completions.create(model="m", messages=TALK).id == "1"


def test_502_when_the_model_dies(before_script: Sidecar, upstream: Upstream) -> None:
    upstream.answer(lambda peer, _: peer.close())
    with (
        connect(before_script, api_key="right") as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model="m", messages=TALK)
    assert raised.value.status_code == 502


def test_504_when_the_model_says_nothing(before_script: Sidecar, upstream: Upstream) -> None:
    upstream.answer(lambda peer, _: peer.wait_closed())
    with (
        connect(before_script, api_key="right") as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model="m", messages=TALK)
    assert raised.value.status_code == 504


def test_a_stream_that_breaks_raises_an_error(before_script: Sidecar, upstream: Upstream) -> None:
    def die(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(event(chat_chunk("a"))))
        peer.close()

    upstream.answer(die)
    found: list[str | None] = []
    with connect(before_script, api_key="right") as client:
        made = client.chat.completions.create(model="m", messages=TALK, stream=True)
        with made as chunks, pytest.raises(openai.APIError) as raised:
            found.extend(part.choices[0].delta.content for part in chunks)
    assert raised.value.type == "upstream_error"
    assert found == ["a"]


def test_a_json_answer_that_breaks_raises_an_error(before_script: Sidecar, upstream: Upstream) -> None:
    def die(peer: Peer, _: Received) -> None:
        peer.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id":')
        peer.close()

    upstream.answer(die)
    with connect(before_script, api_key="right") as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=TALK)


# -- giving up


def test_a_client_s_timeout_ends_the_model_s_work(
    client: openai.OpenAI, model: ModelServer, counts: Counts, sidecar: Sidecar
) -> None:
    before = sidecar.total("token_meter_requests_total", outcome="client_disconnect")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model=MODEL, messages=TALK, max_tokens=4000)
    eventually(lambda: _still(model), "the model's counter stands still")
    assert counts.model[1] < 4000
    after = sidecar.total("token_meter_requests_total", outcome="client_disconnect")
    assert after == before + 1


def test_a_closed_stream_ends_the_model_s_work(
    client: openai.OpenAI, model: ModelServer, counts: Counts
) -> None:
    with client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=4000, stream=True) as chunks:
        for _, part in zip(range(5), chunks, strict=False):
            assert part.choices
    eventually(lambda: _still(model), "the model's counter stands still")
    assert counts.model[1] < 4000


_KILLED = """
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
made = client.chat.completions.create(
    model=sys.argv[2], messages=[{"role": "user", "content": "Tell me of the sea."}], max_tokens=4000, stream=True
)
for part in made:
    print(part.choices[0].delta.content, flush=True)
"""


def test_a_killed_client_ends_the_model_s_work(sidecar: Sidecar, model: ModelServer, counts: Counts) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, f"http://127.0.0.1:{sidecar.port}/v1", MODEL],
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        process.kill()
    eventually(lambda: _still(model), "the model's counter stands still")
    assert counts.model[1] < 4000
    assert sidecar.total("token_meter_requests_in_flight") == 0


def test_an_aborted_stream_is_counted_to_the_last_token_the_server_reported(
    client: openai.OpenAI, model: ModelServer, counts: Counts
) -> None:
    with client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=4000, stream=True) as chunks:
        for _, part in zip(range(20), chunks, strict=False):
            assert part.choices
    eventually(lambda: _still(model), "the model's counter stands still")
    assert counts.sidecar[0] == counts.model[0]
    assert 15 <= counts.sidecar[1] <= counts.model[1]
