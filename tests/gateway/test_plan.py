"""What the objects of a plan do for a user: where requests go, under which name, with which limit and key."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.facts import OLD_API, Capabilities, Placement
from gateway.notices import Reason
from gateway.plan import Plan
from isvc import GatewayRef, Mode
from tests.gateway.scenes import FACTS, GATEWAY, guide, keys, llm, of_kind, one, planned

CROSS = replace(FACTS, placement=Placement.CROSS)
WITHOUT_NAMESPACE = Capabilities("v1alpha1", backend_namespace=False, stream_idle_timeout=False)
SEED = Path(__file__).parents[1] / "data" / "seed-objects.yaml"


def reasons(result: Plan) -> set[Reason]:
    return {notice.reason for notice in result.notices}


def rules(result: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(result, "BackendTrafficPolicy")["spec"]["rateLimit"]["global"]["rules"]
    return found


def matched(result: Plan) -> list[str]:
    """The model names that the routes match, in order."""
    return [
        match["headers"][0]["value"]
        for route in of_kind(result, "AIGatewayRoute")
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    ]


# Where what stands


def test_local_placement_keeps_everything_but_the_gateways_policy_beside_the_model() -> None:
    assert keys(planned(guide())) == [
        ("Secret", "kserve-test", "token-meter-llama3-1b-key"),
        ("Service", "kserve-test", "token-meter-llama3-1b"),
        ("Backend", "kserve-test", "token-meter-llama3-1b"),
        ("AIServiceBackend", "kserve-test", "token-meter-llama3-1b"),
        ("BackendSecurityPolicy", "kserve-test", "token-meter-llama3-1b"),
        ("AIGatewayRoute", "kserve-test", "token-meter-llama3-1b"),
        ("BackendTrafficPolicy", "kserve-test", "token-meter-llama3-1b"),
        ("ClientTrafficPolicy", "default", "token-meter-envoy-ai-gateway-basic"),
    ]


def test_cross_placement_moves_route_and_policy_to_the_gateway_and_grants_the_way_back() -> None:
    result = planned(guide(), CROSS)
    assert keys(result)[5:] == [
        ("ReferenceGrant", "kserve-test", "token-meter-llama3-1b"),
        ("AIGatewayRoute", "default", "token-meter-kserve-test.llama3-1b"),
        ("BackendTrafficPolicy", "default", "token-meter-kserve-test.llama3-1b"),
        ("ClientTrafficPolicy", "default", "token-meter-envoy-ai-gateway-basic"),
    ]
    ref = one(result, "AIGatewayRoute")["spec"]["rules"][0]["backendRefs"][0]
    assert ref == {"name": "token-meter-llama3-1b", "namespace": "kserve-test"}


def test_a_model_in_the_gateways_namespace_needs_no_grant_in_either_placement() -> None:
    beside = planned(llm(namespace="default"), CROSS)
    assert beside == planned(llm(namespace="default"))
    assert of_kind(beside, "ReferenceGrant") == []


def test_the_route_names_the_gateway_with_its_namespace() -> None:
    (parent,) = one(planned(guide()), "AIGatewayRoute")["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"]) == (GATEWAY.namespace, GATEWAY.name)


def test_where_routes_cannot_name_a_namespace_the_backends_stand_beside_the_gateway() -> None:
    result = planned(guide(), replace(CROSS, capabilities=WITHOUT_NAMESPACE))
    name = "token-meter-kserve-test.llama3-1b"
    assert [key for key in keys(result) if key[1] == "kserve-test"] == [
        ("Secret", "kserve-test", "token-meter-llama3-1b-key"),
        ("Service", "kserve-test", "token-meter-llama3-1b"),
    ]
    assert one(result, "AIGatewayRoute")["spec"]["rules"][0]["backendRefs"] == [{"name": name}]
    secret = one(result, "BackendSecurityPolicy")["spec"]["apiKey"]["secretRef"]
    assert secret == {"name": f"{name}-key", "namespace": "default"}
    beside_model, beside_gateway = of_kind(result, "Secret")
    assert beside_model["data"] == beside_gateway["data"]
    assert ("Secret", "default", secret["name"]) in keys(result)
    assert result.early == (beside_model,)


def test_the_objects_follow_the_hand_written_ones_of_the_guide() -> None:
    """Every value of the working hand-written objects is ours too, but for those that are better on purpose."""
    ours = {obj["kind"]: obj for obj in planned(guide(), replace(CROSS, key=None)).objects}
    route = "token-meter-kserve-test.llama3-1b"
    differ = {
        ("Backend", "spec.endpoints.0.fqdn.hostname"): "token-meter-llama3-1b.kserve-test.svc.cluster.local",
        ("Backend", "spec.endpoints.0.fqdn.port"): 9180,
        ("Secret", "stringData.apiKey"): "REPLACE-WITH-A-RANDOM-KEY",
        ("AIGatewayRoute", "metadata.name"): route,
        ("AIGatewayRoute", "spec.rules.0.timeouts.request"): "3600s",
        ("BackendTrafficPolicy", "metadata.name"): route,
        ("BackendTrafficPolicy", "spec.targetRefs.0.name"): route,
    }
    for seed in yaml.safe_load_all(SEED.read_text()):
        flat = dict(leaves(ours[seed["kind"]]))
        for path, value in leaves(seed):
            assert flat[path] == differ.get((seed["kind"], path), value), (seed["kind"], path)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar of an object by its dotted path."""
    match value:
        case Mapping():
            for key, item in value.items():
                yield from leaves(item, f"{path}.{key}" if path else key)
        case list():
            for i, item in enumerate(value):
                yield from leaves(item, f"{path}.{i}")
        case _:
            yield path, value


# Where requests go


def test_standard_mode_goes_to_every_pod_by_a_headless_service_of_its_own() -> None:
    result = planned(llm())
    service = one(result, "Service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"app": "isvc.m-predictor"}
    (endpoint,) = one(result, "Backend")["spec"]["endpoints"]
    assert endpoint["fqdn"] == {"hostname": "token-meter-m.models.svc.cluster.local", "port": 9180}
    assert service["spec"]["ports"][0]["targetPort"] == 9180


@pytest.mark.parametrize("agent", ["logger", "batcher"])
def test_kserves_agent_is_not_passed_by(agent: str) -> None:
    obj = llm()
    obj["spec"]["predictor"][agent] = {}
    result = planned(obj)
    assert one(result, "Service")["spec"]["ports"][0]["port"] == 9081
    assert one(result, "Backend")["spec"]["endpoints"][0]["fqdn"]["port"] == 9081


def test_a_named_predictor_has_pods_of_that_name() -> None:
    obj = llm()
    obj["spec"]["predictor"]["name"] = "blue"
    selector = one(planned(obj), "Service")["spec"]["selector"]
    assert selector == {"app": "isvc.m-blue-predictor"}


def test_the_port_of_a_sidecar_that_is_there_is_kept() -> None:
    env = [
        {"name": "TOKEN_METER_UPSTREAM", "value": "http://127.0.0.1:8080"},
        {"name": "TOKEN_METER_PORT", "value": "9300"},
    ]
    result = planned(llm(initContainers=[{"name": "token-meter", "env": env}]))
    assert one(result, "Backend")["spec"]["endpoints"][0]["fqdn"]["port"] == 9300
    assert of_kind(result, "Secret") == [], "the sidecar asks for no key, so the gateway shows none"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        (None, "m.models.svc.cluster.local", 80),
        ("http://m.models.svc.corp.example", "m.models.svc.corp.example", 80),
        ("http://m.models.example:8080", "m.models.example", 8080),
        ("https://m.models.example", "m.models.example", 443),
    ],
)
def test_knative_goes_to_kserves_address_and_has_no_service_of_ours(
    url: str | None, host: str, port: int
) -> None:
    result = planned(llm() | {"status": {"address": {"url": url}}}, mode=Mode.KNATIVE)
    assert of_kind(result, "Service") == []
    (endpoint,) = one(result, "Backend")["spec"]["endpoints"]
    assert endpoint["fqdn"] == {"hostname": host, "port": port}


# Names of models


def test_every_served_name_is_routed() -> None:
    result = planned(llm(args=["--served-model-name", "a", "b", "--lora-modules", "c=/x"]))
    assert matched(result) == ["a", "b", "c"]
    assert len(one(result, "AIGatewayRoute")["spec"]["rules"]) == 1
    assert result.models == {"a": "a", "b": "b", "c": "c"}


def test_a_taken_name_is_asked_for_with_the_namespace_and_sent_on_without() -> None:
    obj = llm(args=["--served-model-name", "a", "b"])
    result = planned(obj, replace(FACTS, taken=frozenset({"a"})))
    plain, renamed = one(result, "AIGatewayRoute")["spec"]["rules"]
    assert plain["matches"][0]["headers"][0]["value"] == "b"
    assert "modelNameOverride" not in plain["backendRefs"][0]
    assert renamed["matches"][0]["headers"][0]["value"] == "models/a"
    assert renamed["backendRefs"][0]["modelNameOverride"] == "a"
    assert Reason.MODEL_NAME_TAKEN in reasons(result)
    limited = {rule["clientSelectors"][0]["headers"][1]["value"] for rule in rules(result)}
    assert limited == {"b", "models/a"}


def test_where_the_longer_name_is_taken_too_the_service_is_in_the_name() -> None:
    result = planned(
        llm(args=["--served-model-name", "a"]), replace(FACTS, taken=frozenset({"a", "models/a"}))
    )
    assert matched(result) == ["models/m/a"]


# Limits


def test_the_guides_limit_is_a_thousand_tokens_an_hour_for_each_user_and_model() -> None:
    user, nobody = rules(planned(guide()))
    assert user["limit"] == nobody["limit"] == {"requests": 1000, "unit": "Hour"}
    assert user["clientSelectors"][0]["headers"] == [
        {"name": "x-user-id", "type": "Distinct"},
        {"name": "x-ai-eg-model", "type": "Exact", "value": "llama3-1b"},
    ]
    for rule in (user, nobody):
        assert rule["cost"]["request"] == {"from": "Number", "number": 0}
        key = rule["cost"]["response"]["metadata"]
        assert key == {"namespace": "io.envoy.ai_gateway", "key": "llm_total_token"}
    costs = {
        c["metadataKey"]: c["type"]
        for c in one(planned(guide()), "AIGatewayRoute")["spec"]["llmRequestCosts"]
    }
    assert costs == {
        "llm_input_token": "InputToken",
        "llm_output_token": "OutputToken",
        "llm_total_token": "TotalToken",
    }


def test_leaving_the_header_out_is_no_way_around_the_limit() -> None:
    _, nobody = rules(planned(llm(annotations={"limit-by": "x-tenant-id"})))
    absent = nobody["clientSelectors"][0]["headers"][0]
    assert absent == {"name": "x-tenant-id", "type": "RegularExpression", "value": ".+", "invert": True}


def test_the_annotation_sets_the_limit() -> None:
    assert rules(planned(llm(annotations={"limit": "5/minute"})))[0]["limit"] == {
        "requests": 5,
        "unit": "Minute",
    }


def test_too_many_models_for_one_rule_each_share_rules_and_keep_buckets_of_their_own() -> None:
    names = [f"m{i}" for i in range(40)]
    result = planned(llm(args=["--served-model-name", *names]))
    assert len(rules(result)) == 2
    for rule in rules(result):
        assert rule["clientSelectors"][0]["headers"][1] == {"name": "x-ai-eg-model", "type": "Distinct"}
    assert matched(result) == names


@pytest.mark.parametrize(
    ("annotation", "rate_limit", "said"), [("off", True, False), ("9/hour", False, True)]
)
def test_without_a_limit_the_policy_still_lifts_connections_and_retries(
    annotation: str, rate_limit: bool, said: bool
) -> None:
    result = planned(llm(annotations={"limit": annotation}), replace(FACTS, rate_limit=rate_limit))
    spec = one(result, "BackendTrafficPolicy")["spec"]
    assert "rateLimit" not in spec
    assert min(spec["circuitBreaker"].values()) > 1024
    assert spec["retry"]["retryOn"]["triggers"] == ["connect-failure"]
    assert (Reason.RATE_LIMIT_UNAVAILABLE in reasons(result)) is said


def test_a_policy_of_the_users_own_is_not_competed_with() -> None:
    result = planned(guide(), replace(FACTS, own_traffic_policy=True, own_client_policy=True))
    assert not {"BackendTrafficPolicy", "ClientTrafficPolicy"} & {kind for kind, *_ in keys(result)}


def test_the_policy_is_on_the_http_route_that_is_made_of_the_route() -> None:
    for facts in (FACTS, CROSS):
        result = planned(guide(), facts)
        route, policy = one(result, "AIGatewayRoute"), one(result, "BackendTrafficPolicy")
        (target,) = policy["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("HTTPRoute", route["metadata"]["name"])
        assert policy["metadata"]["namespace"] == route["metadata"]["namespace"]


def test_the_gateway_holds_long_prompts() -> None:
    policy = one(planned(guide()), "ClientTrafficPolicy")
    assert policy["spec"] == {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY.name}],
        "connection": {"bufferLimit": "50Mi"},
    }


def test_the_gateways_policy_is_the_same_from_every_service() -> None:
    first, second = planned(llm("a", "x", uid="1")), planned(llm("b", "y", uid="2"))
    assert one(first, "ClientTrafficPolicy") == one(second, "ClientTrafficPolicy")


# Streams


def test_streams_outlive_a_minute() -> None:
    (rule,) = one(planned(guide()), "AIGatewayRoute")["spec"]["rules"]
    assert (rule["timeouts"]["request"], rule["streamIdleTimeout"]) == ("3600s", "300s")


def test_the_old_api_gets_no_field_that_it_does_not_know() -> None:
    result = planned(guide(), replace(FACTS, capabilities=OLD_API))
    route = one(result, "AIGatewayRoute")
    assert route["apiVersion"] == "aigateway.envoyproxy.io/v1alpha1"
    assert "streamIdleTimeout" not in route["spec"]["rules"][0]


# Access


def test_the_gateway_shows_the_key_that_the_sidecar_reads() -> None:
    result = planned(guide())
    secret = one(result, "Secret")
    assert base64.b64decode(secret["data"]["apiKey"]).decode() == FACTS.key
    policy = one(result, "BackendSecurityPolicy")["spec"]
    assert policy["apiKey"]["secretRef"]["name"] == secret["metadata"]["name"]
    assert policy["targetRefs"][0]["name"] == one(result, "AIServiceBackend")["metadata"]["name"]


def test_the_key_is_there_before_the_model_is_ready() -> None:
    assert [obj["kind"] for obj in planned(guide()).early] == ["Secret"]


def test_a_key_that_is_not_known_is_a_placeholder_and_said() -> None:
    result = planned(guide(), replace(FACTS, key=None))
    assert one(result, "Secret")["stringData"]["apiKey"] == "REPLACE-WITH-A-RANDOM-KEY"
    assert Reason.KEY_PLACEHOLDER in reasons(result)


def test_open_access_needs_no_key() -> None:
    result = planned(llm(annotations={"access": "open"}))
    assert not {"Secret", "BackendSecurityPolicy"} & {kind for kind, *_ in keys(result)}
    assert result.early == ()


def test_a_transformer_opens_the_access_and_that_is_said() -> None:
    obj = llm()
    obj["spec"]["transformer"] = {"containers": [{"name": "t", "image": "t"}]}
    result = planned(obj)
    assert of_kind(result, "Secret") == []
    assert Reason.TRANSFORMER_NEEDS_OPEN in reasons(result)


# Ownership


def test_a_stored_service_owns_what_stands_in_its_namespace_and_blocks_nothing() -> None:
    for obj in planned(llm(uid="7d7a"), CROSS).objects:
        owners = obj["metadata"].get("ownerReferences", [])
        if obj["metadata"]["namespace"] == "models":
            assert owners == [
                {
                    "apiVersion": "serving.kserve.io/v1beta1",
                    "kind": "InferenceService",
                    "name": "m",
                    "uid": "7d7a",
                }
            ]
        else:
            assert owners == [], "the garbage collector would delete it: owners don't reach across namespaces"


def test_every_object_is_found_by_its_labels_and_by_none_of_kserves() -> None:
    for obj in planned(llm(), CROSS).objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "token-meter"
        assert not {"serving.kserve.io/inferenceservice", "component"} & set(labels)
        if obj["kind"] != "ClientTrafficPolicy":
            assert labels["token-meter.dev/inferenceservice"] == "m"
            assert labels["token-meter.dev/namespace"] == "models"


def test_tls_that_is_not_there_yet_is_said() -> None:
    assert Reason.TLS_PLACEHOLDER in reasons(planned(llm(annotations={"tls": "true"})))


def test_another_gateway_has_a_policy_of_its_own() -> None:
    other = planned(guide(), replace(FACTS, gateway=GatewayRef("edge", "public")))
    assert ("ClientTrafficPolicy", "edge", "token-meter-public") in keys(other)
