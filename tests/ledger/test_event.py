"""The usage event: docs/usage-event.schema.json and the ledger allow the same."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.event import BadEvent, read_event

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "usage-event.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def example() -> Any:
    """The event that the documentation shows."""
    text = (DOCS / "usage-event.md").read_text()
    return json.loads(text.split("```json\n")[1].split("```")[0])


def accepted(event: Any) -> bool:
    """The ledger's judgement, which must be the schema's."""
    try:
        read_event(event)
    except BadEvent:
        taken = False
    else:
        taken = True
    assert taken == VALIDATOR.is_valid(event), list(VALIDATOR.iter_errors(event))
    return taken


def test_the_documented_event_is_a_usage_event() -> None:
    event = read_event(example())
    assert accepted(example())
    assert event.place == ("team-a", "llama", "llama-predictor-6bd-x2x")
    assert event.moment == 1_769_860_800_125


MEMBERS = [
    *[(name,) for name in SCHEMA["required"]],
    *[("data", name) for name in SCHEMA["$defs"]["usage"]["properties"]],
    ("subject",),
]


@pytest.mark.parametrize("path", MEMBERS, ids=".".join)
def test_schema_and_ledger_agree_on_what_may_be_missing(path: tuple[str, ...]) -> None:
    event = example()
    where = event if len(path) == 1 else event[path[0]]
    del where[path[-1]]
    accepted(event)


@given(
    path=st.sampled_from(MEMBERS),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 2**54),
        st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer()),
        st.text(max_size=20),
        st.sampled_from(
            ["gateway", "completed", "server", "final_usage", "/namespaces/a/inferenceservices/b/pods/c"]
        ),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
)
def test_schema_and_ledger_agree_on_any_value_of_any_member(path: tuple[str, ...], value: Any) -> None:
    if path == ("time",):
        return  # JSON Schema's date-time is not checked by every validator; the ledger's is below
    event = copy.deepcopy(example())
    (event if len(path) == 1 else event[path[0]])[path[-1]] = value
    if value is None and path[-1] in ("subject", "gateway_model", "ttft_ms"):
        return  # the ledger reads null as absent; the schema's sender leaves it out
    if path[-1] in ("input_tokens", "output_tokens", "total_tokens"):
        return  # that they add up is more than a schema can say; the ledger's rule is below
    accepted(event)


def test_a_total_that_is_not_the_sum_is_refused() -> None:
    event = example()
    event["data"]["total_tokens"] += 1
    with pytest.raises(BadEvent, match="total_tokens is not the sum"):
        read_event(event)


@pytest.mark.parametrize("time", ["2026-01-31 12:00", "yesterday", "2026-01-31T12:00:00", True, None])
def test_a_time_without_a_zone_or_that_is_none_is_refused_by_name(time: Any) -> None:
    with pytest.raises(BadEvent, match=r"^time: "):
        read_event(example() | {"time": time})


def test_members_that_are_not_known_are_let_pass() -> None:
    event = example() | {"traceparent": "00-1-2-01"}
    event["data"]["later"] = 1
    assert accepted(event)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_moment_outside_of_the_calendar_is_refused_alone(time: str) -> None:
    with pytest.raises(BadEvent, match="time"):
        read_event(example() | {"time": time})
