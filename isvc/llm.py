"""KServe's other kind, LLMInferenceService: what the gateway has to know of it.

It has no predictor and no runtime; KServe runs its pods behind an InferencePool (KServe 0.20, controller/v1alpha2).
There is no sidecar in it: AI Gateway alone counts its tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isvc._node import Node
from isvc.annotations import ANNOTATIONS, own
from isvc.service import STOP_ANNOTATION

LLM_KIND = "LLMInferenceService"
LLM_VERSIONS = ("v1alpha2", "v1alpha1")
"""Newest first."""


@dataclass(frozen=True, slots=True)
class LLMInferenceService:
    """`pool` is its InferencePool; `ready` says that both its pods and its pool are."""

    name: str
    namespace: str
    uid: str
    version: str
    annotations: Mapping[str, str]
    served_models: tuple[str, ...]
    pool: str
    ready: bool
    stopped: bool

    @property
    def kind(self) -> str:
        return LLM_KIND

    @property
    def api_version(self) -> str:
        return f"serving.kserve.io/{self.version}"

    @property
    def predictor_ready(self) -> bool:
        return self.ready

    @property
    def injected(self) -> bool:
        """It is served as it is."""
        return True

    @property
    def openai(self) -> bool:
        return True


def read_llm(obj: Mapping[str, Any], version: str) -> LLMInferenceService:
    """Read a raw object of that API version. Raises Malformed and InvalidAnnotation as `isvc.read` does."""
    root = Node(obj)
    metadata, spec, status = root.node("metadata"), root.node("spec"), root.node("status")
    name, namespace = metadata.text("name") or "", metadata.text("namespace") or "default"
    annotations = metadata.strings("annotations")
    for key, text in own(annotations).items():
        if key in ANNOTATIONS:
            ANNOTATIONS[key].value(text)
    ref = spec.node("router").node("scheduler").node("pool").node("ref")
    conditions = {one.text("type"): one.text("status") for one in status.nodes("conditions")}
    model = own(annotations).get("model") or spec.node("model").text("name") or name
    return LLMInferenceService(
        name=name,
        namespace=namespace,
        uid=metadata.text("uid") or "",
        version=version,
        annotations=annotations,
        served_models=(model, f"publishers/{namespace}/models/{name}"),
        pool=ref.text("name") or f"{name}-inference-pool",
        ready=conditions.get("WorkloadsReady") == "True" and conditions.get("InferencePoolReady") == "True",
        stopped=annotations.get(STOP_ANNOTATION, "").lower() == "true",
    )
