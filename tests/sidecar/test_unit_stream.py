"""What of a stream of chunks reaches whom, as pure functions of bytes."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.chunks import ends_choice, index_of, trailing_usage
from sidecar.shape import Delivery, Shape
from sidecar.sse import EventSplitter, data_of
from sidecar.stream import ChunkStream
from sidecar.usage import Usage

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(text: str = "", *, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    value = {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def usage_chunk(usage: dict[str, Any] = USAGE, **more: Any) -> bytes:
    value = {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage, **more}
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
PLAIN = chunk("a") + chunk("b") + chunk("c", finish="stop")


def run(stream: ChunkStream, text: bytes, cuts: list[int] | None = None) -> bytes:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts or [])})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    return b"".join(stream.feed(piece) for piece in pieces) + stream.finish()


def events(text: bytes) -> list[Any]:
    splitter = EventSplitter()
    found = [data_of(event) for event in splitter.feed(text)]
    assert splitter.tail == b""
    return [item if item == b"[DONE]" else json.loads(item) for item in found if item is not None]


CUTS = st.lists(st.integers(0, 5000), max_size=12)


@given(CUTS)
def test_a_client_that_asked_gets_the_servers_bytes(cuts: list[int]) -> None:
    text = PLAIN + usage_chunk() + DONE
    stream = ChunkStream(Delivery.AS_SENT, strip_running=False)
    assert run(stream, text, cuts) == text
    assert stream.final == Usage(7, 3)


@given(CUTS)
def test_a_direct_client_that_did_not_ask_sees_no_usage_and_no_empty_chunk(cuts: list[int]) -> None:
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    assert run(stream, PLAIN + usage_chunk() + DONE, cuts) == PLAIN + DONE
    assert stream.final == Usage(7, 3)


@given(CUTS)
def test_the_gateway_gets_the_usage_on_the_last_content_chunk(cuts: list[int]) -> None:
    stream = ChunkStream(Delivery.ON_LAST_CHUNK, strip_running=True)
    got = run(stream, PLAIN + usage_chunk() + DONE, cuts)
    assert got == chunk("a") + chunk("b") + chunk("c", finish="stop", usage=USAGE) + DONE


@given(CUTS, st.sampled_from(list(Delivery)))
def test_running_usage_never_reaches_who_did_not_ask(cuts: list[int], delivery: Delivery) -> None:
    def running(count: int) -> dict[str, int]:
        return {"prompt_tokens": 7, "total_tokens": 7 + count, "completion_tokens": count}

    text = (
        chunk("a", usage=running(1))
        + chunk("b", usage=running(2))
        + chunk("c", finish="stop", usage=running(3))
    )
    stream = ChunkStream(delivery, strip_running=True)
    got = run(stream, text + usage_chunk() + DONE, cuts)
    assert stream.running == Usage(7, 3)
    expected = {
        Delivery.AS_SENT: PLAIN + usage_chunk() + DONE,
        Delivery.NONE: PLAIN + DONE,
        Delivery.ON_LAST_CHUNK: chunk("a") + chunk("b") + chunk("c", finish="stop", usage=USAGE) + DONE,
    }
    assert got == expected[delivery]


def test_running_usage_of_two_choices_adds_up_and_the_prompt_counts_once() -> None:
    text = b"".join(
        chunk(
            "x",
            index=index,
            usage={"prompt_tokens": 7, "total_tokens": 7 + count, "completion_tokens": count},
        )
        for index, count in ((0, 1), (1, 1), (0, 2), (1, 5))
    )
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    run(stream, text)
    assert stream.final is None
    assert stream.running == Usage(7, 7)


@pytest.mark.parametrize("delivery", [Delivery.AS_SENT, Delivery.ON_LAST_CHUNK])
def test_usage_that_rides_on_the_last_content_chunk_stays_there(delivery: Delivery) -> None:
    text = chunk("a") + chunk("b", finish="stop", usage=USAGE) + DONE
    stream = ChunkStream(delivery, strip_running=True)
    assert events(run(stream, text)) == events(text)
    assert stream.running == Usage(7, 3)


def test_a_null_usage_is_taken_out_for_who_did_not_ask() -> None:
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    assert run(stream, chunk("a", usage=None) + DONE) == chunk("a") + DONE


def test_the_fingerprint_returns_to_the_chunk_it_was_moved_from() -> None:
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    got = run(stream, PLAIN + usage_chunk(system_fingerprint="fp") + DONE)
    assert got == chunk("a") + chunk("b") + chunk("c", finish="stop", system_fingerprint="fp") + DONE


def test_a_server_with_a_finish_reason_on_every_chunk_is_not_held_back() -> None:
    stream = ChunkStream(Delivery.ON_LAST_CHUNK, strip_running=True)
    one, two, three = (chunk(text, finish="length") for text in "abc")
    assert stream.feed(one) == b""
    assert stream.feed(two) == one + two
    assert stream.feed(three) == three
    assert stream.feed(DONE) == b""  # the usage is counted first
    assert stream.finish() == DONE


def test_a_usage_chunk_with_nothing_to_ride_on_gets_an_empty_choice_of_its_own() -> None:
    stream = ChunkStream(Delivery.ON_LAST_CHUNK, strip_running=True)
    got = events(run(stream, chunk("a") + usage_chunk() + DONE))
    assert got[1]["usage"] == USAGE
    assert got[1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]


def test_text_that_speaks_of_usage_is_no_usage() -> None:
    text = (
        chunk('{"usage": {"prompt_tokens": 99}}') + chunk("[DONE]") + chunk('"finish_reason":"stop"') + DONE
    )
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    assert run(stream, text) == text
    assert stream.final is None
    assert stream.running is None


def test_an_error_inside_a_stream_is_noticed_and_passed_on() -> None:
    text = chunk("a") + b'data: {"error":{"message":"boom","code":500}}\n\n' + DONE
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    assert run(stream, text) == text
    assert stream.error


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@given(cuts=CUTS)
def test_every_line_end_is_understood_wherever_the_bytes_are_cut(end: bytes, cuts: list[int]) -> None:
    text = (PLAIN + b": ping\n\n" + usage_chunk() + DONE).replace(b"\n", end)
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    got = run(stream, text, cuts)
    assert got == (PLAIN + b": ping\n\n" + DONE).replace(b"\n", end) or b": ping" in got
    assert events(got) == events(PLAIN + DONE)
    assert stream.final == Usage(7, 3)


@given(st.text("\r\n:a").map(str.encode))
def test_events_are_cut_at_the_same_places_however_they_came(text: bytes) -> None:
    by_bytes, whole = EventSplitter(), EventSplitter()
    found = [event for byte in text for event in by_bytes.feed(bytes([byte]))]
    assert b"".join(found) + by_bytes.tail == text
    at_once = whole.feed(text)
    # A CR at an event's end goes with the LF that may come next.
    assert [event.rstrip() for event in found if event.strip()] == [
        event.rstrip() for event in at_once if event.strip()
    ]


@given(st.text(), st.text(), st.integers(0, 10**9 - 1), st.sampled_from(["usage", "timings"]))
def test_running_usage_is_found_behind_whatever_a_model_says(
    text: str, name: str, index: int, member: str
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    more: dict[str, Any] = {member: usage}
    event = chunk(text, index=index, name=name, **more)
    found = trailing_usage(event)
    assert found is not None
    assert (found.name.decode(), json.loads(found.value)) == (member, usage)
    assert event[: found.start] + event[found.end :] == chunk(text, index=index, name=name)
    assert index_of(event) == index
    assert trailing_usage(chunk(text, index=index, name=name)) is None


def test_token_ids_that_only_we_asked_for_go_out_of_a_chunk_without_usage_too() -> None:
    """Found by fuzzing: such a chunk passed as it was where a read brought nothing else."""
    stream = ChunkStream(Delivery.NONE, strip_running=True, shape=Shape(strip_token_ids=True))
    event = chunk("a").replace(b'"finish_reason"', b'"token_ids":[3],"finish_reason"')
    assert stream.feed(event) == event.replace(b"[3]", b"null")


@pytest.mark.parametrize("reason", [None, "stop"])
@given(text=st.text())
def test_a_choice_ends_where_the_server_says_so_and_nowhere_else(reason: str | None, text: str) -> None:
    assert ends_choice(chunk(text, finish=reason)) == (reason is not None)


def test_a_last_event_without_its_blank_line_is_counted_and_ended() -> None:
    stream = ChunkStream(Delivery.ON_LAST_CHUNK, strip_running=True)
    got = run(stream, PLAIN + usage_chunk().rstrip(b"\n"))
    assert got.endswith(b"\n\n")
    assert events(got)[-1]["usage"] == USAGE


def test_data_without_its_space_is_data() -> None:
    stream = ChunkStream(Delivery.NONE, strip_running=True)
    got = run(stream, (PLAIN + usage_chunk() + DONE).replace(b"data: ", b"data:"))
    assert events(got) == events(PLAIN + DONE)
    assert stream.final == Usage(7, 3)


@given(st.binary(max_size=400), CUTS, st.sampled_from(list(Delivery)))
def test_whatever_a_server_sends_nothing_of_it_is_lost_or_raised(
    garbage: bytes, cuts: list[int], delivery: Delivery
) -> None:
    got = run(ChunkStream(delivery, strip_running=True), garbage, cuts)
    assert got.rstrip(b"\n").startswith(garbage.rstrip(b"\n"))


def test_counts_and_indexes_larger_than_any_are_none() -> None:
    """A server that has lost its count must not break the stream: what is no count is counted otherwise."""
    stream = ChunkStream(Delivery.ON_LAST_CHUNK, strip_running=True)
    huge = chunk("a", usage={"prompt_tokens": 2**64 - 1, "completion_tokens": 3, "total_tokens": 2**64 - 1})
    got = run(stream, huge.replace(b'"index":0', b'"index":' + b"9" * 5000) + PLAIN + DONE)
    assert got.endswith(PLAIN + DONE)
    assert (stream.final, stream.running) == (None, None)
