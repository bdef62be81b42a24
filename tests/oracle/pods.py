"""The pod spec of a predictor, from the InferenceService's and the runtime's (predictor.go buildPodSpec)."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.oracle.defaulter import SERVER, TRANSFORMER
from tests.oracle.made import Object
from tests.oracle.merge import compact, fill, strategic

_NOT_OF_PODS = [
    "model",
    "name",
    "logger",
    "batcher",
    "workerSpec",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "autoScaling",
    "canaryTrafficPercent",
    "containerConcurrency",
    "timeout",
    "annotations",
    "labels",
    "deploymentStrategy",
]
_OF_RUNTIMES = [
    "nodeSelector",
    "affinity",
    "tolerations",
    "volumes",
    "imagePullSecrets",
    "schedulerName",
    "resourceClaims",
]


class Panic(Exception):
    """KServe's controller dereferences nil: it makes nothing and says nothing."""


def pod_spec(predictor: Object, runtimes: Sequence[Mapping[str, Any]], isvc: str, namespace: str) -> Object:
    """The pod's spec as the workload holds it. Raises LookupError without a runtime, Panic where KServe does."""
    pod: Object = compact({key: value for key, value in predictor.items() if key not in _NOT_OF_PODS})
    if model := predictor.get("model"):
        pod = _from_runtime(pod, model, _runtime(predictor, runtimes), {"Name": isvc, "Namespace": namespace})
    else:
        server = next((c for c in pod.get("containers", []) if c["name"] == SERVER), None)
        if server is None:
            raise Panic
        pod["containers"] = [server, *pod["containers"][1:]]
    for one in pod["containers"]:
        one["env"] = [
            *one.get("env", []),
            {"name": "INFERENCE_SERVICE_NAME", "value": isvc},
        ]
    return pod


def _from_runtime(pod: Object, model: Object, runtime: Mapping[str, Any], fields: dict[str, str]) -> Object:
    spec = runtime["spec"]
    brought = {c["name"]: c for c in spec["containers"]}
    own = {c["name"]: c for c in pod.get("containers", [])}
    merged = strategic({key: spec[key] for key in _OF_RUNTIMES if key in spec}, pod)
    servers = [fill(container(brought[SERVER], model), fields)]
    if TRANSFORMER in brought or TRANSFORMER in own:
        servers.append(fill(container(brought.get(TRANSFORMER, {}), own.get(TRANSFORMER, {})), fields))
    known = (SERVER, TRANSFORMER)
    merged["containers"] = [
        *servers,
        *(compact(c) for c in spec["containers"] if c["name"] not in known),
        *(c for c in pod.get("containers", []) if c["name"] not in known),
    ]
    return merged


def container(runtime: Mapping[str, Any], own: Mapping[str, Any]) -> Object:
    """One container of the runtime's and the InferenceService's: merged, the args one after the other."""
    ours = {k: v for k, v in own.items() if k in _CONTAINER or k == "image"}
    merged = strategic(compact(dict(runtime)), ours)
    args = [*(runtime.get("args") or []), *(own.get("args") or [])]
    return {**merged, **({"args": args} if args else {}), "name": runtime.get("name") or own["name"]}


_CONTAINER = [
    "args",
    "command",
    "env",
    "envFrom",
    "ports",
    "volumeMounts",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "resources",
    "securityContext",
    "lifecycle",
    "workingDir",
]


def _runtime(predictor: Object, runtimes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The named runtime, or the format's with the highest priority, for one node or for several as asked."""
    model, several = predictor["model"], "workerSpec" in predictor
    if name := model.get("runtime"):
        found = [r for r in runtimes if r["metadata"]["name"] == name]
    else:
        ranked = [
            (-(entry.get("priority") or 0), i, r)
            for i, r in enumerate(runtimes)
            for entry in r["spec"]["supportedModelFormats"]
            if entry["name"] == model["modelFormat"]["name"] and entry.get("autoSelect")
            if ("workerSpec" in r["spec"]) is several
        ]
        found = [r for *_, r in sorted(ranked, key=lambda rank: rank[:2])]
    if not found:
        raise LookupError("no runtime found to support the predictor")
    return found[0]
