"""What is read from an InferenceService: server, port, names, mode, path, and whether it speaks OpenAI."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import isvc
from isvc import Malformed, Mode, NotOpenAI, Server, Shape
from tests.webhook import recorded

VLLM = "vllm/vllm-openai:v0.11.0"


def _object(predictor: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "llama", "namespace": "models", **fields},
        "spec": {"predictor": predictor},
    }


def _model(*args: str, format_name: str = "huggingface", **fields: Any) -> isvc.InferenceService:
    return isvc.read(_object({"model": {"modelFormat": {"name": format_name}, "args": list(args), **fields}}))


def _custom(image: str, *args: str, **fields: Any) -> isvc.InferenceService:
    return isvc.read(
        _object({"containers": [{"name": "kserve-container", "image": image, "args": list(args), **fields}]})
    )


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ([], ("llama",)),
        (["--model_name=a"], ("a",)),
        (["--model-name", "a"], ("a",)),
        (["--model_name='a'"], ("a",)),
        (["--model_name=a", "--model_name=b"], ("b",)),
        (["--model_name={{.Name}}-{{.Namespace}}"], ("llama-models",)),
        (["--served-model-name", "a", "b"], ("a", "b")),
        (["--served_model_name=a", "--model_name=b"], ("a",)),
        (["--lora-modules", "x=/x", "y=/y"], ("llama", "x", "y")),
        (["--model_name=a", "--lora-modules", '{"name": "x", "path": "/x"}'], ("a", "x")),
    ],
)
def test_served_names_of_a_kserve_runtime(args: list[str], names: tuple[str, ...]) -> None:
    assert _model(*args).served_models == names


@pytest.mark.parametrize(
    ("service", "names"),
    [
        (_custom(VLLM, "--model=a/b"), ("a/b",)),
        (_custom(VLLM, "a/b", "--port=8000"), ("a/b",)),
        (_custom(VLLM, command=["vllm", "serve", "a/b"]), ("a/b",)),
        (
            _custom(VLLM, command=["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "a/b"]),
            ("a/b",),
        ),
        (_custom(VLLM, "--model=a/b", "--served-model-name=c"), ("c",)),
        (_custom("lmsysorg/sglang:latest", "--model-path", "a/b"), ("a/b",)),
        (_custom("ghcr.io/ggml-org/llama.cpp:server", "-m", "/m.gguf", "--alias", "a,b"), ("a", "b")),
        (_custom("ghcr.io/ggml-org/llama.cpp:server", "-m", "/m.gguf"), ("llama",)),
    ],
)
def test_served_names_of_a_custom_container(service: isvc.InferenceService, names: tuple[str, ...]) -> None:
    assert service.served_models == names


def test_model_annotation_beats_the_flags() -> None:
    obj = _object(
        {"model": {"modelFormat": {"name": "huggingface"}}}, annotations={"token-meter.dev/model": "big"}
    )
    assert isvc.read(obj).served_models == ("big",)


@pytest.mark.parametrize(
    ("image", "command", "server", "port", "path"),
    [
        (VLLM, None, Server.VLLM, 8000, "/v1"),
        ("registry:5000/mirror/vllm/vllm-openai@sha256:" + "0" * 64, None, Server.VLLM, 8000, "/v1"),
        ("own:1", ["sh", "-c", "vllm serve a/b --port 8001"], Server.VLLM, 8001, "/v1"),
        ("lmsysorg/sglang:v0.5", None, Server.SGLANG, 30000, "/v1"),
        ("own:1", ["python3", "-m", "sglang.launch_server", "--port", "9"], Server.SGLANG, 9, "/v1"),
        ("ghcr.io/huggingface/text-generation-inference:3.3", None, Server.TGI, 80, "/v1"),
        (
            "ghcr.io/ggml-org/llama.cpp:server-cuda",
            ["llama-server", "--api-prefix", "/x"],
            Server.LLAMA_CPP,
            8080,
            "/x/v1",
        ),
        ("ollama/ollama:0.12", None, Server.OLLAMA, 11434, "/v1"),
        ("openvino/model_server:latest", ["ovms", "--rest_port=8000"], Server.OVMS, 8000, "/v3"),
        ("kserve/huggingfaceserver:v0.20.0-gpu", None, Server.HUGGINGFACE, 8080, "/v1"),
        ("own:1", ["python", "-m", "huggingfaceserver", "--http_port=81"], Server.HUGGINGFACE, 81, "/v1"),
        ("vllm/vllm-exporter:1", None, Server.GENERIC, 8080, None),
        ("example/my-model_server:1", None, Server.GENERIC, 8080, None),
    ],
)
def test_known_servers(
    image: str, command: list[str] | None, server: Server, port: int, path: str | None
) -> None:
    service = _custom(image, command=command)
    assert (service.server, service.port, service.base_path) == (server, port, path)


def test_port_by_annotation_flag_environment_declaration_in_this_order() -> None:
    tgi = "ghcr.io/huggingface/text-generation-inference:3"
    env, ports = [{"name": "PORT", "value": "81"}], [{"containerPort": 82}]
    assert _custom(tgi, "--port=80", env=env, ports=ports).port == 80
    assert _custom(tgi, env=env, ports=ports).port == 81
    assert _custom(tgi, ports=ports).port == 82
    obj = _object({"containers": [{"name": "c", "image": tgi, "args": ["--port=80"]}]})
    obj["metadata"]["annotations"] = {"token-meter.dev/port": "79"}
    assert isvc.read(obj).port == 79


@pytest.mark.parametrize(
    ("host", "port"), [("0.0.0.0", 11434), ("0.0.0.0:1234", 1234), ("http://[::]:1234", 1234)]
)
def test_ollama_host(host: str, port: int) -> None:
    assert _custom("ollama/ollama", env=[{"name": "OLLAMA_HOST", "value": host}]).port == port


@pytest.mark.parametrize(
    ("prefix", "path"),
    [("", "/v1"), ("/custom", "/custom/v1"), ("custom", "/custom/v1"), ("/openai", "/openai/v1")],
)
def test_base_path_of_kserves_server_follows_the_prefix(prefix: str, path: str) -> None:
    assert _model(env=[{"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": prefix}]).base_path == path


def test_base_path_without_a_prefix_is_the_one_after_injection() -> None:
    assert _model().base_path == "/v1"


def test_empty_prefix_cannot_replace_the_runtimes() -> None:
    obj = recorded.given("standard/prefix-set-in-runtime.injected")
    assert isvc.read(obj, serving_runtimes=recorded.runtimes()).base_path == "/custom/v1"


@pytest.mark.parametrize(
    ("status", "annotation", "default", "mode"),
    [
        (None, None, Mode.STANDARD, Mode.STANDARD),
        (None, None, Mode.KNATIVE, Mode.KNATIVE),
        (None, "Serverless", Mode.STANDARD, Mode.KNATIVE),
        (None, "RawDeployment", Mode.KNATIVE, Mode.STANDARD),
        ("Knative", "Standard", Mode.STANDARD, Mode.KNATIVE),
        (None, "ModelMesh", Mode.STANDARD, Mode.MODEL_MESH),
    ],
)
def test_mode_by_status_annotation_default(
    status: str | None, annotation: str | None, default: Mode, mode: Mode
) -> None:
    obj = _object({"model": {"modelFormat": {"name": "huggingface"}}})
    obj["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": annotation} if annotation else None
    obj["status"] = {"deploymentMode": status}
    assert isvc.read(obj, default_mode=default).mode is mode


@pytest.mark.parametrize(
    ("predictor", "shape"),
    [
        ({"model": {"modelFormat": {"name": "huggingface"}}}, Shape.MODEL),
        ({"huggingface": {}}, Shape.FRAMEWORK),
        ({"containers": [{"name": "x"}]}, Shape.CUSTOM),
        ({"minReplicas": 1}, Shape.NONE),
    ],
)
def test_shape(predictor: dict[str, Any], shape: Shape) -> None:
    assert isvc.read(_object(predictor)).shape is shape


@pytest.mark.parametrize(
    "task", ["text_generation", "text2text_generation", "text_embedding", "generate", "embed", "score"]
)
def test_generative_and_embedding_tasks_speak_openai(task: str) -> None:
    assert _model(f"--task={task}").openai


@pytest.mark.parametrize(
    "task", ["fill_mask", "token_classification", "sequence_classification", "time_series_forecast"]
)
def test_other_tasks_do_not(task: str) -> None:
    assert _model("--task", task).not_openai is NotOpenAI.NOT_GENERATIVE


def test_status_is_read_for_the_gateway() -> None:
    obj = _object(
        {"name": "blue", "model": {"modelFormat": {"name": "huggingface"}}, "logger": {"mode": "all"}}
    )
    obj["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    obj["status"] = {
        "address": {"url": "http://llama-blue-predictor.models.svc.cluster.local"},
        "conditions": [{"type": "PredictorReady", "status": "True"}, {"type": "Ready", "status": "False"}],
    }
    service = isvc.read(obj)
    assert (service.uid, service.created, service.predictor_name) == ("u", "2026-01-01T00:00:00Z", "blue")
    assert service.address == "http://llama-blue-predictor.models.svc.cluster.local"
    assert (service.predictor_ready, service.logger, service.batcher, service.stopped) == (
        True,
        True,
        False,
        False,
    )


def test_runtime_is_chosen_as_kserve_chooses() -> None:
    def runtime(
        name: str, kind: str, priority: int, namespace: str | None = None, **spec: Any
    ) -> dict[str, Any]:
        formats = [{"name": "huggingface", "autoSelect": True, "priority": priority}]
        return {
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"supportedModelFormats": formats, **spec},
        }

    def chosen(*runtimes: dict[str, Any]) -> str | None:
        obj = _object({"model": {"modelFormat": {"name": "huggingface"}}})
        return isvc.read(obj, serving_runtimes=runtimes).runtime

    low = runtime("low", "ClusterServingRuntime", 1)
    high = runtime("high", "ClusterServingRuntime", 2)
    local = runtime("local", "ServingRuntime", 0, "models")
    elsewhere = runtime("elsewhere", "ServingRuntime", 9, "other")
    assert chosen(low, high) == "high"
    assert chosen(low, runtime("off", "ClusterServingRuntime", 9, disabled=True)) == "low"
    assert chosen(high, local, elsewhere) == "local"
    assert chosen() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": {"predictor": []}}, "spec.predictor: must be an object, is a list"),
        (
            {"spec": {"predictor": {"model": {"args": "--x"}}}},
            "spec.predictor.model.args: must be a list, is a string",
        ),
        (
            {"spec": {"predictor": {"containers": [{"name": "c", "args": [8080]}]}}},
            r'spec.predictor.containers\[0\].args\[0\]: must be a string, is a number; put it in quotes: "8080"',
        ),
        (
            {"metadata": {"annotations": {"token-meter.dev/inject": True}}},
            'is a boolean; put it in quotes: "true"',
        ),
        (
            {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "Fast"}}},
            '"Fast" is not a deployment mode; write one of Standard, Knative',
        ),
    ],
)
def test_malformed_object_is_refused_with_its_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        isvc.read({**_object({"huggingface": {}}), **change})


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "model", "containers", "args", "env", "ports", "modelFormat", "value", "huggingface"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@given(JSON)
def test_any_predictor_is_read_or_refused_as_malformed(predictor: Any) -> None:
    obj = _object(predictor)
    before = copy.deepcopy(obj)
    with contextlib.suppress(Malformed):
        isvc.read(obj)
    assert obj == before
