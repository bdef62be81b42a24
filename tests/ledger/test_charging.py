"""What becomes of an event's charge follows from the gateway's objects and the clock alone."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isvc.annotations import Unit
from ledger.buckets import buckets
from ledger.charging import SECONDS, Due, Miss, Take, decide
from ledger.dial import way
from ledger.gateway import Snapshot
from ledger.settings import SettingsError, read_settings
from tests.gateway.scenes import llm, of_kind, planned
from tests.ledger.test_buckets import MODEL, USER, gateway, listener

Object = Mapping[str, Any]
NOON = 1_764_072_000.0
"""An hour, a minute and a second begin here."""


def due(**changed: Any) -> Due:
    fields = {"namespace": "models", "service": "m", "gateway_model": "m", "user": "alice"}
    return Due(**{"seq": 1, "tokens": 5, "ended": NOON + 1, **fields, **changed})


def snapshot(obj: Object | None = None, *gateways: Object) -> Snapshot:
    plan = planned(obj or llm(args=["--model_name=m"]))
    routes, policies = of_kind(plan, "AIGatewayRoute"), of_kind(plan, "BackendTrafficPolicy")
    return Snapshot(routes, policies, gateways or (gateway(),))


def test_an_event_is_taken_from_its_users_bucket_until_the_hour_ends() -> None:
    end = decide(due(), snapshot(), NOON + 3599)
    assert isinstance(end, Take)
    (bucket,) = end.buckets
    assert bucket.entries[1] == ("rule-0-match-0", "alice")
    assert end.until == NOON + 3600


def test_the_window_is_the_one_in_which_the_request_ended() -> None:
    assert decide(due(ended=NOON - 1), snapshot(), NOON) == Miss("window_over")
    assert decide(due(), snapshot(), NOON + 3600) == Miss("window_over")


def refused(obj: Object) -> Object:
    ancestors = [{"conditions": [{"type": "Accepted", "status": "False", "reason": "Conflicted"}]}]
    return {**obj, "status": {"ancestors": ancestors}}


PLAN = planned(llm(args=["--model_name=m"]))
ROUTES, POLICIES = of_kind(PLAN, "AIGatewayRoute"), of_kind(PLAN, "BackendTrafficPolicy")


def with_second_header(policy: Object) -> Object:
    changed = copy.deepcopy(dict(policy))
    changed["spec"]["rateLimit"]["global"]["rules"][0]["clientSelectors"][0]["headers"][0]["name"] = "x-org"
    return changed


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (Snapshot([], POLICIES, [gateway()]), "no_route"),
        (Snapshot(ROUTES, POLICIES, []), "no_gateway"),
        (Snapshot(ROUTES, [], [gateway()]), "no_limit"),
        (snapshot(llm(args=["--model_name=m"], annotations={"limit": "off"})), "no_limit"),
        (Snapshot(ROUTES, map(refused, POLICIES), [gateway()]), "policy_not_accepted"),
        (Snapshot(ROUTES, map(with_second_header, POLICIES), [gateway()]), "two_headers"),
        (snapshot(llm(args=["--model_name=other"])), "no_bucket"),
        (snapshot(None, gateway(listener("a"), listener("b"))), "no_bucket"),
    ],
)
def test_what_cannot_be_charged_says_why(objects: Snapshot, reason: str) -> None:
    assert decide(due(), objects, NOON + 2) == Miss(reason)


def test_the_listener_that_the_route_names_decides_between_two() -> None:
    routes = copy.deepcopy(ROUTES)
    routes[0]["spec"]["parentRefs"][0]["sectionName"] = "b"
    end = decide(due(), Snapshot(routes, POLICIES, [gateway(listener("a"), listener("b"))]), NOON + 2)
    assert isinstance(end, Take)
    assert end.buckets[0].domain.endswith("/b")


def test_two_routes_of_two_gateways_are_not_guessed_between() -> None:
    """One call reaches one domain, and a request came through one of them."""
    other = copy.deepcopy(ROUTES[0])
    other["metadata"]["name"] = "second"
    other["spec"]["parentRefs"][0]["name"] = "second"
    policy = copy.deepcopy(POLICIES[0])
    policy["spec"]["targetRefs"][0]["name"] = "second"
    second = gateway()
    second = {**second, "metadata": {**second["metadata"], "name": "second"}}
    found = Snapshot([*ROUTES, other], [*POLICIES, policy], [gateway(), second])
    assert decide(due(), found, NOON + 2) == Miss("two_gateways")


def test_another_hands_policy_in_ours_place_is_not_guessed_at() -> None:
    theirs = copy.deepcopy(POLICIES[0])
    theirs["spec"]["targetRefs"][0]["name"] = "another"
    assert decide(due(), Snapshot(ROUTES, [theirs], [gateway()]), NOON + 2) == Miss("no_limit")


@given(
    unit=st.sampled_from([str(unit) for unit in Unit]),
    ended=st.floats(1e9, 2e9),
    waits=st.lists(st.floats(0, 1e8), min_size=1, max_size=5),
    user=st.sampled_from(["", "alice", "bøb"]),
    model=st.sampled_from(["a", "b", "c"]),
)
def test_an_event_is_charged_where_the_gateway_would_have_and_never_in_another_window(
    unit: str, ended: float, waits: list[float], user: str, model: str
) -> None:
    served = llm(args=["--served-model-name", "a", "b"], annotations={"limit": f"9/{unit.lower()}"})
    objects, plan = snapshot(served), planned(served)
    one = due(gateway_model=model, user=user, ended=ended)
    ends = [decide(one, objects, ended + wait) for wait in sorted(waits)]
    headers = {MODEL: model} | ({USER: user} if user else {})
    (route,), (policy,) = of_kind(plan, "AIGatewayRoute"), of_kind(plan, "BackendTrafficPolicy")
    expected = buckets(gateway(), route, policy, headers)
    for wait, end in zip(sorted(waits), ends, strict=True):
        same = ended // SECONDS[unit] == (ended + wait) // SECONDS[unit]
        assert isinstance(end, Take) == (same and model != "c")
        if isinstance(end, Take):
            assert end.buckets == expected
            assert 0 < end.until - ended <= SECONDS[unit]


RATE_LIMIT = {"RATE_LIMIT": "127.0.0.1:8081", "GATEWAY_OBJECTS": "/objects.json"}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"RATE_LIMIT": "host"}, "TOKEN_METER_LEDGER_RATE_LIMIT: must be HOST:PORT"),
        ({"RATE_LIMIT": "127.0.0.1:8081"}, "TOKEN_METER_LEDGER_GATEWAY_OBJECTS: is needed"),
        ({**RATE_LIMIT, "RATE_LIMIT": "limits:8081"}, "TOKEN_METER_LEDGER_RATE_LIMIT_CA_FILE: is needed"),
        ({"RATE_LIMIT_CA_SECRET": "name"}, "TOKEN_METER_LEDGER_RATE_LIMIT_CA_SECRET: "),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, str], wrong: str) -> None:
    open_ = {"AUTH": "none", "HOST": "127.0.0.1"}
    with pytest.raises(SettingsError, match=wrong):
        read_settings({f"TOKEN_METER_LEDGER_{name}": value for name, value in {**open_, **given}.items()})


def test_objects_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    file = tmp_path / "objects.json"
    names = {"AUTH": "none", "HOST": "127.0.0.1", "RATE_LIMIT": "[::1]:8081", "GATEWAY_OBJECTS": str(file)}
    settings = read_settings({f"TOKEN_METER_LEDGER_{name}": value for name, value in names.items()})
    for content in ("{", '[{"kind": "Gateway"}]', "[1]"):
        file.write_text(content)
        with pytest.raises(SettingsError, match="GATEWAY_OBJECTS: /"):
            way(settings, None)
