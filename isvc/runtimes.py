"""ServingRuntimes: the one that an InferenceService gets, and what its container brings.

Without the cluster's own list, those that KServe 0.20 ships for OpenAI servers are taken (config/runtimes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isvc._node import Node

_PROBE = {"httpGet": {"path": "/v1/models", "port": 8080}}


def _shipped(
    name: str, formats: Mapping[str, int], container: Mapping[str, Any], **spec: Any
) -> dict[str, Any]:
    return {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": name},
        "spec": {
            "supportedModelFormats": [
                {"name": name, "autoSelect": True, "priority": priority} for name, priority in formats.items()
            ],
            "containers": [{"name": "kserve-container", **container}],
            **spec,
        },
    }


SHIPPED: tuple[Mapping[str, Any], ...] = (
    _shipped(
        "kserve-huggingfaceserver",
        {"huggingface": 1},
        {"image": "kserve/huggingfaceserver", "args": ["--model_name={{.Name}}"]},
    ),
    _shipped(
        "kserve-huggingfaceserver-multinode",
        {"huggingface": 2},
        {
            "image": "kserve/huggingfaceserver",
            "args": ["--model_name={{.Name}}"],
            "readinessProbe": {"exec": {"command": ["bash"]}},
        },
        workerSpec={},
    ),
    _shipped(
        "kserve-vllmserver",
        {"vLLM": 1},
        {
            "image": "vllm/vllm-openai",
            "command": ["python", "-m", "vllm.entrypoints.openai.api_server"],
            "args": ["--port=8080", "--served-model-name={{.Name}}", "--model=/mnt/models"],
            "readinessProbe": _PROBE,
        },
    ),
    _shipped(
        "kserve-openvino",
        {"openvino": 1, "huggingface": 0},
        {
            "image": "openvino/model_server",
            "args": ["--model_name={{.Name}}", "--port=9000", "--rest_port=8080"],
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A ServingRuntime or ClusterServingRuntime: its kserve-container, and the containers beside it."""

    name: str
    container: Node
    others: tuple[Node, ...] = ()


def find(
    runtimes: Sequence[Mapping[str, Any]] | None,
    *,
    name: str | None,
    model_format: str,
    namespace: str,
    multi_node: bool = False,
) -> Runtime | None:
    """The runtime called `name`, or without a name the one that KServe selects for the format, or None.

    The namespace's runtimes come before the cluster's, then the higher priority (KServe 0.20,
    predictor_model.go GetSupportingRuntimes). Versions and protocols are not compared: they rarely decide
    between OpenAI servers.
    """
    nodes = [_node(raw) for raw in (SHIPPED if runtimes is None else runtimes)]
    cluster = [node for node in nodes if node.text("kind") == "ClusterServingRuntime"]
    local = [node for node in nodes if node not in cluster and _namespace(node, namespace) == namespace]
    for scope in (local, cluster):
        if name is not None:
            chosen = [n for n in scope if n.node("metadata").text("name") == name]
        else:
            fitting = [n for n in scope if ("workerSpec" in n.node("spec")) is multi_node]
            ranked = [(rank, n) for n in fitting if (rank := _priority(n, model_format)) is not None]
            chosen = [n for _, n in sorted(ranked, key=lambda pair: -pair[0])]
        if chosen:
            return _runtime(chosen[0])
    return None


def _node(raw: Mapping[str, Any]) -> Node:
    """The raw runtime, its name at the head of its paths: an error in it is not one of the InferenceService."""
    kind, name = raw.get("kind"), Node(raw).node("metadata").text("name")
    return Node(raw, (f"{kind}/{name}",))


def _namespace(runtime: Node, default: str) -> str:
    return runtime.node("metadata").text("namespace") or default


def _priority(runtime: Node, model_format: str) -> int | None:
    """How much KServe prefers this runtime for the format, or None where it would not select it."""
    spec = runtime.node("spec")
    if spec.value.get("disabled") or spec.value.get("multiModel"):
        return None
    ranks = [
        entry.number("priority") or 0
        for entry in spec.nodes("supportedModelFormats")
        if entry.text("name") == model_format and entry.value.get("autoSelect")
    ]
    return max(ranks, default=None)


def _runtime(node: Node) -> Runtime:
    containers = node.node("spec").nodes("containers")
    own = next((c for c in containers if c.text("name") == "kserve-container"), Node({}))
    others = tuple(c for c in containers if c.text("name") != "kserve-container")
    return Runtime(node.node("metadata").text("name") or "", own, others)
