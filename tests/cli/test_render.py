"""`token-meter render`: what it prints for which input, and what it says."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import main
from tests import crds

GUIDE = Path(__file__).parents[2] / "demo" / "inferenceservice.yaml"
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  listeners:
  - name: http
    protocol: HTTP
    port: 80
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {llm: "yes"}}}}
"""
NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata:
  name: models
  labels: {llm: "yes"}
  annotations: {token-meter.dev/limit: 7/day}
"""


def service(name: str = "m", extra: str = "", model: str = "llama") -> str:
    return f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  namespace: models
{extra}
spec:
  predictor:
    model:
      modelFormat: {{name: huggingface}}
      args: [--model_name={model}]
"""


SKLEARN = service("sk").replace("huggingface", "sklearn")


class Run:
    """Runs the command on texts, each in a file of a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *texts: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
        path = self.folder / "in.yaml"
        path.write_text("---\n".join(texts))
        code = main(["render", "-f", str(path), "--gateway", "edge/gw", *options])
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err.replace(f"{self.folder}/", "")

    def objects(self, *texts: str, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        code, out, err = self(*texts, options=options)
        assert code == 0, err
        return list(yaml.safe_load_all(out))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (obj for obj in objects if obj["kind"] == kind)
    return found


def test_json_is_one_list_of_the_same_objects(run: Run) -> None:
    _, out, _ = run(service(), options=("-o", "json"))
    listed = json.loads(out)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert listed["items"] == run.objects(service())


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GUIDE.read_bytes())))
    assert main(["render", "-f", "-", "--gateway", "default/g"]) == 0
    assert "kind: AIGatewayRoute" in capsys.readouterr().out


def test_an_injected_service_is_rendered_like_the_one_it_was_made_from(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(service())
    main(["inject", "-f", str(path)])
    injected = capsys.readouterr().out
    assert "token-meter" in injected
    assert run.objects(injected) == run.objects(service())


def test_without_a_gateway_in_the_input_every_listener_admits_the_route(run: Run) -> None:
    assert one(run.objects(service()), "AIGatewayRoute")["metadata"]["namespace"] == "edge"


def test_the_gateway_in_the_input_decides_the_placement(run: Run) -> None:
    beside_model = one(run.objects(service(), GATEWAY, NAMESPACE), "AIGatewayRoute")
    assert beside_model["metadata"]["namespace"] == "models"
    assert one(run.objects(service(), GATEWAY), "AIGatewayRoute")["metadata"]["namespace"] == "edge"


def test_the_option_decides_the_placement_over_the_input(run: Run) -> None:
    objects = run.objects(service(), GATEWAY, NAMESPACE, options=("--placement", "cross"))
    assert one(objects, "ReferenceGrant")["metadata"]["namespace"] == "models"


def test_the_namespaces_settings_count(run: Run) -> None:
    policy = one(run.objects(service(), NAMESPACE), "BackendTrafficPolicy")
    assert policy["spec"]["rateLimit"]["global"]["rules"][0]["limit"] == {"requests": 7, "unit": "Day"}


def test_the_old_api_is_written_where_it_is_asked_for(run: Run) -> None:
    objects = run.objects(service(), options=("--api", "v1alpha1"))
    assert one(objects, "AIServiceBackend")["apiVersion"] == "aigateway.envoyproxy.io/v1alpha1"


def test_knative_needs_no_service(run: Run) -> None:
    objects = run.objects(service(), options=("--mode", "knative"))
    assert "Service" not in {obj["kind"] for obj in objects}


def test_an_own_gateway_comes_before_the_option_and_is_said(run: Run) -> None:
    code, out, err = run(service(extra="  annotations: {token-meter.dev/gateway: other/public}"))
    assert code == 0
    route = one(list(yaml.safe_load_all(out)), "AIGatewayRoute")
    assert route["spec"]["parentRefs"][0]["name"] == "public"
    assert "goes by the Gateway other/public of its or its namespace's annotation, not by edge/gw" in err


def test_of_two_services_with_one_model_the_older_keeps_the_name(run: Run) -> None:
    younger = service("a", '  creationTimestamp: "2026-02-01T00:00:00Z"')
    older = service("b", '  creationTimestamp: "2026-01-01T00:00:00Z"')
    code, out, err = run(younger, older)
    assert code == 0
    routes = {
        obj["metadata"]["labels"]["token-meter.dev/inferenceservice"]: obj["spec"]["rules"][0]["matches"]
        for obj in yaml.safe_load_all(out)
        if obj["kind"] == "AIGatewayRoute"
    }
    assert routes["b"][0]["headers"][0]["value"] == "llama"
    assert routes["a"][0]["headers"][0]["value"] == "models/llama"
    assert "in.yaml: document 1, line 1: InferenceService models/a: ModelNameTaken" in err


def test_the_gateways_policy_is_printed_once(run: Run) -> None:
    one(run.objects(service("a", model="x"), service("b", model="y")), "ClientTrafficPolicy")


def test_the_services_of_a_list_are_rendered(run: Run) -> None:
    items = [yaml.safe_load(service("a", model="x")), yaml.safe_load(service("b", model="y"))]
    objects = run.objects(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert len([obj for obj in objects if obj["kind"] == "AIGatewayRoute"]) == 2


def test_other_kinds_are_left_out_and_said_where(run: Run) -> None:
    code, out, err = run(service(), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
    assert code == 0
    assert "ConfigMap" not in out
    assert "in.yaml: document 2, line 13: v1 ConfigMap is left out" in err


def test_the_placeholder_is_said(run: Run) -> None:
    _, out, err = run(service())
    assert "REPLACE-WITH-A-RANDOM-KEY" in out
    assert "openssl rand -hex 32" in err
    assert "Secret models/token-meter-m-key" in err


def test_what_does_not_speak_openai_says_why_and_fails_alone(run: Run) -> None:
    code, out, err = run(SKLEARN)
    assert (code, out) == (1, "")
    assert "in.yaml: document 1, line 1: InferenceService models/sk gets no objects" in err
    assert "nothing is rendered" in err


def test_what_does_not_speak_openai_does_not_stop_the_others(run: Run) -> None:
    code, out, err = run(SKLEARN, service())
    assert code == 0
    assert "models/sk gets no objects" in err
    assert "token-meter-m" in out


def test_an_annotation_that_is_not_allowed_is_an_error_with_its_place(run: Run) -> None:
    code, out, err = run(service(extra="  annotations:\n    token-meter.dev/limit: plenty"))
    assert (code, out) == (1, "")
    assert "in.yaml: document 1, line 7: " in err
    assert '"plenty" is not allowed; write TOKENS/UNIT' in err


def test_a_malformed_service_is_an_error_with_its_place(run: Run) -> None:
    code, _, err = run(service().replace("[--model_name=llama]", "--model_name=llama"))
    assert code == 1
    assert "in.yaml: document 1, line 11: InferenceService: spec.predictor.model.args: must be a list" in err


def test_metadata_that_is_no_object_is_an_error_with_its_place(run: Run) -> None:
    code, _, err = run("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: []\n")
    assert code == 1
    assert "in.yaml: document 1, line 3: InferenceService: metadata: must be an object" in err


def test_a_gateway_that_cannot_be_read_is_an_error_with_its_place(run: Run) -> None:
    code, _, err = run(service(), GATEWAY[: GATEWAY.index("  listeners")] + "  listeners: [http]\n")
    assert code == 1
    assert "this Gateway cannot be read; correct its listeners or give --placement" in err


def test_a_gateway_without_a_namespace_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["render", "-f", str(GUIDE), "--gateway", "gw"])
    assert stopped.value.code == 2
    assert '"gw" is not a Gateway; write NAMESPACE/NAME' in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", "missing.yaml", "--gateway", "a/b"]) == 1
    assert "missing.yaml: no such file" in capsys.readouterr().err


@crds.needed
def test_the_crds_of_a_release_decide_its_fields(run: Run) -> None:
    folder = crds.FOLDER / "ai-gateway" / "v0.3.0" / "aigatewayroutes.yaml"
    objects = run.objects(service(), options=("--crds", str(folder)))
    route = one(objects, "AIGatewayRoute")
    assert route["apiVersion"] == "aigateway.envoyproxy.io/v1alpha1"
    assert "streamIdleTimeout" not in route["spec"]["rules"][0]
    assert one(objects, "Backend")["metadata"]["namespace"] == "edge"


def test_a_file_without_the_crds_is_an_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "crds.yaml"
    path.write_text(NAMESPACE)
    code, _, err = run(service(), options=("--crds", str(path)))
    assert code == 1
    assert "crds.yaml: there is no AIGatewayRoute CRD; install AI Gateway 0.3 or newer" in err
