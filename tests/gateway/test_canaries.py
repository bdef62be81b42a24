"""A canary gets its share of the requests that come through the gateway, and no request before it is ready."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.facts import Placement
from gateway.plan import Plan
from isvc import Mode
from tests.gateway.scenes import FACTS, injected, llm, of_kind, one, planned, with_canary

CROSS = replace(FACTS, placement=Placement.CROSS)


def shares(result: Plan) -> dict[str, Any]:
    """Backend -> weight, None where there is none."""
    (rule,) = one(result, "AIGatewayRoute")["spec"]["rules"]
    return {ref["name"]: ref.get("weight") for ref in rule["backendRefs"]}


def test_requests_are_shared_out_as_kserve_says() -> None:
    result = planned(injected(with_canary(llm(), 20)))
    assert shares(result) == {"token-meter-m": 80, "token-meter-m.next": 20}


def test_a_canarys_pods_are_found_by_kserves_label() -> None:
    services = of_kind(planned(injected(with_canary(llm(), 20))), "Service")
    assert [service["spec"]["selector"] for service in services] == [
        {"app": "isvc.m-predictor"},
        {"app": "isvc.m-next-predictor"},
    ]
    backends = of_kind(planned(injected(with_canary(llm(), 20))), "Backend")
    hosts = [backend["spec"]["endpoints"][0]["fqdn"]["hostname"].split(".")[0] for backend in backends]
    assert hosts == [service["metadata"]["name"] for service in services]


@pytest.mark.parametrize("facts", [FACTS, CROSS], ids=["local", "cross"])
def test_the_gateway_shows_its_key_to_a_canary_too(facts: Any) -> None:
    result = planned(injected(with_canary(llm(), 20)), facts)
    targets = one(result, "BackendSecurityPolicy")["spec"]["targetRefs"]
    assert [target["name"] for target in targets] == list(shares(result))
    assert [backend["metadata"]["name"] for backend in of_kind(result, "AIServiceBackend")] == list(
        shares(result)
    )


def test_one_that_is_not_ready_gets_none() -> None:
    result = planned(injected(with_canary(llm(), 20, ready=False)))
    assert shares(result) == {"token-meter-m": None}
    assert len(of_kind(result, "Backend")) == 1


def test_one_without_the_sidecar_gets_none() -> None:
    obj = injected(llm())
    own = {"initContainers": [{"name": "mine", "image": "i"}]}
    bare = with_canary(obj, 20)
    bare["spec"]["canary"][0]["predictor"] |= own
    assert shares(planned(bare)) == {"token-meter-m": None}


def test_a_promoted_one_leaves_no_weight_behind() -> None:
    assert shares(planned(injected(llm()))) == {"token-meter-m": None}


def test_a_rule_of_a_renamed_model_renames_it_for_the_canary_too() -> None:
    result = planned(
        injected(with_canary(llm(args=["--model_name=m"]), 20)), replace(FACTS, taken=frozenset({"m"}))
    )
    (rule,) = one(result, "AIGatewayRoute")["spec"]["rules"]
    assert [ref["modelNameOverride"] for ref in rule["backendRefs"]] == ["m", "m"]


def test_two_names_that_read_alike_are_two_services() -> None:
    of_canary = planned(injected(with_canary(llm("a"), 20, name="b")))
    alike = planned(injected(llm("a-b")))
    names = [{s["metadata"]["name"] for s in of_kind(result, "Service")} for result in (of_canary, alike)]
    assert not names[0] & names[1]


def test_in_knative_kserves_own_address_shares_out() -> None:
    assert shares(planned(llm(canaryTrafficPercent=20), FACTS, Mode.KNATIVE)) == {"token-meter-m": None}


@given(st.lists(st.integers(0, 100), max_size=4))
def test_shares_are_percents_that_never_go_below_nothing(percents: list[int]) -> None:
    obj = llm()
    for number, percent in enumerate(percents):
        obj = with_canary(obj, percent, name=f"c{number}")
    found = shares(planned(injected(obj)))
    assert len(found) == 1 + len(percents)
    if percents:
        assert found.pop("token-meter-m") == max(100 - sum(percents), 0)
        assert list(found.values()) == percents
