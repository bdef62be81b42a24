"""Every InferenceService of the cluster with all that its objects follow from. Pure: raw objects in, values out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import isvc
from gateway import names
from gateway.choice import Choice, choose
from gateway.claims import Claim, taken
from gateway.facts import Placement
from gateway.listeners import placement
from gateway.names import label
from gateway.notices import Notice, Reason
from isvc import (
    INJECTION_LABEL,
    LLM_KIND,
    GatewayRef,
    InferenceService,
    InvalidAnnotation,
    LLMInferenceService,
    Malformed,
    Mode,
    Settings,
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """An InferenceService by namespace and name, the name as our objects' labels have it."""

    namespace: str
    name: str
    kind: str = "InferenceService"


class Stage(StrEnum):
    """How far its objects go."""

    NOTHING = "nothing"
    EARLY = "early"
    """What the pod waits for: the key's Secret."""
    ROUTED = "routed"


@dataclass(frozen=True, slots=True)
class Case:
    """One InferenceService. Of two equal cases the objects are the same.

    `opted` says that its namespace asks for us; `problem` that something cannot be read, so that nothing is to be
    changed. `service` is None only then.
    """

    service: InferenceService | LLMInferenceService | None
    settings: Settings = field(default_factory=Settings)
    opted: bool = False
    leaving: bool = False
    choice: Choice = field(default_factory=lambda: Choice(None))
    placement: Placement = Placement.LOCAL
    taken: frozenset[str] = frozenset()
    problem: Notice | None = None
    uninjected: bool = False

    def stage(self, *, routed: bool) -> Stage:
        """`routed`: it has a route already, which a predictor that is not ready for a while keeps."""
        service = self.service
        if service is None or self.leaving or not self.opted or not service.injected:
            return Stage.NOTHING
        if service.stopped or self.choice.gateway is None or not (service.predictor_ready or routed):
            return Stage.EARLY
        return Stage.ROUTED


@dataclass(frozen=True, slots=True)
class Standing:
    """The route that an InferenceService has: behind which Gateway, and the names that clients ask for."""

    gateway: GatewayRef
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Raw objects; `namespaces` are those with our label, `defaults` the ConfigMap's data."""

    namespaces: Mapping[str, Object]
    gateways: Sequence[Object] = ()
    classes: Sequence[Object] = ()
    defaults: Mapping[str, str] | None = None
    runtimes: Sequence[Object] | None = None


def key_of(obj: Object) -> Key:
    """The key of a raw InferenceService or LLMInferenceService, whose kind a watch has put into it."""
    return Key(
        obj["metadata"]["namespace"], label(obj["metadata"]["name"]), obj.get("kind") or "InferenceService"
    )


def read(obj: Object, runtimes: Sequence[Object] | None) -> InferenceService | Notice:
    """What it says, or why that cannot be read."""
    mine = None if runtimes is None else [one for one in runtimes if _near(one, obj)]
    try:
        return isvc.read(obj, default_mode=Mode.KNATIVE, serving_runtimes=mine)
    except (Malformed, InvalidAnnotation) as error:
        return Notice(Reason.INVALID_SETTING, str(error))


def read_llm(obj: Object, version: str) -> LLMInferenceService | Notice:
    """The same for an LLMInferenceService."""
    try:
        return isvc.read_llm(obj, version)
    except (Malformed, InvalidAnnotation) as error:
        return Notice(Reason.INVALID_SETTING, str(error))


def _near(runtime: Object, obj: Object) -> bool:
    return runtime["metadata"].get("namespace") in (None, obj["metadata"]["namespace"])


def cases(
    services: Iterable[tuple[Object, InferenceService | LLMInferenceService | Notice]],
    cluster: Cluster,
    standing: Mapping[Key, Standing],
) -> dict[Key, Case]:
    """Each one's case; `standing` are the routes of those that have one."""
    found: dict[Key, Case] = {}
    claims: list[Claim] = []
    for obj, read in services:
        key = key_of(obj)
        route = standing.get(key)
        found[key] = case = _case(obj, read, cluster, route.gateway if route else None)
        claims += _claims(obj, case, route)
    others = taken(claims)
    return {
        key: replace(case, taken=others.get((key.namespace, _claimant(case.service)), frozenset()))
        if case.service
        else case
        for key, case in found.items()
    }


def _case(
    obj: Object,
    service: InferenceService | LLMInferenceService | Notice,
    cluster: Cluster,
    current: GatewayRef | None,
) -> Case:
    metadata = obj["metadata"]
    namespace = cluster.namespaces.get(metadata["namespace"])
    about: Object = (namespace or {}).get("metadata") or {}
    labels, annotations = about.get("labels") or {}, about.get("annotations") or {}
    leaving = bool(metadata.get("deletionTimestamp") or about.get("deletionTimestamp"))
    injection = labels.get(INJECTION_LABEL)
    opted = injection in ("enabled", "annotated")
    if isinstance(service, Notice):
        return Case(None, opted=opted, leaving=leaving, problem=service)
    try:
        settings = isvc.resolve(service.annotations, annotations, cluster.defaults)
    except InvalidAnnotation as error:
        problem = Notice(Reason.INVALID_SETTING, str(error))
        return Case(service, opted=opted, leaving=leaving, problem=problem)
    asked = settings.inject if settings.inject is not None else injection == "enabled"
    case = Case(service, settings, opted=opted, leaving=leaving)
    if not asked and isinstance(service, LLMInferenceService):
        return replace(case, opted=False)  # it has no sidecar to say that it is in
    if not opted or leaving or not service.injected:
        wanted = opted and not leaving and asked and service.openai
        return replace(case, uninjected=wanted)
    choice = choose(settings, cluster.gateways, cluster.classes, current)
    if choice.gateway is None:
        return replace(case, choice=choice)
    (there,) = (
        one
        for one in cluster.gateways
        if (one["metadata"]["namespace"], one["metadata"]["name"])
        == (choice.gateway.namespace, choice.gateway.name)
    )
    where = placement(there, choice.gateway.namespace, service.namespace, labels)
    return replace(case, choice=choice, placement=where)


def _claimant(service: InferenceService | LLMInferenceService) -> str:
    return names.llm(service.name) if isinstance(service, LLMInferenceService) else service.name


def _claims(obj: Object, case: Case, route: Standing | None) -> Iterator[Claim]:
    """A stopped one keeps its names, for it comes back; one that cannot be read keeps its route, and so the route's."""
    metadata = obj["metadata"]
    name = names.llm(metadata["name"]) if key_of(obj).kind == LLM_KIND else metadata["name"]
    head = metadata["namespace"], name, str(metadata.get("creationTimestamp") or "")
    if case.problem:
        if route and case.opted and not case.leaving:
            yield Claim(*head, route.gateway, route.names)
    elif case.service and case.choice.gateway:
        yield Claim(*head, case.choice.gateway, case.service.served_models)
