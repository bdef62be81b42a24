"""The real Envoy Gateway accepts what the plan renders, and limits by the names that our code predicts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from demo import objects, ratelimit
from gateway.facts import Facts, Placement
from gateway.plan import Plan
from isvc import GatewayRef, Mode
from ledger.buckets import Bucket, buckets
from tests import crds
from tests.cluster.ai_gateway_standin import Controller
from tests.cluster.cluster import KubectlError, Object
from tests.cluster.control_plane import ControlPlane
from tests.cluster.envoy_gateway import CONTROLLER, EnvoyGateway, unavailable
from tests.cluster.installation import eventually
from tests.gateway.scenes import guide, llm, of_kind, one, planned

# One Envoy Gateway for a machine: where tests are spread by group they all run in one process.
pytestmark = [crds.needed, pytest.mark.xdist_group("envoy-gateway")]

OPEN, CLOSED = GatewayRef("eg-gateways", "open"), GatewayRef("eg-gateways", "closed")
LOCAL = Facts(gateway=OPEN, key="k" * 32)
CROSS = Facts(gateway=CLOSED, key="k" * 32, placement=Placement.CROSS)
GOOD = {"Accepted": ("True", "Accepted")}
RESOLVED = GOOD | {"ResolvedRefs": ("True", "ResolvedRefs")}
KINDS = (
    "aigatewayroutes,aiservicebackends,backendsecuritypolicies,backends,backendtrafficpolicies,"
    "clienttrafficpolicies,referencegrants,services,secrets"
)
SEVERAL = ["--served-model-name", "several", "other"]
MANY = ["--served-model-name", *(f"model-{i}" for i in range(200))]


@dataclass(frozen=True, slots=True)
class Scene:
    """An InferenceService behind a Gateway."""

    obj: Object
    facts: Facts
    mode: Mode = Mode.STANDARD
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", planned(self.obj, self.facts, self.mode))


def model(name: str, annotations: Mapping[str, str] | None = None, args: list[str] | None = None) -> Object:
    return llm(name, "eg-models", args=args or [], annotations=annotations)


SCENES = {
    "guide": Scene(guide(), LOCAL),
    "local-two-models": Scene(model("local-two", args=SEVERAL), LOCAL),
    "local-knative": Scene(model("local-knative"), LOCAL, Mode.KNATIVE),
    "local-many-models": Scene(model("local-many", args=MANY), LOCAL),
    "local-renamed": Scene(
        model("local-renamed", args=SEVERAL), replace(LOCAL, taken=frozenset({"several"}))
    ),
    "local-no-limit": Scene(model("local-free", {"limit": "off"}), LOCAL),
    "local-week": Scene(model("local-week", {"limit": "7/week"}), LOCAL),
    "local-month": Scene(model("local-month", {"limit": "8/month"}), LOCAL),
    "local-year": Scene(model("local-year", {"limit": "9/year"}), LOCAL),
    "local-own-limit": Scene(model("local-own", {"limit": "5/day", "limit-by": "X-Tenant"}), LOCAL),
    "cross": Scene(model("cross"), CROSS),
    "cross-guide": Scene(guide(), CROSS),
    "cross-two-models": Scene(model("cross-two", args=SEVERAL), CROSS),
    "cross-open-access": Scene(model("cross-open", {"access": "open"}), CROSS),
    "cross-no-limit": Scene(model("cross-free", {"limit": "off"}), CROSS),
    "cross-long-names": Scene(llm("a" * 40, "eg-" + "b" * 60), CROSS),
}


@pytest.fixture(scope="module")
def envoy_gateway(cluster: ControlPlane) -> Iterator[EnvoyGateway]:
    """Envoy Gateway with two Gateways and every scene's objects, behind AI Gateway's stand-in."""
    if reason := unavailable():
        pytest.skip(reason)
    with EnvoyGateway(cluster) as running, Controller(cluster.client):
        spaces = {obj["metadata"]["namespace"] for scene in SCENES.values() for obj in scene.plan.objects}
        cluster.apply([namespace(name) for name in sorted(spaces | {"eg-alone"})])
        listeners = {OPEN: "All", CLOSED: "Same"}
        gateways = [gateway(ref, allowed) for ref, allowed in listeners.items()]
        planned_objects = [obj for scene in SCENES.values() for obj in scene.plan.objects]
        applied(cluster, [gateway_class(), *gateways, *planned_objects])
        yield running
        # Other tests of this process have objects of the same names.
        ours = "--selector=app.kubernetes.io/managed-by=token-meter"
        cluster.kubectl("delete", KINDS, "--all-namespaces", ours, "--wait=false")


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def gateway_class() -> Object:
    head = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass"}
    return head | {"metadata": {"name": "envoy"}, "spec": {"controllerName": CONTROLLER}}


def gateway(ref: GatewayRef, allowed: str) -> Object:
    routes = {"namespaces": {"from": allowed}}
    listener = {"name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": routes}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {"gatewayClassName": "envoy", "listeners": [listener]},
    }


def applied(cluster: ControlPlane, found: Any) -> None:
    """Server-side apply, as the product's controller does it."""
    cluster.apply(found, "--server-side", "--force-conflicts", "--validate=strict")


Said = dict[str, tuple[str, str]]


def said(cluster: ControlPlane, kind: str, obj: Object) -> Said:
    """The conditions of an object of this kind with that one's name, whoever keeps them; {} where there is none.

    Without RouteRulesOverlap: two routes of AI Gateway behind one Gateway always do, in the rule that answers 404.
    """
    try:
        found = cluster.get(kind, obj["metadata"]["name"], obj["metadata"]["namespace"])
    except KubectlError:
        return {}
    status = found.get("status") or {}
    kept = [status, *status.get("ancestors", ()), *status.get("parents", ())]
    conditions = [item for keeper in kept for item in keeper.get("conditions", ())]
    current = found["metadata"]["generation"]
    return {
        item["type"]: (item["status"], item["reason"])
        for item in conditions
        if item.get("observedGeneration", current) == current and item["type"] != "RouteRulesOverlap"
    }


def comes(cluster: ControlPlane, kind: str, obj: Object, expected: Said) -> None:
    """Wait until it says this and nothing else; fails with what it says instead."""
    last: Said = {}

    def holds() -> bool:
        nonlocal last
        last = said(cluster, kind, obj)
        return last == expected

    try:
        eventually(holds)
    except TimeoutError:
        assert last == expected, f"{kind} {obj['metadata']['name']}"


@pytest.mark.parametrize("name", SCENES)
def test_everything_is_accepted(name: str, cluster: ControlPlane, envoy_gateway: EnvoyGateway) -> None:
    result = SCENES[name].plan
    assert of_kind(result, "AIGatewayRoute")
    for route in of_kind(result, "AIGatewayRoute"):
        comes(cluster, "aigatewayroute", route, {"Accepted": ("True", "ReconciliationSucceeded")})
        comes(cluster, "httproute", route, RESOLVED)
    for policy in of_kind(result, "BackendTrafficPolicy"):
        comes(cluster, "backendtrafficpolicy", policy, GOOD)
    comes(cluster, "backend", one(result, "Backend"), GOOD)
    comes(cluster, "clienttrafficpolicy", one(result, "ClientTrafficPolicy"), GOOD)


@pytest.mark.parametrize("ref", [OPEN, CLOSED], ids=str)
def test_the_limits_are_those_that_our_code_predicts(ref: GatewayRef, envoy_gateway: EnvoyGateway) -> None:
    there = [scene for scene in SCENES.values() if scene.facts.gateway == ref]
    found = objects.read(gateway(ref, "All"), [plain(obj) for scene in there for obj in scene.plan.objects])
    expected = dict(lines(ratelimit.configuration(found)))
    domain = f"{ref.namespace}/{ref.name}/http."
    routes = [route for scene in there for route in of_kind(scene.plan, "AIGatewayRoute")]
    last = [
        f"httproute/{route['metadata']['namespace']}/{route['metadata']['name']}/rule/{len(route['spec']['rules'])}/"
        for route in routes
    ]

    def of_models() -> dict[str, str]:
        """Without those of the rule that answers 404, to which the policy belongs as well."""
        limits = {name: said for name, said in envoy_gateway.limits().items() if name.startswith(domain)}
        return {
            name: said for name, said in limits.items() if not name[len(domain) :].startswith(tuple(last))
        }

    eventually(lambda: of_models().keys() >= expected.keys())
    assert of_models() == expected


def plain(obj: Object) -> Object:
    """Without modelNameOverride, which the demo cannot play and which names no descriptor."""

    def cleaned(item: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in item.items() if name != "modelNameOverride"}

    copied: Object = json.loads(json.dumps(obj), object_hook=cleaned)
    return copied


def lines(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rate limit service's configuration as it prints it: the path of each limit, and the limit."""

    def below(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
        if limit := node.get("rate_limit"):
            yield path, f"unit={limit['unit'].upper()} requests_per_unit={limit['requests_per_unit']}"
        for child in node.get("descriptors", ()):
            value = f"_{child['value']}" if "value" in child else ""
            yield from below(child, f"{path}.{child['key']}{value}")

    yield from below(tree, tree["domain"])


def test_a_dotted_name_and_each_user_are_in_the_descriptors(envoy_gateway: EnvoyGateway) -> None:
    """Spelled out once, for what the ledger charges by."""
    route = "httproute/eg-gateways/token-meter-eg-models.cross/rule/0/match/0/*"
    head = f"eg-gateways/closed/http.{route}_{route}"
    hour = "unit=HOUR requests_per_unit=1000"
    expected = {
        f"{head}.rule-0-match-0.rule-0-match-1_rule-0-match-1": hour,
        f"{head}.rule-1-match-0_rule-1-match-0.rule-1-match-1_rule-1-match-1": hour,
    }
    eventually(lambda: envoy_gateway.limits().keys() >= expected.keys())
    limits = envoy_gateway.limits()
    assert {name: limit for name, limit in limits.items() if name.startswith(f"{head}.")} == expected


@pytest.mark.parametrize("name", SCENES)
def test_the_ledgers_buckets_are_those_of_envoy_gateway(name: str, envoy_gateway: EnvoyGateway) -> None:
    """Each model's, for a user and for requests without the header."""
    scene = SCENES[name]
    limit_by = "X-Tenant" if name == "local-own-limit" else "x-user-id"
    pairs = zip(
        of_kind(scene.plan, "AIGatewayRoute"), of_kind(scene.plan, "BackendTrafficPolicy"), strict=True
    )
    found = [
        bucket
        for route, policy in pairs
        for model in scene.plan.models
        for user in ({}, {limit_by: "alice"})
        for bucket in buckets(
            gateway(scene.facts.gateway, "All"), route, policy, {"x-ai-eg-model": model, **user}
        )
    ]
    assert len(found) == (0 if name.endswith("no-limit") else 2 * len(scene.plan.models))
    eventually(lambda: {shown(bucket) for bucket in found} <= envoy_gateway.limits().keys())


def shown(bucket: Bucket) -> str:
    """As the rate limit service prints it: the value only where it is the configuration's, not a request's."""
    names = [f"{key}_{value}" if key == value else key for key, value in bucket.entries]
    return ".".join((bucket.domain, *names))


def test_across_namespaces_the_whole_grant_is_needed(
    cluster: ControlPlane, envoy_gateway: EnvoyGateway
) -> None:
    result = planned(llm("granted", "eg-alone"), CROSS)
    route, grant = one(result, "AIGatewayRoute"), one(result, "ReferenceGrant")
    applied(cluster, [obj for obj in result.objects if obj is not grant])
    comes(cluster, "aigatewayroute", route, {"NotAccepted": ("False", "ReconciliationFailed")})
    assert said(cluster, "httproute", route) == {}
    half = {name: entries[:1] for name, entries in grant["spec"].items()}
    applied(cluster, [{**grant, "spec": half}])
    comes(cluster, "httproute", route, GOOD | {"ResolvedRefs": ("False", "RefNotPermitted")})
    assert said(cluster, "aigatewayroute", route) == {"Accepted": ("True", "ReconciliationSucceeded")}
    applied(cluster, [grant])
    comes(cluster, "httproute", route, RESOLVED)


def test_a_listener_that_admits_only_its_own_namespace_refuses_a_route_beside_the_model(
    cluster: ControlPlane, envoy_gateway: EnvoyGateway
) -> None:
    result = planned(llm("refused", "eg-alone"), replace(LOCAL, gateway=CLOSED))
    applied(cluster, result.objects)
    refused = {"Accepted": ("False", "NotAllowedByListeners")}
    comes(cluster, "httproute", one(result, "AIGatewayRoute"), RESOLVED | refused)


def test_what_is_deleted_is_limited_no_more(cluster: ControlPlane, envoy_gateway: EnvoyGateway) -> None:
    result = planned(llm("deleted", "eg-alone"), LOCAL)
    route = one(result, "AIGatewayRoute")

    def limited() -> bool:
        return any("/token-meter-deleted/" in name for name in envoy_gateway.limits())

    applied(cluster, result.objects)
    eventually(limited)
    ours = [obj for obj in result.objects if obj["kind"] != "ClientTrafficPolicy"]
    cluster.kubectl("delete", "-f-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": ours}))
    eventually(lambda: not limited())
    eventually(lambda: said(cluster, "httproute", route) == {})


def test_without_a_rate_limit_backend_only_limits_are_invalid(
    cluster: ControlPlane, envoy_gateway: EnvoyGateway
) -> None:
    """The policy that is planned for such a cluster is accepted; the other is again when the backend is back."""
    limited = planned(llm("limited", "eg-alone"), LOCAL)
    unlimited = planned(llm("unlimited", "eg-alone"), replace(LOCAL, rate_limit=False))
    applied(cluster, [*limited.objects, *unlimited.objects])
    policy, other = one(limited, "BackendTrafficPolicy"), one(unlimited, "BackendTrafficPolicy")
    comes(cluster, "backendtrafficpolicy", policy, GOOD)
    envoy_gateway.start(rate_limit=False)
    comes(cluster, "backendtrafficpolicy", policy, {"Accepted": ("False", "Invalid")})
    comes(cluster, "backendtrafficpolicy", other, GOOD)
    envoy_gateway.start(rate_limit=True)
    comes(cluster, "backendtrafficpolicy", policy, GOOD)
