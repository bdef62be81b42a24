"""What a model has said, read from every shape that answers have, however their bytes are cut."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.choices import other_choices
from sidecar.endpoints import Endpoint
from sidecar.gather import Gather
from sidecar.output_text import MAX_TEXT, OutputText
from sidecar.rates import Rates
from sidecar.record import CountedBy, Outcome, Record
from sidecar.usage import Usage


def said(*values: object) -> OutputText:
    text = OutputText()
    for value in values:
        text.add(value)
    return text


def delta(index: int = 0, **parts: object) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": parts, "finish_reason": None}]}


def call(**parts: str) -> dict[str, Any]:
    return {"index": 0, "function": parts}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([delta(role="assistant"), delta(content="a"), delta(content="b")], ["ab"]),
        ([delta(reasoning="hm"), delta(content="a")], ["hm", "a"]),
        ([delta(reasoning="hm", reasoning_content="hm")], ["hm"]),
        ([delta(0, content="a"), delta(1, content="x"), delta(0, content="b")], ["ab", "x"]),
        ([delta(tool_calls=[call(name="f")]), delta(tool_calls=[call(arguments="{}")])], ["f", "{}"]),
        ([{"choices": [{"index": 0, "text": "a"}]}], ["a"]),
        ([{"choices": [{"index": 0, "message": {"content": "a", "refusal": None}}]}], ["a"]),
        ([{"index": 0, "content": "a"}, {"index": 0, "content": "b", "stop": True}], ["ab"]),
        ([{"type": "response.output_text.delta", "item_id": "i", "delta": "a"}], ["a"]),
        ([{"type": "content_block_delta", "index": 1, "delta": {"thinking": "a"}}], ["a"]),
        ([{"type": "content_block_delta", "index": 1, "delta": {"partial_json": "a"}}], ["a"]),
        ([{"output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]}], ["a"]),
        ([{"type": "message", "content": [{"type": "text", "text": "a"}]}], ["a"]),
        ([{"error": {"message": "a"}}, None, [], "a", {"choices": [None]}, {"choices": "a"}], []),
    ],
)
def test_every_shape_is_read(values: list[object], texts: list[str]) -> None:
    assert said(*values).texts == texts


def test_an_error_is_no_answer() -> None:
    assert not said({"type": "error", "error": {"message": "a"}}).answered
    assert said(delta(role="assistant")).answered


def test_what_is_too_long_is_not_kept_but_measured() -> None:
    text = said(*[delta(content="x" * 1000)] * 300)
    assert sum(map(len, text.texts)) <= MAX_TEXT
    assert text.size == 300_000


@given(
    st.lists(st.tuples(st.integers(0, 2), st.text(max_size=20)), max_size=40),
    st.lists(st.integers(0, 9000), max_size=12),
    st.integers(1, 3),
)
def test_a_stream_s_text_is_whole_wherever_its_bytes_are_cut(
    spoken: list[tuple[int, str]], cuts: list[int], looks: int
) -> None:
    sent = b"".join(
        b"data: "
        + json.dumps(delta(index, content=text), ensure_ascii=False).encode("utf-8", "replace")
        + b"\n\n"
        for index, text in spoken
    )
    gather = Gather()
    edges = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    for number, (a, b) in enumerate(itertools.pairwise(edges)):
        gather.add(sent[a:b])
        if number % looks == 0:
            assert gather.text.size <= len(sent)
    expected: dict[int, str] = {}
    for index, text in spoken:
        if text:
            expected[index] = expected.get(index, "") + text.encode("utf-8", "replace").decode()
    assert sorted(gather.text.texts) == sorted(expected.values())


def choice(finish: str, text: str = "") -> dict[str, Any]:
    return {"finish_reason": finish, "message": {"content": text}}


def test_choices_that_ended_by_length_are_as_long_as_the_limit() -> None:
    """llama.cpp says how long the first one is."""
    assert other_choices([choice("length"), choice("length"), choice("stop", "a")], 8, None) == (8, ["a"])
    assert other_choices([choice("stop"), choice("length")], 3, 8) == (8, [])
    assert other_choices([choice("stop"), choice("length", "b")], 3, None) == (0, ["b"])


def ended(output: int, seconds: float, counted_by: CountedBy = CountedBy.SERVER) -> Record:
    record = Record(Endpoint.CHAT_COMPLETIONS, started=1.0, request_id="r", model="m")
    record.sent, record.ended = 1.0, 1.0 + seconds
    record.usage, record.counted_by = Usage(1, output), counted_by
    return record


def test_the_pace_is_that_of_what_was_completed() -> None:
    rates = Rates()
    assert rates.output("m", 10.0, None) == 0
    rates.observe(ended(100, 2.0))
    assert rates.output("m", 10.0, None) == 500
    assert rates.output("m", 10.0, 7) == 7
    assert rates.output("other", 10.0, None) == 0
    assert rates.output("m", -1.0, None) == 0
    aborted = ended(9000, 1.0)
    aborted.outcome = Outcome.CLIENT_DISCONNECT
    rates.observe(aborted)
    rates.observe(ended(9000, 1.0, CountedBy.ESTIMATE))
    assert rates.output("m", 10.0, None) == 500
