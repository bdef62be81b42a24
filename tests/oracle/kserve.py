"""`make`: an InferenceService in, what stands in the cluster out."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.oracle import knative, services
from tests.oracle.defaulter import default, refusal
from tests.oracle.made import Made, Object, Workload
from tests.oracle.merge import override
from tests.oracle.pods import Panic, pod_spec

_MODE = "serving.kserve.io/deploymentMode"
_LEGACY = {"RawDeployment": "Standard", "Serverless": "Knative"}


def make(
    isvc: Mapping[str, Any], runtimes: Sequence[Mapping[str, Any]], default_mode: str = "Standard"
) -> Made:
    """What KServe makes of a raw InferenceService in a cluster with these ServingRuntimes."""
    isvc = copy.deepcopy(dict(isvc))
    metadata, spec = isvc["metadata"], isvc["spec"]
    name, namespace = metadata["name"], metadata.get("namespace", "NAMESPACE")
    text = (metadata.get("annotations") or {}).get(_MODE) or default_mode
    in_knative = _LEGACY.get(text, text) == "Knative"
    predictor = default(spec["predictor"])
    if why := refusal(predictor):
        return Made(rejected=why)

    parts = {_name(name, predictor): predictor}
    for canary in spec.get("canary") or []:
        own = default(canary["predictor"])
        parts[_name(name, own)] = override(predictor, own)
    workloads: dict[str, Workload] = {}
    try:
        for part, wanted in parts.items():
            pod = pod_spec(wanted, runtimes, name, namespace)
            workloads[part] = _workload(part, pod, wanted, in_knative)
    except Panic:
        return Made(failed="KServe's controller panics: no container is called kserve-container")
    except LookupError as error:
        return Made(failed=str(error))
    if transformer := spec.get("transformer"):
        part = f"{name}-transformer"
        workloads[part] = _workload(part, _transformer(transformer, name, namespace), transformer, in_knative)
    for workload in workloads.values():
        if why := _refused(workload):
            return Made(failed=why)
    first = next(iter(workloads.values()))
    return Made(workloads, _pod_containers(first.pod, predictor))


def _name(isvc: str, predictor: Object) -> str:
    """constants.go PredictorServiceName."""
    middle = f"-{predictor['name']}" if predictor.get("name") else ""
    return f"{isvc}{middle}-predictor"


def _workload(name: str, pod: Object, component: Object, in_knative: bool) -> Workload:
    if in_knative:
        return Workload(name, pod, [], knative=True)
    return Workload(name, pod, services.ports(pod, name, _agent(component)))


def _refused(workload: Workload) -> str | None:
    """Why one of its objects is refused; where none is, the defaults are filled in."""
    if workload.knative:
        why = knative.refused(workload.pod) or services.pod_refused(workload.pod)
        if why is None:
            knative.give_default_probe(workload.pod)
        return why
    services.give_default_probes(workload.pod)
    return services.refused(workload.service) or services.pod_refused(workload.pod)


def _agent(component: Object) -> bool:
    return bool(component.get("logger") is not None or component.get("batcher") is not None)


def _transformer(component: Object, isvc: str, namespace: str) -> Object:
    """A transformer is a custom predictor that is told where the model is (predictor_custom.go, transformer.go)."""
    pod = pod_spec(default(component), (), isvc, namespace)
    host = f"{isvc}-predictor.{namespace}"
    told = ["--model_name", isvc, "--predictor_host", host, "--http_port", "8080"]
    pod["containers"][0]["args"] = [*pod["containers"][0].get("args", []), *told]
    return pod


def _pod_containers(pod: Object, predictor: Object) -> tuple[str, ...]:
    """The pod's containers after KServe's pod webhook: storage initializer last of the init ones, agent last of all."""
    names = [c["name"] for c in pod.get("initContainers", [])]
    uri = (predictor.get("model") or {}).get("storageUri") or ""
    if uri and not uri.startswith(("pvc://", "oci://")):
        names.append("storage-initializer")
    names += [c["name"] for c in pod["containers"]]
    return (*names, "agent") if _agent(predictor) else tuple(names)
