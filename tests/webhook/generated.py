"""InferenceServices that hypothesis makes up from the CRD's own schema: any field, of any allowed form."""

from typing import Any

from hypothesis import strategies as st

from isvc.predictor import FRAMEWORKS

Schema = dict[str, Any]

# Where the meaning of a text matters here, texts that mean something come up; anywhere else a few plain ones.
_TEXTS: dict[str, list[str]] = {
    "image": [
        "kserve/huggingfaceserver:v1",
        "vllm/vllm-openai:v1",
        "openvino/model_server:latest",
        "lmsysorg/sglang:v1",
        "example/other:1",
    ],
    "args": [
        "--model_name=a",
        "--port=8001",
        "--http_port=8001",
        "--task=fill_mask",
        "--api-key=k",
        "--port",
        "8002",
        "-c",
        "{{.Name}}",
        "$(X)",
    ],
    "command": ["python", "-m", "vllm.entrypoints.openai.api_server", "sh", "-c", "exec vllm serve m $@"],
    "runtime": ["with-ports", "with-two-ports", "kserve-vllmserver", "nobody-knows"],
    "modelFormat": ["huggingface", "vLLM", "custom-llm", "sklearn", "openvino"],
    "containers": ["kserve-container", "transformer-container", "token-meter", "a", "b"],
    "initContainers": ["token-meter", "a", "b"],
    "env": [
        "KSERVE_OPENAI_ROUTE_PREFIX",
        "KSERVE_TLS_CERT_FILE",
        "VLLM_API_KEY",
        "X",
    ],
    "value": ["", "/v1", "http://127.0.0.1:8080", "8080"],
    "ports": ["http1", "h2c", "http", "metrics", ""],
    "volumes": ["token-meter-key", "a", "b"],
    "port": ["http1", "http"],
    "protocol": ["TCP", "UDP"],
}
_PORTS = [80, 8000, 8001, 8080, 8085, 9180, 9181, 9182]
_SERVER_FIELDS = ["args", "command", "env", "image", "ports", "runtime", "readinessProbe", "livenessProbe"]
_POD_FIELDS = [
    "containers",
    "initContainers",
    "volumes",
    "securityContext",
    "hostNetwork",
    "logger",
    "workerSpec",
]
_LIKELY = {*_SERVER_FIELDS, *_POD_FIELDS, "httpGet", "tcpSocket", "name", "value", "containerPort", "port"}


@st.composite
def values(draw: st.DrawFn, schema: Schema, field: str = "", holder: str = "") -> Any:
    """A value that the schema allows; `field` is its name and `holder` the name of what it stands in."""
    if schema.get("x-kubernetes-int-or-string"):
        texts = _TEXTS.get(field, ["1", "500m", "1Gi"])
        return draw(st.one_of(st.sampled_from(_PORTS), st.sampled_from(texts)))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    match schema.get("type"):
        case "object" if "properties" in schema:
            return draw(objects(schema, field))
        case "object":
            inner = schema.get("additionalProperties") or {"type": "string"}
            return draw(st.dictionaries(st.sampled_from(["k", "l"]), values(inner, field), max_size=2))
        case "array":
            return draw(_arrays(schema, field))
        case "boolean":
            return draw(st.booleans())
        case "integer":
            ports = field in ("containerPort", "port", "hostPort")
            return draw(st.sampled_from(_PORTS) if ports else st.integers(0, 3))
        case "number":
            return draw(st.sampled_from([0.5, 1.0]))
        case _:
            return draw(_texts(schema, field, holder))


def _texts(schema: Schema, field: str, holder: str) -> st.SearchStrategy[str]:
    texts = _TEXTS.get(holder if field == "name" else field, ["x", "y-z"])
    if schema.get("minLength") or schema.get("pattern", "").startswith("^[a-z]"):
        texts = ["stable", "next"]
    return st.sampled_from(["/x"] if schema.get("pattern") == "^/.*" else texts)


@st.composite
def objects(draw: st.DrawFn, schema: Schema, field: str = "") -> dict[str, Any]:
    """An object with its required fields and a few others, the ones that matter here more often."""
    properties = schema["properties"]
    required = schema.get("required", [])
    likely = sorted(_LIKELY & set(properties))
    chosen = {*required, *draw(st.sets(st.sampled_from(sorted(properties)), max_size=2))}
    if likely:
        chosen |= draw(st.sets(st.sampled_from(likely), max_size=4))
    return {key: draw(values(properties[key], key, field)) for key in sorted(chosen)}


def _arrays(schema: Schema, field: str) -> st.SearchStrategy[list[Any]]:
    keys = schema.get("x-kubernetes-list-map-keys")
    unique = schema.get("x-kubernetes-list-type") == "set"
    return st.lists(
        values(schema["items"], field, field),
        min_size=schema.get("minItems", 0),
        max_size=3,
        unique_by=(lambda item: tuple(str(item.get(key)) for key in keys))
        if keys
        else (str if unique else None),
    )


@st.composite
def predictors(draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
    """A predictor in one of the forms that it has: a model, a framework's field, containers of its own."""
    predictor = draw(objects(schema))
    for key in ("model", *FRAMEWORKS):
        predictor.pop(key, None)
    form = draw(st.sampled_from(["model", "huggingface", "containers", "sklearn", "none"]))
    if form == "none":
        return predictor
    predictor[form] = draw(values(schema["properties"][form], form))
    if form == "model":
        model_format = draw(st.sampled_from(_TEXTS["modelFormat"]))
        predictor["model"]["modelFormat"] = {"name": model_format}
    return predictor


@st.composite
def services(draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
    """A whole InferenceService from the schema of the CRD's version."""
    spec_schema = schema["properties"]["spec"]["properties"]
    spec: dict[str, Any] = {"predictor": draw(predictors(spec_schema["predictor"]))}
    if draw(st.integers(0, 4)) == 0:
        canary = spec_schema["canary"]["items"]["properties"]["predictor"]
        spec["canary"] = [{"trafficPercent": 10, "predictor": draw(predictors(canary))}]
    annotations = {
        "serving.kserve.io/deploymentMode": draw(st.sampled_from(["Standard", "Standard", "Knative"]))
    }
    if draw(st.booleans()):
        annotations["token-meter.dev/inject"] = "true"
    if draw(st.booleans()):
        annotations["token-meter.dev/access"] = draw(st.sampled_from(["open", "gateway"]))
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "m", "namespace": "models", "annotations": annotations},
        "spec": spec,
    }
