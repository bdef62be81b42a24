"""What is made of the statuses that the real AI Gateway and Envoy Gateway were recorded with."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.buffers import too_small
from gateway.intent import targets
from gateway.notices import Reason
from gateway.verdict import State, lacks_rate_limit_backend, ready, refusals, verdict

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "ai-gateway"
WANTING = "RateLimit: enable Ratelimit in the EnvoyGateway config to configure global rateLimit."


def recorded(case: str) -> list[dict[str, Any]]:
    """The objects of a case, as they stood."""
    result = yaml.safe_load((RECORDED / f"{case}.yaml").read_text())["result"]
    found = []
    for name, obj in result.items():
        kind, namespace, own = name.split("/")
        metadata = {"generation": 1, **obj.get("metadata", {}), "namespace": namespace, "name": own}
        found.append({**obj, "kind": kind, "metadata": metadata})
    return found


@pytest.mark.parametrize("case", ["policy-on-route", "local-all", "cross-with-grant", "stream-idle-timeout"])
def test_what_was_accepted_throughout_is_ready(case: str) -> None:
    assert ready(recorded(case))
    assert refusals(recorded(case)) == ()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("local-not-allowed", Reason.NOT_ALLOWED_BY_LISTENERS),
        ("cross-only-aigateway-grant", Reason.REF_NOT_PERMITTED),
        ("cross-without-grant", Reason.ROUTE_NOT_ACCEPTED),
        ("missing-backend", Reason.ROUTE_NOT_ACCEPTED),
        ("missing-gateway", Reason.ROUTE_NOT_ACCEPTED),
        ("two-policies-on-route", Reason.POLICY_CONFLICTED),
        ("policy-on-route-and-gateway", Reason.POLICY_OVERRIDDEN),
    ],
)
def test_a_refusal_is_told_with_its_cause(case: str, reason: Reason) -> None:
    objects = recorded(case)
    assert not ready(objects)
    (notice,) = refusals(objects)
    assert notice.reason is reason
    causes = [condition["message"] for obj in objects for condition in verdict(obj).refusals]
    assert any(cause in notice.detail for cause in causes)


def test_a_route_that_has_become_no_httproute_yet_is_not_ready() -> None:
    assert not ready([obj for obj in recorded("policy-on-route") if obj["kind"] != "HTTPRoute"])


def test_what_is_said_of_an_older_generation_does_not_count() -> None:
    objects = recorded("two-policies-on-route")
    for obj in objects:
        obj["metadata"]["generation"] = 2
    policies = [obj for obj in objects if obj["kind"] == "BackendTrafficPolicy"]
    assert {verdict(obj).state for obj in policies} == {State.PENDING}


def test_overlapping_rules_are_no_refusal() -> None:
    (route,) = (obj for obj in recorded("local-all") if obj["kind"] == "HTTPRoute")
    conditions = route["status"]["parents"][0]["conditions"]
    conditions.append({"type": "RouteRulesOverlap", "status": "True", "reason": "RouteRulesOverlap"})
    assert verdict(route).state is State.ACCEPTED


def test_only_a_policy_that_still_has_its_limit_lacks_a_backend() -> None:
    policy = policy_refused("Invalid", WANTING)
    assert lacks_rate_limit_backend(policy)
    without = copy.deepcopy(policy)
    del without["spec"]["rateLimit"]
    assert not lacks_rate_limit_backend(without)
    assert not lacks_rate_limit_backend(policy_refused("Invalid", "CircuitBreaker: invalid value"))
    assert not lacks_rate_limit_backend(policy_refused("Conflicted", "another policy has already attached"))


def policy_refused(reason: str, message: str) -> dict[str, Any]:
    condition = {"type": "Accepted", "status": "False", "reason": reason, "message": message}
    return {
        "kind": "BackendTrafficPolicy",
        "metadata": {"namespace": "n", "name": "p", "generation": 3},
        "spec": {"rateLimit": {"type": "Global"}},
        "status": {"ancestors": [{"conditions": [{**condition, "observedGeneration": 3}]}]},
    }


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (None, True),
        ("32Ki", True),
        (32768, True),
        ("1e3", True),
        ("1Mi", False),
        ("2M", False),
        ("50Mi", False),
    ],
)
def test_a_buffer_that_holds_no_long_prompt_is_told(limit: object, told: bool) -> None:
    connection = {} if limit is None else {"connection": {"bufferLimit": limit}}
    policy = {"metadata": {"namespace": "n", "name": "own"}, "spec": connection}
    notices = list(too_small([policy]))
    assert [notice.reason for notice in notices] == [Reason.BUFFER_TOO_SMALL] * told
    assert all("n/own" in notice.detail and "50Mi" in notice.detail for notice in notices)


@pytest.mark.parametrize(
    ("spec", "whole", "reached"),
    [
        ({"targetRefs": [{"kind": "Gateway", "name": "gw"}]}, True, True),
        ({"targetRef": {"kind": "Gateway", "name": "gw"}}, True, True),
        ({"targetRefs": [{"kind": "Gateway", "name": "other"}]}, True, False),
        ({"targetRefs": [{"kind": "Gateway", "name": "gw", "sectionName": "http"}]}, True, False),
        ({"targetRefs": [{"kind": "Gateway", "name": "gw", "sectionName": "http"}]}, False, True),
        ({"targetSelectors": [{"kind": "Gateway", "matchLabels": {"a": "b"}}]}, True, True),
        ({"targetSelectors": [{"kind": "Gateway", "matchLabels": {"a": "c"}}]}, True, False),
        ({"targetSelectors": [{"kind": "HTTPRoute", "matchLabels": {"a": "b"}}]}, True, False),
    ],
)
def test_a_policy_reaches_its_target_by_name_or_label(
    spec: dict[str, Any], whole: bool, reached: bool
) -> None:
    gateway = {"namespace": "n", "name": "gw", "labels": {"a": "b"}}
    policy = {"metadata": {"namespace": "n", "name": "own"}, "spec": spec}
    assert targets(policy, "Gateway", gateway, whole=whole) is reached
    assert not targets(policy, "Gateway", {**gateway, "namespace": "m"}, whole=whole)
