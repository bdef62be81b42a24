"""Every object that can be planned is one that the official CRDs of every release accept."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.facts import Capabilities, Facts, Material, Placement, UnsupportedAPI
from gateway.plan import Plan
from isvc import Mode
from tests import crds
from tests.gateway.scenes import FACTS, guide, injected, llm, planned, with_canary

pytestmark = crds.needed
RELEASES = crds.ai_gateway_releases()
ENVOY_GATEWAY = ("envoy-gateway", "gateway-api")
NO_CRD_HERE = {"ClientTrafficPolicy"}


def capabilities(release: str) -> Capabilities:
    return Capabilities.from_crds(crds.load(f"ai-gateway/{release}", "gateway-api"))


def services() -> Iterator[tuple[dict[str, Any], Facts]]:
    """The guide's InferenceService and what others may ask for."""
    many = ["--served-model-name", *(f"model-{i}" for i in range(200))]
    yield guide(), FACTS
    yield guide(), replace(FACTS, key=None)
    yield guide(), replace(FACTS, rate_limit=False)
    yield guide(), replace(FACTS, taken=frozenset({"llama3-1b"}))
    yield llm(uid="7d7a", annotations={"limit": "off"}), FACTS
    yield llm(annotations={"access": "open", "limit": "5/day", "limit-by": "X-Tenant"}), FACTS
    yield llm("a" * 60, "b" * 63, logger={"mode": "all"}), FACTS
    yield injected(with_canary(llm(), 20)), FACTS
    yield (
        injected(with_canary(llm(annotations={"tls": "true"}), 20)),
        replace(FACTS, tls=Material("c", "k", "a")),
    )
    yield llm(args=many), FACTS
    yield llm(args=many), replace(FACTS, taken=frozenset(f"model-{i}" for i in range(40)))


CASES = list(itertools.product(range(len(list(services()))), Placement, (Mode.STANDARD, Mode.KNATIVE)))


def plans(release: str) -> Iterator[Plan]:
    known = capabilities(release)
    for i, placement, mode in CASES:
        obj, facts = list(services())[i]
        yield planned(obj, replace(facts, placement=placement, capabilities=known), mode)


def problems(obj: dict[str, Any], release: str) -> list[str]:
    if obj["apiVersion"] == "v1":
        return crds.core_problems(obj)
    group = obj["apiVersion"].split("/")[0]
    return crds.problems(obj, *([f"ai-gateway/{release}"] if group.startswith("ai") else ENVOY_GATEWAY))


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_accepted_by_the_crds_of_this_release(release: str) -> None:
    seen = set()
    for result in plans(release):
        for obj in result.objects:
            if obj["kind"] not in NO_CRD_HERE:
                assert problems(obj, release) == [], obj
                seen.add(obj["kind"])
    assert seen >= {"AIGatewayRoute", "AIServiceBackend", "BackendSecurityPolicy", "BackendTrafficPolicy"}


@pytest.mark.parametrize("release", RELEASES)
def test_across_namespaces_is_granted_where_routes_can_name_a_namespace(release: str) -> None:
    cross = replace(FACTS, placement=Placement.CROSS, capabilities=capabilities(release))
    kinds = {obj["kind"]: obj["metadata"]["namespace"] for obj in planned(guide(), cross).objects}
    assert ("ReferenceGrant" in kinds) is (release != "v0.3.0")
    assert kinds["AIServiceBackend"] == ("default" if release == "v0.3.0" else "kserve-test")


def test_the_newest_served_versions_and_fields_are_found() -> None:
    assert capabilities("v0.3.0") == Capabilities("v1alpha1", "v1", False, False)
    assert capabilities("v0.5.0") == Capabilities("v1alpha1", "v1", True, False)
    assert capabilities("v0.6.0") == Capabilities("v1beta1", "v1", True, False)
    assert capabilities("v1.1.0") == Capabilities("v1beta1", "v1", True, True)


def test_a_cluster_without_ai_gateway_is_said_to_need_it() -> None:
    with pytest.raises(UnsupportedAPI, match=r"install AI Gateway 0\.3 or newer"):
        Capabilities.from_crds(crds.load("gateway-api"))


def test_a_version_that_is_not_known_is_named() -> None:
    (route,) = (
        crd for crd in crds.load("ai-gateway/v1.1.0") if crd["spec"]["names"]["kind"] == "AIGatewayRoute"
    )
    spec = {**route["spec"], "versions": [{"name": "v2", "served": True}]}
    with pytest.raises(UnsupportedAPI, match="served as v2"):
        Capabilities.from_crds([{**route, "spec": spec}])


def test_a_version_that_is_no_longer_served_is_not_written() -> None:
    (route,) = (
        crd for crd in crds.load("ai-gateway/v1.1.0") if crd["spec"]["names"]["kind"] == "AIGatewayRoute"
    )
    versions = [{**v, "served": v["name"] == "v1alpha1"} for v in route["spec"]["versions"]]
    known = Capabilities.from_crds([{**route, "spec": {**route["spec"], "versions": versions}}])
    assert known.ai_gateway == "v1alpha1"


# The judge itself, held to what a real API server with AI Gateway 1.1.0 refused.


def test_the_judge_refuses_an_unknown_field() -> None:
    obj = edited("AIServiceBackend", timeouts={"request": "60s"})
    assert any("timeouts" in problem for problem in problems(obj, "v1.1.0"))


def test_the_judge_refuses_a_service_as_the_backend() -> None:
    obj = edited("AIServiceBackend", backendRef={"name": "m", "kind": "Service", "port": 80})
    assert any("BackendRef must be a Backend resource" in problem for problem in problems(obj, "v1.1.0"))


def test_the_judge_evaluates_rules_on_defaults() -> None:
    obj = edited("AIGatewayRoute", parentRefs=[{"name": "g", "kind": "Service"}])
    assert any("only Gateway is supported" in problem for problem in problems(obj, "v1.1.0"))
    obj = edited("AIGatewayRoute", parentRefs=[{"name": "g"}])
    assert problems(obj, "v1.1.0") == []


def test_the_judge_refuses_more_rules_than_the_crd_allows() -> None:
    obj = edited("AIGatewayRoute", rules=[{"backendRefs": [{"name": "m"}]}] * 16)
    assert any("too long" in problem for problem in problems(obj, "v1.1.0"))


def edited(kind: str, **spec: Any) -> dict[str, Any]:
    (obj,) = (obj for obj in planned(llm()).objects if obj["kind"] == kind)
    return {**obj, "spec": {**obj["spec"], **spec}}
