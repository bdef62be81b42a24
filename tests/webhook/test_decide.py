"""Who gets the sidecar and who does not, and the reason that is given."""

from typing import Any

import pytest

import isvc
from isvc import SHIPPED_RUNTIMES, InvalidAnnotation, Mode
from tests.webhook import recorded
from webhook.injection import run
from webhook.plan import Facts, Inject, SidecarSettings, Skip
from webhook.reasons import Reason

FACTS = Facts(serving_runtimes=[*recorded.runtimes(), *SHIPPED_RUNTIMES])
KNATIVE = Facts(default_mode=Mode.KNATIVE)


def _object(predictor: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "m",
            "namespace": "models",
            "annotations": {f"token-meter.dev/{key}": value for key, value in annotations.items()},
        },
        "spec": {"predictor": predictor},
    }


def _model(name: str = "huggingface", *args: str, **fields: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": name}, "args": list(args), **fields}}


def _custom(image: str, *args: str, **fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "kserve-container", "image": image, "args": list(args), **fields}]}


def _reason(obj: dict[str, Any], facts: Facts = FACTS) -> Reason:
    result = run(obj, facts)
    assert isinstance(result.decision, Skip)
    assert result.patch == []
    assert result.obj == obj
    return result.decision.reason


METRICS = {"containerPort": 9400, "name": "metrics"}
SKIPPED = [
    (_object(_model(), inject="false"), Reason.OPTED_OUT),
    (_object({}), Reason.NO_PREDICTOR),
    (_object({"sklearn": {"storageUri": "gs://m"}}), Reason.PREDICTIVE_FORMAT),
    (_object(_model("sklearn")), Reason.PREDICTIVE_FORMAT),
    (_object(_model("openvino")), Reason.PREDICTIVE_FORMAT),
    (_object(_model("huggingface", "--task=fill_mask")), Reason.NOT_GENERATIVE),
    (_object(_model("huggingface", "--task", "token_classification")), Reason.NOT_GENERATIVE),
    (_object(_model("something")), Reason.UNKNOWN_FORMAT),
    (_object(_model("huggingface", runtime="nobody-knows")), Reason.RUNTIME_UNKNOWN),
    (_object(_custom("example/classifier:1")), Reason.UNKNOWN_SERVER),
    (
        _object(_custom("vllm/vllm-openai:v1", command=["python", "-m", "vllm.entrypoints.api_server"])),
        Reason.NOT_GENERATIVE,
    ),
    (_object(_custom("vllm/vllm-openai:v1", "--port=9180")), Reason.PORT_TAKEN),
    (_object(_custom("vllm/vllm-openai:v1", "--port=$(UNSET)")), Reason.NO_HTTP_PORT),
    (_object(_custom("vllm/vllm-openai:v1", "--uds=/run/vllm.sock")), Reason.NO_HTTP_PORT),
    (_object(_custom("openvino/model_server:latest", "--task=text_generation")), Reason.NO_HTTP_PORT),
    (_object(_custom("vllm/vllm-openai:v1", "--ssl-certfile=/c", "--ssl-keyfile=/k")), Reason.SERVER_TLS),
    (_object(_custom("vllm/vllm-openai:v1", "--api-key=s")), Reason.SERVER_API_KEY),
    (_object({**_model(), "logger": {"mode": "all"}}, tls="true"), Reason.TLS),
    (
        _object(
            _custom(
                "vllm/vllm-openai:v1", "--port=8000", ports=[METRICS, {"containerPort": 8000, "name": "h"}]
            )
        ),
        Reason.SEVERAL_PORTS,
    ),
    (_object({**_model(), "hostNetwork": True}), Reason.HOST_NETWORK),
    (
        _object({"containers": [{"name": "a", "image": "vllm/vllm-openai:v1"}, {"name": "b", "image": "x"}]}),
        Reason.SEVERAL_CONTAINERS,
    ),
    (
        _object(
            {**_model(), "containers": [{"name": "h", "image": "x", "ports": [{"containerPort": 9181}]}]}
        ),
        Reason.PORT_TAKEN,
    ),
    (
        _object({**_model(), "initContainers": [{"name": "token-meter", "image": "someone/else:1"}]}),
        Reason.NAME_TAKEN,
    ),
]


@pytest.mark.parametrize(("obj", "reason"), SKIPPED, ids=lambda value: getattr(value, "label", ""))
def test_skipped_with_its_reason(obj: dict[str, Any], reason: Reason) -> None:
    assert _reason(obj) is reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("standard/collocated-transformer", Reason.COLLOCATED_TRANSFORMER),
        ("standard/model-with-collocated-transformer", Reason.COLLOCATED_TRANSFORMER),
        ("standard/runtime-with-two-ports", Reason.UNKNOWN_FORMAT),
        ("standard/h2c-port", Reason.GRPC_ONLY),
        ("standard/sklearn", Reason.PREDICTIVE_FORMAT),
    ],
)
def test_recorded_shapes_that_cannot_be_served_are_skipped(name: str, reason: Reason) -> None:
    assert _reason(recorded.given(name)) is reason


@pytest.mark.parametrize("mode", ["standard", "knative"])
def test_runtime_with_ports_is_skipped_where_no_flag_is_sure_to_move_its_server(mode: str) -> None:
    obj = recorded.given(f"{mode}/runtime-with-ports")
    obj["metadata"]["annotations"]["token-meter.dev/inject"] = "true"
    assert _reason(obj) is Reason.RUNTIME_DECLARES_PORTS


def test_model_mesh_is_skipped() -> None:
    obj = _object(_model())
    obj["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "ModelMesh"
    assert _reason(obj) is Reason.MODEL_MESH


def test_object_without_a_name_is_skipped() -> None:
    obj = _object(_model())
    obj["metadata"] = {"generateName": "m-"}
    assert _reason(obj) is Reason.NO_NAME


@pytest.mark.parametrize(
    ("label", "annotation", "reason"),
    [
        (None, None, Reason.NAMESPACE_NOT_LABELLED),
        ("disabled", "true", Reason.NAMESPACE_NOT_LABELLED),
        ("annotated", None, Reason.NOT_ANNOTATED),
        ("annotated", "false", Reason.OPTED_OUT),
        ("annotated", "true", None),
        ("enabled", None, None),
        ("enabled", "false", Reason.OPTED_OUT),
    ],
)
def test_opting_in(label: str | None, annotation: str | None, reason: Reason | None) -> None:
    obj = _object(_model(), **({"inject": annotation} if annotation else {}))
    decision = run(obj, Facts(injection=label)).decision
    assert (decision.reason if isinstance(decision, Skip) else None) is reason


@pytest.mark.parametrize(
    "predictor", [_custom("example/own:1", "--port=8000"), _model("something"), _model("triton")]
)
def test_owner_who_says_so_is_believed(predictor: dict[str, Any]) -> None:
    assert isinstance(run(_object(predictor, inject="true")).decision, Inject)


def test_server_that_reads_port_is_skipped_in_knative_until_its_port_is_named() -> None:
    tgi = "ghcr.io/huggingface/text-generation-inference:3"
    assert _reason(_object(_custom(tgi)), KNATIVE) is Reason.PORT_FROM_ENVIRONMENT
    assert isinstance(run(_object(_custom(tgi)), Facts()).decision, Inject)
    assert isinstance(run(_object(_custom(tgi, "--port=8080")), KNATIVE).decision, Inject)
    assert isinstance(run(_object(_custom(tgi), port="8080"), KNATIVE).decision, Inject)


@pytest.mark.parametrize(
    ("image", "arg", "variable"),
    [
        ("vllm/vllm-openai:v1", "--api-key=s", "VLLM_API_KEY"),
        ("ghcr.io/huggingface/text-generation-inference:3", "--api-key=s", "API_KEY"),
        ("ghcr.io/ggml-org/llama.cpp:server", "--api-key-file=/k", "LLAMA_API_KEY"),
    ],
)
def test_server_with_a_key_of_its_own_is_skipped(image: str, arg: str, variable: str) -> None:
    assert _reason(_object(_custom(image, arg))) is Reason.SERVER_API_KEY
    secret = {"name": variable, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert _reason(_object(_custom(image, env=[secret]))) is Reason.SERVER_API_KEY


def test_server_with_a_key_of_its_own_is_injected_with_open_access() -> None:
    obj = _object(_custom("vllm/vllm-openai:v1", "--api-key=s"), access="open")
    assert isinstance(run(obj).decision, Inject)


def test_sidecar_made_for_the_other_mode_is_not_doubled() -> None:
    injected = run(_object(_model())).obj
    assert _reason(injected, KNATIVE) is Reason.OTHER_MODE


def test_wrong_annotation_names_itself_its_value_and_what_is_allowed() -> None:
    with pytest.raises(InvalidAnnotation, match=r'token-meter\.dev/limit: "many".*1000/hour.*off'):
        run(_object(_model(), limit="many"))


def test_wrong_namespace_annotation_says_whose_it_is() -> None:
    with pytest.raises(InvalidAnnotation, match=r"^Namespace annotation"):
        run(_object(_model()), Facts(namespace_annotations={"token-meter.dev/access": "closed"}))


def test_unknown_annotation_is_a_warning_with_the_likely_name() -> None:
    result = run(_object(_model(), limits="10/hour"))
    assert isinstance(result.decision, Inject)
    assert result.warnings == (
        "annotation token-meter.dev/limits is not known and is ignored; did you mean token-meter.dev/limit?",
    )


@pytest.mark.parametrize("port", [80, 8012, 9081, 15001, 70000])
def test_sidecar_port_that_kserve_pods_have_no_room_for_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=str(port)):
        SidecarSettings(port=port)


def test_every_reason_has_a_label_and_a_sentence_of_its_own() -> None:
    labels = [reason.label for reason in Reason]
    assert len(set(labels)) == len(labels)
    assert all(reason.sentence and not reason.sentence.endswith(".") for reason in Reason)


def test_every_verdict_has_a_reason_of_the_same_name() -> None:
    assert {why.name for why in isvc.NotOpenAI} <= {reason.name for reason in Reason}


def _graph(namespace: str) -> dict[str, Any]:
    return {
        "kind": "InferenceGraph",
        "metadata": {"name": "chain", "namespace": namespace},
        "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceName": "m"}]}}},
    }


def test_step_of_an_inference_graph_is_injected_with_open_access_alone() -> None:
    facts = Facts(inference_graphs=[_graph("models")])
    decision = run(_object(_model()), facts).decision
    assert decision == Skip(Reason.INFERENCE_GRAPH, "chain")
    assert isinstance(run(_object(_model(), access="open"), facts).decision, Inject)
    assert isinstance(run(_object(_model()), Facts(inference_graphs=[_graph("other")])).decision, Inject)


def test_runtimes_port_that_is_not_the_servers_is_not_taken_over() -> None:
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v1",
        "args": ["--port=8080"],
        "ports": [{"containerPort": 9400}],
    }
    runtime = {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "r"},
        "spec": {"containers": [container], "supportedModelFormats": []},
    }
    obj = _object(_model("vLLM", runtime="r"))
    assert _reason(obj, Facts(serving_runtimes=[runtime])) is Reason.RUNTIME_DECLARES_PORTS
    container["ports"] = [{"containerPort": 8080}]
    assert isinstance(run(obj, Facts(serving_runtimes=[runtime])).decision, Inject)


def test_runtime_that_starts_its_server_by_a_shell_is_not_moved() -> None:
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v1",
        "command": ["sh", "-c", "vllm serve m --port=8080"],
        "ports": [{"containerPort": 8080}],
    }
    runtime = {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "r"},
        "spec": {"containers": [container], "supportedModelFormats": []},
    }
    obj = _object(_model("vLLM", runtime="r"))
    assert _reason(obj, Facts(serving_runtimes=[runtime])) is Reason.RUNTIME_DECLARES_PORTS


def test_runtime_that_starts_to_declare_ports_does_not_break_what_is_injected() -> None:
    injected = run(_object(_model("vLLM", runtime="kserve-vllmserver"))).obj
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v1",
        "args": ["--port=8080"],
        "ports": [{"containerPort": 8080}],
    }
    runtime = {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "kserve-vllmserver"},
        "spec": {"containers": [container], "supportedModelFormats": []},
    }
    assert _reason(injected, Facts(serving_runtimes=[runtime])) is Reason.OTHER_MODE
