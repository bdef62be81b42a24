"""Running usage of each kind of server: the count is the truth, and the client sees what it would have seen."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialect import adds_running_usage, best_ask, shape_of, wanted
from sidecar.endpoints import Endpoint
from sidecar.request_body import Ask, RequestBody, read_request
from sidecar.settings import ServerKind
from sidecar.shape import Delivery
from sidecar.stream import ChunkStream
from sidecar.usage import Usage

DONE = b"data: [DONE]\n\n"
CUTS = st.lists(st.integers(0, 9000), max_size=12)
# Which choice makes the next step, and how many tokens.
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=24)


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def timings(prompt: int, completion: int) -> dict[str, Any]:
    return {"cache_n": 2, "prompt_n": prompt - 2, "prompt_ms": 1.5, "predicted_n": completion}


def content(chat: bool, index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
    kind = "chat.completion.chunk" if chat else "text_completion"
    return {"object": kind, "choices": [{"index": index, **said, "finish_reason": finish}]}


def events(text: bytes) -> list[Any]:
    found = [block.removeprefix(b"data: ") for block in text.split(b"\n\n") if block]
    return [item if item == b"[DONE]" else json.loads(item) for item in found]


def run(stream: ChunkStream, text: bytes, cuts: list[int]) -> bytes:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return b"".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + stream.finish()


def stream_for(
    server: ServerKind, body: RequestBody, delivery: Delivery, *, gateway: bool = True
) -> ChunkStream:
    ask = best_ask(server)
    if not body.may_fall_silent:
        ask = min(ask, Ask.RUNNING_USAGE)
    return ChunkStream(
        delivery,
        strip_running=adds_running_usage(server, ask) and not body.wants_running,
        shape=shape_of(server, body, ask, through_gateway=gateway),
    )


def request(**members: Any) -> RequestBody:
    endpoint = Endpoint.COMPLETIONS if "prompt" in members else Endpoint.CHAT_COMPLETIONS
    return read_request(json.dumps({"stream": True, **members}).encode(), endpoint)


def steps_of(choices: int, steps: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Choice, its tokens in this step, and its tokens so far."""
    so_far = [0] * choices
    for choice, made in steps:
        index = choice % choices
        so_far[index] += made
        yield index, made, so_far[index]


@given(STEPS, st.integers(1, 3), st.integers(1, 2), CUTS, st.sampled_from(list(Delivery)))
def test_vllm_s_choices_and_prompts_add_up_however_they_are_mixed_and_cut(
    steps: list[tuple[int, int]], n: int, prompts: int, cuts: list[int], delivery: Delivery
) -> None:
    """0.33, completion/serving.py: index = prompt * n + i; the prompt's tokens are that prompt's alone."""
    asked = {"stream_options": {"include_usage": True}} if delivery is Delivery.AS_SENT else {}
    body = request(prompt=["p"] * prompts, n=n, **asked)
    sent, plain, output, seen = b"", b"", 0, set()
    for index, made, so_far in steps_of(n * prompts, steps):
        chunk = content(chat=False, index=index, text="x" * made)
        plain += event(chunk)
        sent += event({**chunk, "usage": usage(10 + index // n, so_far)})
        output += made
        seen.add(index // n)
    stream = stream_for(ServerKind.VLLM, body, delivery)
    assert run(stream, sent, cuts) == plain
    assert stream.running == Usage(sum(10 + prompt for prompt in seen), output)


@given(STEPS, st.integers(1, 4), CUTS)
def test_the_prompt_of_a_chat_counts_once(steps: list[tuple[int, int]], n: int, cuts: list[int]) -> None:
    body = request(messages=[], n=n)
    sent = b"".join(
        event({**content(True, index, "x"), "usage": usage(7, so_far)})
        for index, _, so_far in steps_of(n, steps)
    )
    stream = stream_for(ServerKind.VLLM, body, Delivery.NONE)
    run(stream, sent, cuts)
    assert stream.running == Usage(7, sum(made for _, made in steps))


@given(STEPS, st.integers(2, 4), CUTS)
def test_the_gateway_sees_the_running_sum_of_several_choices(
    steps: list[tuple[int, int]], n: int, cuts: list[int]
) -> None:
    """It takes the last usage for the whole (AI Gateway 1.1, openai_openai.go)."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = request(messages=[], n=n, stream_options=options)
    sent, expected, output = b"", [], 0
    for index, made, so_far in steps_of(n, steps):
        sent += event({**content(True, index, "x"), "usage": usage(7, so_far)})
        output += made
        expected.append((7, output, 7 + output))
    stream = stream_for(ServerKind.VLLM, body, Delivery.AS_SENT)
    found = [chunk["usage"] for chunk in events(run(stream, sent, cuts))]
    assert [(x["prompt_tokens"], x["completion_tokens"], x["total_tokens"]) for x in found] == expected
    assert stream.showed_running


def test_a_direct_client_that_asked_for_running_usage_gets_vllm_s_own() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = request(messages=[], n=2, stream_options=options)
    sent = b"".join(event({**content(True, index, "x"), "usage": usage(7, 1)}) for index in (0, 1))
    stream = stream_for(ServerKind.VLLM, body, Delivery.AS_SENT, gateway=False)
    assert run(stream, sent, []) == sent
    assert stream.running == Usage(7, 2)


# -- what a client can do to hide tokens


def asked(body: RequestBody, server: ServerKind = ServerKind.VLLM) -> Any:
    ask = best_ask(server)
    if not body.may_fall_silent:
        ask = min(ask, Ask.RUNNING_USAGE)
    return json.loads(body.with_members(wanted(server, body, ask)))


def test_vllm_is_asked_for_a_chunk_for_each_token_whatever_the_client_set() -> None:
    for interval in (2, 1000, "9"):
        assert asked(request(messages=[], stream_interval=interval))["stream_interval"] == 1
    assert "stream_interval" not in asked(request(messages=[]))
    assert asked(request(messages=[], stream_interval=9), ServerKind.GENERIC)["stream_interval"] == 9


def test_vllm_is_asked_for_token_ids_only_where_a_parser_may_hold_tokens_back() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert "return_token_ids" not in asked(request(messages=[]))
    assert asked(request(messages=[], tools=[tool]))["return_token_ids"] is True
    assert asked(request(messages=[], include_reasoning=False))["return_token_ids"] is True
    assert asked(request(messages=[], tools=[tool], return_token_ids=False))["return_token_ids"] is True
    assert "return_token_ids" not in asked(request(messages=[], tools=[tool]), ServerKind.SGLANG)
    assert "return_token_ids" not in asked(request(messages=[], tools=[]))


SPOKEN = st.lists(st.tuples(st.booleans(), st.integers(1, 5)), min_size=1, max_size=20)


@given(SPOKEN, CUTS)
def test_chunks_that_a_silent_parser_would_not_have_sent_do_not_reach_the_client(
    spoken: list[tuple[bool, int]], cuts: list[int]
) -> None:
    """vLLM, chat_completion/serving.py: with return_token_ids a step whose delta is None is sent as `{}`."""
    body = request(messages=[], include_reasoning=False)
    first = {"object": "c", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
    sent = event({**first, "prompt_token_ids": [5, 6, 7], "usage": usage(3, 0)})
    plain = event({**first, "prompt_token_ids": None})
    output = 0
    for speaks, made in spoken:
        output += made
        delta = {"content": '"token_ids":[1]'} if speaks else {}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        ids = list(range(made))
        sent += event({"object": "c", "choices": [{**choice, "token_ids": ids}], "usage": usage(3, output)})
        if speaks:
            plain += event({"object": "c", "choices": [{**choice, "token_ids": None}]})
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    sent += event({"object": "c", "choices": [{**last, "token_ids": [2]}], "usage": usage(3, output + 1)})
    plain += event({"object": "c", "choices": [{**last, "token_ids": None}]})
    stream = stream_for(ServerKind.VLLM, body, Delivery.NONE)
    assert run(stream, sent + DONE, cuts) == plain + DONE
    assert stream.running == Usage(3, output + 1)


def test_a_client_that_asked_for_token_ids_gets_them_all() -> None:
    body = request(messages=[], include_reasoning=False, return_token_ids=True)
    choice = {"index": 0, "delta": {}, "finish_reason": None, "token_ids": [4]}
    sent = event({"choices": [choice]}) + DONE
    assert run(stream_for(ServerKind.VLLM, body, Delivery.NONE), sent, []) == sent


# -- llama.cpp, as it was seen to write (xllamacpp 0.2)


def llama(
    n: int, steps: list[tuple[int, int]], *, usages: bool, with_timings: bool = True
) -> tuple[bytes, int]:
    """A chat's stream: `timings` on each chunk, and a usage chunk behind the end of each choice."""
    sent, last = b"", dict.fromkeys(range(n), 0)
    for index, _, so_far in steps_of(n, steps):
        counted = {"timings": timings(9, so_far)} if with_timings else {}
        sent += event({**content(True, index, "x"), **counted})
        last[index] = so_far
    for index, made in last.items():
        end = {"object": "c", "choices": [{"finish_reason": "stop", "index": index, "delta": {}}]}
        if usages:
            sent += event(end)
            count = usage(9, made) | {"prompt_tokens_details": {"cached_tokens": 2}}
            sent += event({"choices": [], "object": "c", "usage": count, "timings": timings(9, made)})
        else:
            sent += event({**end, "timings": timings(9, made)})
    return sent + DONE, sum(last.values())


@given(STEPS, st.integers(1, 4), CUTS)
def test_llama_cpp_s_choices_add_up_and_who_did_not_ask_sees_what_it_would_have_seen(
    steps: list[tuple[int, int]], n: int, cuts: list[int]
) -> None:
    sent, output = llama(n, steps, usages=True)
    stream = stream_for(ServerKind.LLAMA_CPP, request(messages=[], n=n), Delivery.NONE)
    assert run(stream, sent, cuts) == llama(n, steps, usages=False, with_timings=False)[0]
    assert stream.running == Usage(9, output, cached_input=2)


@given(STEPS, st.integers(1, 4), CUTS, st.sampled_from([Delivery.AS_SENT, Delivery.ON_LAST_CHUNK]))
def test_the_last_usage_of_llama_cpp_s_stream_is_that_of_all_choices(
    steps: list[tuple[int, int]], n: int, cuts: list[int], delivery: Delivery
) -> None:
    options = {"stream_options": {"include_usage": True}} if delivery is Delivery.AS_SENT else {}
    sent, output = llama(n, steps, usages=True)
    stream = stream_for(ServerKind.LLAMA_CPP, request(messages=[], n=n, **options), delivery)
    found = events(run(stream, sent, cuts))
    last = [chunk["usage"] for chunk in found[:-1] if chunk.get("usage")][-1]
    assert (last["prompt_tokens"], last["completion_tokens"]) == (9, output)
    assert found[-1] == b"[DONE]"


@given(STEPS, CUTS)
def test_one_choice_of_llama_cpp_s_is_passed_on_as_it_came(
    steps: list[tuple[int, int]], cuts: list[int]
) -> None:
    options = {"stream_options": {"include_usage": True}}
    sent, _ = llama(1, steps, usages=True)
    stream = stream_for(ServerKind.LLAMA_CPP, request(messages=[], **options), Delivery.AS_SENT)
    assert run(stream, sent, cuts) == llama(1, steps, usages=True, with_timings=False)[0]


@given(STEPS, CUTS, st.integers(0, 24))
def test_an_aborted_stream_of_llama_cpp_s_is_counted_to_its_last_chunk(
    steps: list[tuple[int, int]], cuts: list[int], kept: int
) -> None:
    sent = b"".join(
        event({**content(True, index, "x"), "timings": timings(9, so_far)})
        for index, _, so_far in steps_of(2, steps[: kept + 1])
    )
    stream = stream_for(ServerKind.LLAMA_CPP, request(messages=[], n=2), Delivery.NONE)
    run(stream, sent, cuts)
    output = sum(made for _, made in steps[: kept + 1])
    assert stream.running == Usage(9, output, cached_input=2)


def test_llama_cpp_s_completions_count_each_prompt() -> None:
    """There the last chunk of each choice has its usage, asked for or not."""
    body = request(prompt=["a", "b"], n=1)
    chunks = [
        {**content(False, 1, "x"), "timings": timings(4, 1)},
        {**content(False, 0, "y"), "timings": timings(5, 1)},
        {**content(False, 1, "", "length"), "usage": usage(4, 2), "id": "i", "timings": timings(4, 2)},
        {**content(False, 0, "", "length"), "usage": usage(5, 3), "id": "i", "timings": timings(5, 3)},
    ]
    sent = b"data: null\n\n" + b"".join(map(event, chunks)) + DONE
    stream = stream_for(ServerKind.LLAMA_CPP, body, Delivery.ON_LAST_CHUNK)
    found = events(run(stream, sent, []))
    assert (found[4]["usage"]["prompt_tokens"], found[4]["usage"]["completion_tokens"]) == (9, 5)
    assert [chunk.get("usage") for chunk in found[1:4]] == [None] * 3
    assert stream.running is not None
    assert (stream.running.input, stream.running.output) == (9, 5)


def test_timings_stay_with_a_client_that_asked_for_them() -> None:
    body = request(messages=[], timings_per_token=True)
    sent = event({**content(True, 0, "x"), "timings": timings(4, 1)}) + DONE
    assert run(stream_for(ServerKind.LLAMA_CPP, body, Delivery.NONE), sent, []) == sent
