"""Whatever a record holds, its event is one that the ledger takes: by the schema and by the ledger's own reader."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ledger.event import read_event
from sidecar.access import Channel
from sidecar.endpoints import Endpoint
from sidecar.event import Source, closed_event, open_event
from sidecar.record import CountedBy, GatewaySaw, Outcome, Record
from sidecar.usage import Usage

SCHEMA = Draft202012Validator(json.loads(Path("docs/usage-event.schema.json").read_text()))
SOURCE = Source.of("team-a", "llama", "llama-predictor-6bd-x2x")
# What OpenMeter's ingest asks of a CloudEvent (its API's Event), beside what the ledger asks.
OPENMETER = Draft202012Validator(
    {
        "type": "object",
        "required": ["id", "source", "specversion", "type", "subject"],
        "properties": {
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
            "specversion": {"const": "1.0"},
            "type": {"type": "string", "minLength": 1},
            "subject": {"type": "string", "minLength": 1},
            "datacontenttype": {"const": "application/json"},
            "time": {"type": "string", "format": "date-time"},
            "data": {"type": "object"},
        },
    },
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)
_TEXT = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["x" * 1025, "é" * 5000, "\0", "\ud800", "a/b", ""]
)
_COUNTS = st.integers(0, 10**12)
_TIMES = st.floats(-1e6, 1e12, allow_nan=False)


def record(**changes: Any) -> Record:
    """A stream of the gateway's that has ended."""
    values: dict[str, Any] = {
        "endpoint": Endpoint.CHAT_COMPLETIONS,
        "started": 100.0,
        "request_id": "r-1",
        "event_id": "5a6ef1d0c6f94cb8b0a4a53a1c0f7d92",
        "admitted": 1769860800.125,
        "model": "llama3-1b",
        "gateway_model": "llama3-1b",
        "channel": Channel.GATEWAY,
        "user": "alice",
        "stream": True,
        "status": 200,
        "usage": Usage(13, 37, 2, 3),
        "counted_by": CountedBy.SERVER,
        "gateway_saw": GatewaySaw.FINAL,
        "first_token": 100.0601,
        "ended": 100.8124,
    }
    return Record(**(values | changes))


def accepted(event: dict[str, Any]) -> dict[str, Any]:
    """The event as it comes out of the wire, taken by all readers; OpenMeter knows none without a subject."""
    value: dict[str, Any] = orjson.loads(orjson.dumps(event))
    SCHEMA.validate(value)
    read_event(value)
    if "subject" in value:
        OPENMETER.validate(value)
    return value


def test_the_event_of_a_finished_stream_is_the_one_in_the_documentation() -> None:
    event = accepted(closed_event(record(), SOURCE))
    assert event == {
        "specversion": "1.0",
        "id": "5a6ef1d0c6f94cb8b0a4a53a1c0f7d92",
        "source": "/namespaces/team-a/inferenceservices/llama/pods/llama-predictor-6bd-x2x",
        "type": "dev.token-meter.usage.v1",
        "subject": "alice",
        "time": "2026-01-31T12:00:00.125Z",
        "datacontenttype": "application/json",
        "data": {
            "model": "llama3-1b",
            "gateway_model": "llama3-1b",
            "endpoint": "chat_completions",
            "channel": "gateway",
            "stream": True,
            "status": 200,
            "outcome": "completed",
            "input_tokens": 13,
            "output_tokens": 37,
            "total_tokens": 50,
            "cached_input_tokens": 2,
            "reasoning_tokens": 3,
            "counted_by": "server",
            "exact": True,
            "gateway_saw": "final_usage",
            "charged_by_gateway": True,
            "request_id": "r-1",
            "duration_ms": 812.4,
            "ttft_ms": 60.1,
        },
    }
    assert read_event(event).moment == int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000) + 125


def test_the_event_of_an_open_stream_has_the_count_so_far_and_is_never_exact() -> None:
    running = record(so_far=lambda: (Usage(13, 5), CountedBy.RUNNING), usage=Usage())
    data = accepted(open_event(running, SOURCE, 101.0))["data"]
    assert (data["input_tokens"], data["output_tokens"], data["counted_by"]) == (13, 5, "running_usage")
    assert (data["outcome"], data["exact"], data["duration_ms"]) == ("meter_restarted", False, 1000.0)
    assert accepted(open_event(record(), SOURCE, 101.0))["data"]["exact"] is False


@pytest.mark.parametrize("user", [None, ""])
def test_a_request_without_a_user_has_no_subject(user: str | None) -> None:
    assert "subject" not in accepted(closed_event(record(user=user), SOURCE))


@pytest.mark.parametrize(
    ("bytes_of_header", "subject"), [("Zoë".encode(), "Zoë"), ("Zoë".encode("latin-1"), "Zoë")]
)
def test_a_user_is_read_as_utf8_where_it_is_that(bytes_of_header: bytes, subject: str) -> None:
    event = accepted(closed_event(record(user=bytes_of_header.decode("latin-1")), SOURCE))
    assert event["subject"] == subject


def test_long_users_that_differ_at_their_end_stay_two() -> None:
    subjects = {accepted(closed_event(record(user="u" * 2000 + end), SOURCE))["subject"] for end in "ab"}
    assert len(subjects) == 2


@given(
    st.builds(
        Record,
        endpoint=st.sampled_from(Endpoint),
        started=_TIMES,
        request_id=_TEXT,
        admitted=_TIMES,
        model=_TEXT,
        gateway_model=st.none() | _TEXT,
        channel=st.sampled_from(Channel),
        user=st.none() | _TEXT,
        stream=st.booleans(),
        status=st.integers(-1, 10_000),
        outcome=st.sampled_from(Outcome),
        usage=st.builds(Usage, _COUNTS, _COUNTS, _COUNTS, _COUNTS),
        counted_by=st.sampled_from(CountedBy),
        gateway_saw=st.sampled_from(GatewaySaw),
        first_token=_TIMES,
        ended=_TIMES,
    ),
    st.tuples(_TEXT, _TEXT, _TEXT),
)
def test_any_record_makes_events_that_the_ledger_takes(
    given_record: Record, names: tuple[str, str, str]
) -> None:
    source = Source.of(*names)
    accepted(closed_event(given_record, source))
    accepted(open_event(given_record, source, 5.0))
