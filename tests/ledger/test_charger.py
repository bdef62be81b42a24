"""What the gateway did not charge is taken from its real rate limit service, once, whatever goes away or is killed."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select

from ledger.buckets import buckets
from ledger.database import open_database
from ledger.ratelimit import RateLimitService
from ledger.tables import events
from tests.gateway.scenes import llm, of_kind, planned
from tests.ledger.limits import Limits
from tests.ledger.process import PATIENCE, Json, Ledger, event
from tests.ledger.test_buckets import MODEL, USER, gateway

LIMIT = 100_000
YEARLY = planned(llm("m", args=["--model_name=m"], annotations={"limit": f"{LIMIT}/year"}))
EACH_SECOND = planned(llm("s", args=["--model_name=s"], annotations={"limit": f"{LIMIT}/second"}))
OBJECTS = [*YEARLY.objects, *EACH_SECOND.objects]


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limits]:
    """The rate limit service; a test that has it away brings it back."""
    with Limits(tmp_path_factory.mktemp("limits"), gateway(), OBJECTS) as running:
        yield running


@pytest.fixture
def charging(database_url: str, limits: Limits, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that charges."""
    found = tmp_path / "objects.json"
    found.write_text(json.dumps([{"kind": "Gateway", **gateway()}, *OBJECTS]))
    settings = {
        "RATE_LIMIT": limits.target,
        "RATE_LIMIT_CA_FILE": str(limits.ca_file),
        "GATEWAY_OBJECTS": str(found),
    }
    with Ledger(database_url, tmp_path, **settings) as ledger:
        yield ledger


def aborted(id_: str, user: str | None, model: str = "m", **data: object) -> Json:
    """An event of a stream whose client went: 7 tokens that the gateway has not charged."""
    about = {
        "model": model,
        "gateway_model": model,
        "stream": True,
        "outcome": "client_disconnect",
        "gateway_saw": "nothing",
        "charged_by_gateway": False,
    }
    return event(id_, place=f"models/{model}/pod-0", user=user, **{**about, **data})


def state(url: str, id_: str) -> str | None:
    """What the database says of the event's charge."""
    writing, reading = open_database(url)
    try:
        with reading.connect() as connection:
            return connection.execute(select(events.c.charge).where(events.c.id == id_)).scalar()
    finally:
        writing.dispose()
        reading.dispose()


def left_pending(url: str, id_: str) -> bool:
    """Whether the ledger has begun with it."""
    return state(url, id_) not in (None, "pending")


def eventually(true: Callable[[], bool], ledger: Ledger) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, ledger.log
        time.sleep(0.02)


async def taken(limits: Limits, user: str | None) -> int:
    """What is missing from this user's bucket; looking takes one more."""
    (route,), (policy,) = of_kind(YEARLY, "AIGatewayRoute"), of_kind(YEARLY, "BackendTrafficPolicy")
    (bucket,) = buckets(gateway(), route, policy, {MODEL: "m"} | ({USER: user} if user else {}))
    async with RateLimitService(limits.target, ca=limits.ca, timeout=PATIENCE) as service:
        left = await service.take(bucket, 1)
    assert left is not None
    return LIMIT - left - 1


def named() -> str:
    return uuid4().hex


async def test_what_the_gateway_missed_is_charged_once(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    user, first = named(), named()
    saw_the_end = aborted("by-gateway", user, gateway_saw="final_usage", charged_by_gateway=True)
    charging.send([aborted(first, user), aborted("direct", user, channel="direct"), saw_the_end])
    charging.send([aborted(first, user)])
    charging.send([aborted("last", user, input_tokens=20)])
    eventually(lambda: state(database_url, "last") == "charged", charging)
    assert state(database_url, first) == "charged"
    assert state(database_url, "direct") == state(database_url, "by-gateway") == "none"
    assert await taken(limits, user) == 7 + 24
    assert charging.metric("token_meter_ledger_charges_total", result="charged") == 2
    assert charging.metric("token_meter_ledger_charged_tokens_total", result="charged") == 31


async def test_a_request_without_a_user_is_charged_to_all_that_have_none(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    before = await taken(limits, None)
    charging.send([aborted("nobody", None)])
    eventually(lambda: state(database_url, "nobody") == "charged", charging)
    assert await taken(limits, None) == before + 1 + 7


async def test_many_at_once_are_all_charged(charging: Ledger, limits: Limits, database_url: str) -> None:
    user = named()
    charging.send([aborted(f"e{i}", user) for i in range(700)])
    eventually(lambda: charging.metric("token_meter_ledger_charges_total", result="charged") == 700, charging)
    assert await taken(limits, user) == 700 * 7


async def test_killed_between_charging_and_charged_it_is_not_charged_again(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    user = named()
    charging.send([aborted("warm", user)])
    eventually(lambda: state(database_url, "warm") == "charged", charging)
    for attempt in map(str, range(10)):
        limits.freeze()
        try:
            charging.send([aborted(attempt, user)])
            eventually(partial(left_pending, database_url, attempt), charging)
            charging.kill()
        finally:
            limits.thaw()
        # On a slow machine the ledger's own time for the answer may be over before the kill.
        if state(database_url, attempt) == "charging":
            break
        charging.start()
    else:
        pytest.fail("never killed while it was charging")
    charging.start()
    charging.send([aborted("next", user)])
    eventually(lambda: state(database_url, "next") == "charged", charging)
    assert state(database_url, attempt) == "uncertain"
    assert charging.metric("token_meter_ledger_charges_total", result="uncertain") == 1
    assert charging.metric("token_meter_ledger_charged_tokens_total", result="uncertain") == 7
    # The frozen service may have read the call before the ledger was killed: that once, or not at all.
    assert 14 <= await taken(limits, user) <= 14 + 7 * (int(attempt) + 1)


async def test_a_service_that_was_away_is_told_when_it_is_back(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    user = named()
    limits.stop()
    try:
        charging.send([aborted("a", user), aborted("b", user)])
        eventually(lambda: "charging waits" in charging.log, charging)
        # Nothing is begun that could not be ended: a kill now leaves nothing uncertain.
        assert state(database_url, "a") == "pending"
        assert charging.metric("token_meter_ledger_charges_total", result="charged") == 0
        charging.kill()
        charging.start()
    finally:
        limits.start()
    eventually(lambda: state(database_url, "b") == "charged", charging)
    assert state(database_url, "a") == "charged"
    assert await taken(limits, user) == 14


async def test_when_the_window_is_over_the_charge_is_missed(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    limits.stop()
    try:
        charging.send([aborted("s", named(), "s")])
        eventually(lambda: state(database_url, "s") == "missed", charging)
    finally:
        limits.start()
    assert charging.metric("token_meter_ledger_charges_total", result="missed") == 1
    assert charging.metric("token_meter_ledger_missed_charges_total", reason="window_over") == 1


async def test_a_call_that_was_not_answered_is_uncertain_and_the_next_is_charged(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    user = named()
    charging.send([aborted("warm", user)])
    eventually(lambda: state(database_url, "warm") == "charged", charging)
    limits.freeze()
    try:
        charging.send([aborted("lost", user)])
        eventually(lambda: state(database_url, "lost") == "uncertain", charging)
    finally:
        limits.thaw()
    charging.send([aborted("next", user)])
    eventually(lambda: state(database_url, "next") == "charged", charging)
    assert await taken(limits, user) in (14, 21)


def test_of_a_service_that_has_no_limit_it_is_missed(charging: Ledger, database_url: str) -> None:
    charging.send([aborted("gone", "alice", "unknown")])
    eventually(lambda: state(database_url, "gone") == "missed", charging)
    assert charging.metric("token_meter_ledger_missed_charges_total", reason="no_route") == 1


def test_without_a_rate_limit_service_each_is_missed_and_said_so(ledger: Ledger, database_url: str) -> None:
    ledger.send([aborted("a", "alice")])
    eventually(lambda: state(database_url, "a") == "missed", ledger)
    assert ledger.metric("token_meter_ledger_missed_charges_total", reason="off") == 1


def test_a_stopped_ledger_has_settled_what_it_began(
    charging: Ledger, limits: Limits, database_url: str
) -> None:
    charging.send([aborted(f"e{i}", "dora") for i in range(300)])
    charging.stop()
    assert charging.ended == 0
    assert "charging" not in {state(database_url, f"e{i}") for i in (0, 100, 299)}
    charging.start()
    eventually(lambda: state(database_url, "e299") == "charged", charging)
    assert charging.metric("token_meter_ledger_charges_total", result="uncertain") == 0
