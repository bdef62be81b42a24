"""InferenceServices that hypothesis makes up: every supported shape, with the user's own fields around."""

from typing import Any

from hypothesis import strategies as st

_NAMES = st.sampled_from(["llama3-1b", "m", "qwen"])
_ENV = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["HF_TOKEN", "A", "B"]), "value": st.sampled_from(["", "x"])}
        ),
        st.just({"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": ""}),
        st.just({"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": "/custom"}),
        st.just({"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
    ),
    max_size=3,
    unique_by=lambda entry: str(entry["name"]),
)
_PORTS = st.lists(
    st.fixed_dictionaries(
        {"containerPort": st.sampled_from([8000, 8080])},
        optional={"name": st.sampled_from(["http", "http1"]), "protocol": st.just("TCP")},
    ),
    max_size=1,
)
_PROBES = st.one_of(
    st.just({"httpGet": {"path": "/health", "port": 8080}}),
    st.just({"httpGet": {"path": "/health", "port": "http"}}),
    st.just({"tcpSocket": {"port": 8080}}),
)
_SERVER: dict[str, st.SearchStrategy[Any]] = {
    "args": st.lists(
        st.sampled_from(["--model_name=a", "--model=b/c", "--port=8001", "--http_port=8001", "--x", "y"]),
        max_size=4,
    ),
    "env": _ENV,
    "ports": _PORTS,
    "readinessProbe": _PROBES,
    "livenessProbe": _PROBES,
    "resources": st.just({"limits": {"nvidia.com/gpu": "1"}}),
    "somethingNew": st.just({"of": ["a", "later", "KServe"]}),
}
_POD: dict[str, st.SearchStrategy[Any]] = {
    "minReplicas": st.integers(0, 2),
    "volumes": st.just([{"name": "mine", "emptyDir": {}}]),
    "initContainers": st.just([{"name": "prep", "image": "example/prep:1"}]),
    "logger": st.just({"mode": "all"}),
}


def _object(name: str, predictor: dict[str, Any], mode: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "models", "labels": {"team": "x"}}
    if mode:
        metadata["annotations"] = {"serving.kserve.io/deploymentMode": mode}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor, "unknownField": 1},
        "status": {"conditions": []},
    }


def _models(format_name: str) -> st.SearchStrategy[dict[str, Any]]:
    server = st.fixed_dictionaries({"modelFormat": st.just({"name": format_name})}, optional=_SERVER)
    return st.fixed_dictionaries({"model": server}, optional=_POD)


_CUSTOM = st.fixed_dictionaries(
    {
        "containers": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["kserve-container", "server"]),
                    "image": st.sampled_from(["vllm/vllm-openai:v1", "lmsysorg/sglang:latest"]),
                },
                optional=_SERVER,
            ),
            min_size=1,
            max_size=1,
        )
    },
    optional=_POD,
)
_FRAMEWORK = st.fixed_dictionaries(
    {"huggingface": st.fixed_dictionaries({}, optional=_SERVER)}, optional=_POD
)

SERVICES = st.builds(
    _object,
    _NAMES,
    st.one_of(_models("huggingface"), _models("vLLM"), _CUSTOM, _FRAMEWORK),
    st.sampled_from([None, "Standard", "Knative", "RawDeployment", "Serverless"]),
)
