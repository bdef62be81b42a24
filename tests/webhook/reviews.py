"""Hand-made AdmissionReviews."""

import json
from typing import Any

Object = dict[str, Any]


def service(**annotations: str) -> Object:
    """The guide's kind of InferenceService."""
    predictor = {"model": {"modelFormat": {"name": "huggingface"}, "args": ["--model_name=llama"]}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "llama",
            "namespace": "llm",
            "uid": "u-1",
            "annotations": {f"token-meter.dev/{k.replace('_', '-')}": v for k, v in annotations.items()},
        },
        "spec": {"predictor": predictor},
    }


def review(obj: Any, old: Any = None, *, kind: str = "InferenceService", **request: Any) -> bytes:
    """The API server's question about `obj`: a CREATE, or an UPDATE where `old` is given."""
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "serving.kserve.io", "version": "v1beta1", "kind": kind},
        "operation": "CREATE" if old is None else "UPDATE",
        "namespace": "llm",
        "name": "llama",
        "dryRun": False,
        "object": obj,
        "oldObject": old,
        **request,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
    ).encode()
