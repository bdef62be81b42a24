"""What is to stand for one InferenceService now, and what is to be said. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway import buffers, names
from gateway.cases import Case, Stage
from gateway.difference import stamped
from gateway.facts import Capabilities, Facts, Material
from gateway.listeners import selected
from gateway.notices import Notice, Reason
from gateway.objects.metadata import Object
from gateway.objects.probe import rate_limit_probe
from gateway.objects.traffic import client_traffic_policy
from gateway.plan import Plan, plan, plan_llm
from isvc import GatewayRef, InferenceService, LLMInferenceService, Mode, Settings

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
    tls: Material | None = None,
) -> Intent:
    """`key` is the API key's value, `tls` what TLS is made of, `policies` the traffic policies of others."""
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
        tls=tls,
    )
    result = _plan(service, case.settings, facts)
    if stage is Stage.EARLY:
        notices = case.choice.notices
        if isinstance(service, InferenceService):
            notices += tuple(_too_long(service))
        return Intent(tuple(map(stamped, result.early)), notices)
    # AI Gateway's HTTPRoutes have its routes' names and labels.
    routes = [obj["metadata"] for obj in result.objects if obj["kind"] == "AIGatewayRoute"]
    others = list(policies)
    if any(targets(one, "HTTPRoute", route, whole=True) for one in others for route in routes):
        result = _plan(service, case.settings, replace(facts, own_traffic_policy=True))
    return Intent(tuple(map(stamped, result.objects)), (*case.choice.notices, *result.notices))


def _plan(service: InferenceService | LLMInferenceService, settings: Settings, facts: Facts) -> Plan:
    if isinstance(service, LLMInferenceService):
        return plan_llm(service, settings, facts)
    return plan(service, settings, facts)


def of_gateway(
    gateway: Mapping[str, Any], policies: Iterable[Mapping[str, Any]], *, probed: bool
) -> tuple[Object, ...]:
    """What is to stand for a Gateway in use, whose metadata is given; `policies` are the client policies of others."""
    ref = GatewayRef(gateway["namespace"], gateway["name"])
    taken = any(targets(one, "Gateway", gateway, whole=True) for one in policies)
    policy = () if taken else (client_traffic_policy(ref),)
    return tuple(map(stamped, (*policy, *(rate_limit_probe(ref) if probed else ()))))


def buffer_notices(gateway: Mapping[str, Any], policies: Iterable[Mapping[str, Any]]) -> tuple[Notice, ...]:
    """What is to be said of the client policies of others on a Gateway, whose metadata is given."""
    return tuple(buffers.too_small(one for one in policies if targets(one, "Gateway", gateway, whole=False)))


def targets(policy: Mapping[str, Any], kind: str, metadata: Mapping[str, Any], *, whole: bool) -> bool:
    """Whether a policy is attached to the object with this metadata, by name or by its labels.

    `whole`: to all of it. One on a single listener or rule (sectionName) stands beside one on the whole. A selector
    that reaches into other namespaces is not followed.
    """
    if policy["metadata"]["namespace"] != metadata["namespace"]:
        return False
    spec = policy.get("spec") or {}
    refs = [*(spec.get("targetRefs") or ()), *([spec["targetRef"]] if spec.get("targetRef") else ())]
    return any(
        (ref.get("kind"), ref.get("name")) == (kind, metadata["name"])
        and not (whole and ref.get("sectionName"))
        for ref in refs
    ) or any(
        selector.get("kind") == kind and selected(selector, metadata.get("labels") or {})
        for selector in spec.get("targetSelectors") or ()
    )


def _too_long(service: InferenceService) -> Iterator[Notice]:
    """KServe 0.20 puts `isvc.<predictor's name>` on pods as a label; the API server refuses a longer one."""
    value = f"isvc.{names.predictor_service(service.name, service.predictor_name)}"
    if service.mode is Mode.STANDARD and len(value) > names.LABEL_LIMIT:
        yield Notice(Reason.NAME_TOO_LONG, value)
