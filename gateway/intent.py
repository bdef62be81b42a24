"""What is to stand for one InferenceService now, and what is to be said. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.cases import Case, Stage
from gateway.difference import stamped
from gateway.facts import Capabilities, Facts
from gateway.notices import Notice, Reason
from gateway.objects.metadata import Object
from gateway.objects.traffic import client_traffic_policy
from gateway.plan import plan
from isvc import GatewayRef

Id = tuple[str, str, str]
"""Kind, namespace and name."""


def id_of(obj: Mapping[str, Any]) -> Id:
    """What tells an object from all others of the controller's."""
    return obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class Intent:
    """`objects`, stamped, in the order in which they are applied; all other objects of its go."""

    objects: tuple[Object, ...] = ()
    notices: tuple[Notice, ...] = ()


def intent(
    case: Case,
    stage: Stage,
    key: str | None,
    capabilities: Capabilities,
    policies: Iterable[Mapping[str, Any]],
    *,
    rate_limit: bool,
) -> Intent:
    """`key` is the API key's value, `policies` the traffic policies of others."""
    service = case.service
    told = (Notice(Reason.NOT_INJECTED),) if case.uninjected else ()
    if stage is Stage.NOTHING or service is None:
        return Intent(notices=told)
    facts = Facts(
        gateway=case.choice.gateway or GatewayRef(service.namespace, "none"),
        placement=case.placement,
        capabilities=capabilities,
        rate_limit=rate_limit,
        taken=case.taken,
        own_client_policy=True,  # it is the Gateway's: made for it, not for one InferenceService
        key=key or "-",
    )
    result = plan(service, case.settings, facts)
    if stage is Stage.EARLY:
        return Intent(tuple(map(stamped, result.early)), case.choice.notices)
    routes = [id_of(obj)[1:] for obj in result.objects if obj["kind"] == "AIGatewayRoute"]
    others = list(policies)
    if any(targets(one, "HTTPRoute", namespace, name) for one in others for namespace, name in routes):
        result = plan(service, case.settings, replace(facts, own_traffic_policy=True))
    return Intent(tuple(map(stamped, result.objects)), (*case.choice.notices, *result.notices))


def of_gateway(gateway: GatewayRef, policies: Iterable[Mapping[str, Any]]) -> tuple[Object, ...]:
    """What is to stand for a Gateway in use; `policies` are the client policies of others."""
    if any(targets(one, "Gateway", gateway.namespace, gateway.name) for one in policies):
        return ()
    return (stamped(client_traffic_policy(gateway)),)


def targets(policy: Mapping[str, Any], kind: str, namespace: str, name: str) -> bool:
    """Whether a policy is attached to that object, which is always of its own namespace."""
    spec = policy.get("spec") or {}
    refs = [*(spec.get("targetRefs") or ()), *([spec["targetRef"]] if spec.get("targetRef") else ())]
    return policy["metadata"]["namespace"] == namespace and any(
        (ref.get("kind"), ref.get("name")) == (kind, name) for ref in refs
    )
