"""A stand-in for KServe 0.20's own webhooks on InferenceServices: its defaulter and its validator.

KServe's program cannot be built from a module registry, so its rules that meet ours are written down: those that
shape the workload in the oracle (tests/oracle/defaulter.py), those that only change what is stored here
(pkg/apis/serving/v1beta1/inference_service_defaults.go, inference_service_validation.go). Both are held to what the
real one stored or refused (tests/data/recorded). Not in it: local models, multi-node and canary rules, KServe's
pod webhook.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

from tests.oracle import defaulter

SPEAKS_V2 = {"huggingface", "triton", "onnx"}
FORMATS_OF_V2 = {"vLLM", "triton"}
LEGACY_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}
MODE = "serving.kserve.io/deploymentMode"
RESOURCES = {"cpu": "1", "memory": "2Gi"}
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

Json = dict[str, Any]


def default(obj: Json, default_mode: str = "Standard") -> Json:
    """The InferenceService as KServe's defaulter makes it; `default_mode` is its ConfigMap's."""
    made = copy.deepcopy(obj)
    spec, annotations = made["spec"], made["metadata"].setdefault("annotations", {})
    if (mode := annotations.get(MODE)) in LEGACY_MODES:
        annotations[MODE] = LEGACY_MODES[mode]
    elif mode is None and default_mode != "Knative":
        annotations[MODE] = default_mode
    by_field = SPEAKS_V2 & spec["predictor"].keys()
    spec["predictor"] = defaulter.default(spec["predictor"])
    if model := spec["predictor"].get("model"):
        annotations["modelFormat"] = model["modelFormat"]["name"]
        if by_field or model["modelFormat"]["name"] in FORMATS_OF_V2:
            model.setdefault("protocolVersion", "v2")
    if not annotations:
        del made["metadata"]["annotations"]
    for component in (spec["predictor"], spec.get("transformer", {})):
        if "model" not in component and component.get("containers"):
            _give_resources(component["containers"][0])
    for component in _components(made):
        for container in _containers(component):
            # What the round trip through Go's types adds.
            container.setdefault("name", "")
            container.setdefault("resources", {})
    return made


def refusal(obj: Json) -> str | None:
    """Why KServe's validator refuses the InferenceService; None where it does not."""
    name, predictor = obj["metadata"]["name"], obj["spec"]["predictor"]
    if not NAME.fullmatch(name):
        return f'the InferenceService "{name}" is invalid: a InferenceService name must consist of lower case'
    if wanted := obj["metadata"].get("annotations", {}).get(MODE):
        stands = obj.get("status", {}).get("deploymentMode", wanted)
        if stands != wanted:
            return f"update rejected: deploymentMode cannot be changed from '{stands}' to '{wanted}'"
    if "model" not in predictor and not predictor.get("containers"):
        return "exactly one implementation of the predictor is expected"
    return defaulter.refusal(predictor)


def _give_resources(container: Json) -> None:
    """CustomPredictor.Default: limits and requests of KServe's ConfigMap where there are none."""
    resources = container.setdefault("resources", {})
    for kind in ("limits", "requests"):
        resources[kind] = {**RESOURCES, **resources.get(kind, {})}


def _components(obj: Json) -> Iterator[Json]:
    spec = obj["spec"]
    yield spec["predictor"]
    yield from (spec[key] for key in ("transformer", "explainer") if key in spec)
    yield from (canary["predictor"] for canary in spec.get("canary", []))


def _containers(component: Json) -> Iterator[Json]:
    yield from component.get("initContainers", [])
    yield from component.get("containers", [])
    if "model" in component:
        yield component["model"]
