"""The InferenceServices: whose namespaces are labelled, which have no sidecar and why, who gets past the gateway."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import isvc
from cli.checks.finding import Check, Finding, State, ok
from cli.checks.snapshot import SYSTEM, Object, Snapshot
from isvc import INJECTION_LABEL, Access, InferenceService, InvalidAnnotation, Malformed
from webhook.cluster import KSERVE_CONFIG, default_mode
from webhook.decide import decide
from webhook.plan import Facts, Skip
from webhook.reasons import Reason

NEEDS = ("inferenceservices", "namespaces", "configmaps", "servingruntimes", "clusterservingruntimes")
_UNASKED = (Reason.OPTED_OUT, Reason.NAMESPACE_NOT_LABELLED, Reason.NOT_ANNOTATED)
_LOCAL = ("networking.kserve.io/visibility", "cluster-local")


def checks() -> tuple[Check, ...]:
    """In the order in which they are shown."""
    return (
        Check("namespaces", ("inferenceservices", "namespaces"), namespaces),
        Check("inferenceservices", NEEDS, injected),
        Check("kserve-ingress", NEEDS, ingress),
    )


def namespaces(snapshot: Snapshot) -> Finding:
    """Who asks for token-meter."""
    count = Counter(obj["metadata"]["namespace"] for obj in snapshot.of("inferenceservices"))
    labelled = {
        obj["metadata"]["name"]: value
        for obj in snapshot.of("namespaces")
        if (value := (obj["metadata"].get("labels") or {}).get(INJECTION_LABEL))
    }
    wrong = tuple(
        f"{name}: {value}" for name, value in labelled.items() if value not in ("enabled", "annotated")
    )
    if wrong:
        return Finding(
            State.FAILURE,
            f"the label {INJECTION_LABEL} is enabled or annotated, nothing else",
            f"kubectl label namespace NAMESPACE {INJECTION_LABEL}=enabled --overwrite",
            wrong,
        )
    if not labelled:
        todo = f"kubectl label namespace NAMESPACE {INJECTION_LABEL}=enabled"
        return Finding(State.WARNING, "no namespace asks for token-meter", todo)
    listed = ", ".join(f"{name} ({count[name]})" for name in sorted(labelled)[:5])
    more = f" and {len(labelled) - 5} more" if len(labelled) > 5 else ""
    return ok(f"labelled, with InferenceServices: {listed}{more}")


def injected(snapshot: Snapshot) -> Finding:
    """Those that ask and have no sidecar; the webhook's own decision says why."""
    skipped, missed, there = [], [], 0
    for name, obj, facts in _asking(snapshot):
        try:
            service = _read(obj, facts)
            decision = decide(service, facts)
        except (Malformed, InvalidAnnotation) as error:
            skipped.append(f"{name}: {error}")
            continue
        if service.injected:
            there += 1
        elif not isinstance(decision, Skip):
            missed.append(
                f"{name}: it was stored before its namespace was labelled, or while the webhook was away"
            )
        elif decision.reason not in _UNASKED:
            skipped.append(f"{name}: {decision.reason.label}: {decision.text}")
    if missed:
        first = missed[0].partition(":")[0]
        text = f"{there} have the sidecar, {len(missed)} lack it"
        return Finding(
            State.WARNING, text, f"token-meter adopt {first}   (its pods restart)", (*missed, *skipped)
        )
    if skipped:
        text = f"{there} have the sidecar, {len(skipped)} cannot"
        return Finding(
            State.WARNING,
            text,
            'see docs/injection.md, or annotate token-meter.dev/inject: "false"',
            tuple(skipped),
        )
    return ok(f"{there} have the sidecar, none is missed")


def ingress(snapshot: Snapshot) -> Finding:
    """Whether KServe's own ingress leads past the gateway to a model that asks for no key."""
    if _no_ingress(snapshot):
        return ok("KServe makes no ingress of its own (disableIngressCreation)")
    past = []
    for name, obj, facts in _asking(snapshot):
        try:
            service = _read(obj, facts)
            settings = isvc.resolve(service.annotations, facts.namespace_annotations, facts.cluster_defaults)
        except (Malformed, InvalidAnnotation):
            continue
        inside = (obj["metadata"].get("labels") or {}).get(_LOCAL[0]) == _LOCAL[1]
        if service.injected and not inside and (settings.access is Access.OPEN or service.transformer):
            past.append(f"{name}: access is open, and KServe's ingress leads to it")
    if past:
        return Finding(
            State.WARNING,
            f"{len(past)} can be called past the gateway, unlimited",
            f"label them {_LOCAL[0]}={_LOCAL[1]}, or set token-meter.dev/access: gateway",
            tuple(past),
        )
    return ok("nobody gets past the gateway without its key")


def _asking(snapshot: Snapshot) -> Iterator[tuple[str, Object, Facts]]:
    """Each InferenceService of a labelled namespace, with what the webhook would know of it."""
    mode = default_mode(_data(snapshot, KSERVE_CONFIG))
    defaults = _data(snapshot, "token-meter", SYSTEM)
    known = {key: value for key, value in defaults.items() if not key.startswith("sidecar-")}
    runtimes = [*snapshot.of("servingruntimes"), *snapshot.of("clusterservingruntimes")]
    about = {obj["metadata"]["name"]: obj["metadata"] for obj in snapshot.of("namespaces")}
    for obj in snapshot.of("inferenceservices"):
        namespace = obj["metadata"]["namespace"]
        metadata = about.get(namespace, {})
        injection = (metadata.get("labels") or {}).get(INJECTION_LABEL)
        if injection in ("enabled", "annotated"):
            near = [one for one in runtimes if one["metadata"].get("namespace") in (None, namespace)]
            facts = Facts(
                injection=injection,
                default_mode=mode,
                default_namespace=namespace,
                namespace_annotations=metadata.get("annotations") or {},
                cluster_defaults=known,
                serving_runtimes=near or None,
                inference_graphs=[
                    one for one in snapshot.of("inferencegraphs") if one["metadata"]["namespace"] == namespace
                ],
            )
            yield f"{namespace}/{obj['metadata']['name']}", obj, facts


def _read(obj: Object, facts: Facts) -> InferenceService:
    return isvc.read(
        obj,
        default_mode=facts.default_mode,
        default_namespace=facts.default_namespace,
        serving_runtimes=facts.serving_runtimes,
    )


def _data(snapshot: Snapshot, name: str, namespace: str = "") -> Mapping[str, Any]:
    return (snapshot.config_map(name, namespace) or {}).get("data") or {}


def _no_ingress(snapshot: Snapshot) -> bool:
    try:
        said = json.loads(_data(snapshot, KSERVE_CONFIG).get("ingress") or "{}")
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("disableIngressCreation") is True
