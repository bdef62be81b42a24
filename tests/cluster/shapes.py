"""The InferenceServices that the tests apply, as their users write them."""

import copy
from typing import Any

from tests.cluster.kserve_standin import MODE
from tests.gateway.scenes import guide

Json = dict[str, Any]
SIDECAR = "token-meter"
SHAPES: dict[str, Json] = {
    "guide": guide()["spec"]["predictor"],
    "framework-field": {"huggingface": {"args": ["--model_id=a/b"]}},
    "vllm-runtime": {
        "model": {"modelFormat": {"name": "vLLM"}, "storageUri": "hf://a/b", "args": ["--seed=1"]}
    },
    "custom": {
        "containers": [
            {
                "name": "server",
                "image": "vllm/vllm-openai:v1",
                "args": ["--port=8000"],
                "ports": [{"containerPort": 8000, "protocol": "TCP"}],
            }
        ]
    },
    "knative": {"model": {"modelFormat": {"name": "huggingface"}, "args": ["--model_id=a/b"]}},
}


def inference_service(shape: str, namespace: str, name: str = "m", **annotations: str) -> Json:
    """One of SHAPES; `annotations` are token-meter.dev's."""
    own = {f"token-meter.dev/{key}": value for key, value in annotations.items()}
    if shape == "knative":
        own[MODE] = "Knative"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace, "annotations": own},
        "spec": {"predictor": copy.deepcopy(SHAPES[shape])},
    }


def server(obj: Json) -> Json:
    """The model server's container: `model`, a framework's field, or the container that is not the sidecar."""
    predictor = obj["spec"]["predictor"]
    found: Json = predictor.get("model") or predictor.get("huggingface") or _own(predictor["containers"])
    return found


def sidecars(obj: Json) -> list[Json]:
    """Every container called after the sidecar."""
    predictor = obj["spec"]["predictor"]
    return [
        one
        for key in ("initContainers", "containers")
        for one in predictor.get(key, [])
        if one["name"] == SIDECAR
    ]


def _own(containers: list[Json]) -> Json:
    return next(one for one in containers if one["name"] != SIDECAR)
