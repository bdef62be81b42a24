"""An LLMInferenceService: its route, costs and limit, to its InferencePool."""

from dataclasses import replace
from typing import Any

import pytest

import isvc
from gateway.cases import Cluster, Key, Stage, cases, read, read_llm
from gateway.facts import Facts, Placement
from gateway.notices import Reason
from gateway.plan import Plan, plan_llm
from tests import crds
from tests.gateway.scenes import FACTS, injected, keys, llm, one
from tests.gateway.test_schemas import capabilities, problems


def an_llm(name: str = "m", **metadata: Any) -> dict[str, Any]:
    """As KServe reports one that serves."""
    conditions = [{"type": kind, "status": "True"} for kind in ("WorkloadsReady", "InferencePoolReady")]
    return {
        "kind": "LLMInferenceService",
        "metadata": {"name": name, "namespace": "models", "uid": "7d7a", **metadata},
        "spec": {"model": {"uri": "hf://a/b", "name": "a/b"}, "router": {"scheduler": {}}},
        "status": {"conditions": conditions},
    }


def planned(obj: dict[str, Any], facts: Facts = FACTS) -> Plan:
    service = isvc.read_llm(obj, "v1alpha2")
    return plan_llm(service, isvc.resolve(service.annotations), facts)


@pytest.mark.parametrize("placement", Placement)
def test_it_has_a_route_and_a_policy_beside_it_and_nothing_else(placement: Placement) -> None:
    assert keys(planned(an_llm(), replace(FACTS, placement=placement))) == [
        ("AIGatewayRoute", "models", "token-meter-llm.m"),
        ("BackendTrafficPolicy", "models", "token-meter-llm.m"),
        ("ClientTrafficPolicy", "default", "token-meter-envoy-ai-gateway-basic"),
    ]


def test_requests_go_to_its_pool_by_both_of_its_names_and_are_counted() -> None:
    spec = one(planned(an_llm()), "AIGatewayRoute")["spec"]
    (rule,) = spec["rules"]
    assert [match["headers"][0]["value"] for match in rule["matches"]] == [
        "a/b",
        "publishers/models/models/m",
    ]
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "m-inference-pool"}
    assert rule["backendRefs"] == [pool]
    assert [cost["type"] for cost in spec["llmRequestCosts"]] == ["InputToken", "OutputToken", "TotalToken"]


def test_a_pool_of_its_own_is_named_in_its_router() -> None:
    obj = an_llm()
    obj["spec"]["router"]["scheduler"]["pool"] = {"ref": {"name": "mine"}}
    (rule,) = one(planned(obj), "AIGatewayRoute")["spec"]["rules"]
    assert rule["backendRefs"][0]["name"] == "mine"


def test_it_owns_what_is_made_for_it() -> None:
    (owner,) = one(planned(an_llm()), "AIGatewayRoute")["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["kind"]) == ("serving.kserve.io/v1alpha2", "LLMInferenceService")


def test_it_is_said_that_the_gateway_counts_alone() -> None:
    assert [notice.reason for notice in planned(an_llm()).notices] == [Reason.GATEWAY_COUNTS_ALONE]


@crds.needed
@pytest.mark.parametrize("release", [r for r in crds.ai_gateway_releases() if r != "v0.3.0"])
def test_every_object_is_accepted_by_the_crds_of_this_release(release: str) -> None:
    known = capabilities(release)
    for taken in (frozenset[str](), frozenset({"a/b"})):
        for obj in planned(an_llm(), replace(FACTS, capabilities=known, taken=taken)).objects:
            if obj["kind"] != "ClientTrafficPolicy":
                assert problems(obj, release) == []


LABELLED = {"metadata": {"name": "models", "labels": {"token-meter.dev/injection": "enabled"}}}
GATEWAY = {
    "metadata": {"name": "gw", "namespace": "infra"},
    "spec": {"gatewayClassName": "eg", "listeners": []},
}
CLASS = {
    "metadata": {"name": "eg"},
    "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
}


def stage(obj: dict[str, Any], injection: str = "enabled") -> Stage:
    space = {"metadata": {"name": "models", "labels": {"token-meter.dev/injection": injection}}}
    cluster = Cluster(namespaces={"models": space}, gateways=[GATEWAY], classes=[CLASS])
    found = cases([(obj, read_llm(obj, "v1alpha2"))], cluster, {})
    return found[Key("models", "m", "LLMInferenceService")].stage(routed=False)


def test_it_opts_in_as_an_inferenceservice_does() -> None:
    asks = an_llm(annotations={"token-meter.dev/inject": "true"})
    assert stage(an_llm()) is Stage.ROUTED
    assert stage(an_llm(), "annotated") is Stage.NOTHING
    assert stage(asks, "annotated") is Stage.ROUTED
    assert stage(an_llm(annotations={"token-meter.dev/inject": "false"})) is Stage.NOTHING
    assert stage(an_llm(annotations={"serving.kserve.io/stop": "true"})) is Stage.EARLY


def test_the_older_of_both_kinds_keeps_the_name() -> None:
    cluster = Cluster(namespaces={"models": LABELLED}, gateways=[GATEWAY], classes=[CLASS])
    young = an_llm(creationTimestamp="2026-02-01T00:00:00Z")
    old = injected(llm("m", args=["--model_name=a/b"]))
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    found = cases([(young, read_llm(young, "v1alpha2")), (old, read(old, None))], cluster, {})
    assert found[Key("models", "m", "LLMInferenceService")].taken == {"a/b"}
    assert found[Key("models", "m")].taken == set()
