"""`token-meter inject`: what it prints, what it leaves alone, and what it says."""

import io
import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from cli.main import main

GUIDE = Path(__file__).parents[2] / "demo" / "inferenceservice.yaml"
OTHERS = """\
# A header that must stay.
apiVersion: v1
kind:   ConfigMap
metadata: {name: c,   namespace: models}
data:
    script: |
        --- not a marker
        echo "hello"   # kept
    mode: 0644
"""
SMALL = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: small
spec:
  predictor:
    model:
      modelFormat: {name: huggingface} # the format
      # which model
      args: ["--model_id=a/b"]
"""


class Run:
    """Runs the command with files in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = main(["inject", *arguments])
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err.replace(f"{self.folder}/", "")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, capsys)


def _sidecars(obj: Any) -> list[str]:
    predictor = obj["spec"]["predictor"]
    return [c["name"] for c in [*predictor.get("initContainers", []), *predictor.get("containers", [])]]


def test_injecting_the_guides_file_twice_gives_the_same_text(run: Run) -> None:
    code, once, _ = run("-f", str(GUIDE))
    again, twice, said = run("-f", run.file("once.yaml", once))
    assert (code, again) == (0, 0)
    assert once == twice
    assert "has the sidecar already" in said


def test_every_line_of_the_guides_file_is_still_there_in_its_order(run: Run) -> None:
    _, once, _ = run("-f", str(GUIDE))
    lines = iter(once.splitlines())
    assert all(line in lines for line in GUIDE.read_text().splitlines())


@pytest.mark.parametrize(("mode", "key"), [("standard", "initContainers"), ("knative", "containers")])
def test_mode_is_the_clusters_default(run: Run, mode: str, key: str) -> None:
    _, out, _ = run("-f", str(GUIDE), "--mode", mode)
    assert [c["name"] for c in yaml.safe_load(out)["spec"]["predictor"][key]] == ["token-meter"]


def test_annotated_mode_beats_the_default(run: Run) -> None:
    text = SMALL.replace(
        "  name: small", "  name: small\n  annotations: {serving.kserve.io/deploymentMode: Knative}"
    )
    _, out, _ = run("-f", run.file("k.yaml", text))
    assert "containers" in yaml.safe_load(out)["spec"]["predictor"]


def test_other_documents_pass_byte_for_byte(run: Run) -> None:
    _, out, _ = run("-f", run.file("all.yaml", f"{OTHERS}---\n# about the model\n{SMALL}---\n{OTHERS}"))
    assert out.startswith(f"{OTHERS}---\n# about the model\n")
    assert out.endswith(f"---\n{OTHERS}")
    assert _sidecars(list(yaml.safe_load_all(out))[1]) == ["token-meter"]


def test_comments_and_flow_style_of_an_edited_document_stay(run: Run) -> None:
    _, out, _ = run("-f", run.file("small.yaml", SMALL))
    lines = iter(out.splitlines())
    assert all(line in lines for line in SMALL.splitlines())


@pytest.mark.parametrize("ending", ["", "\n", "\n\n# the end\n", "\n---\n", "\n---\n# only a comment\n"])
def test_ends_of_files_stay(run: Run, ending: str) -> None:
    _, out, _ = run("-f", run.file("small.yaml", SMALL.rstrip() + ending))
    assert out.endswith(ending)
    assert [_sidecars(obj) for obj in yaml.safe_load_all(out) if obj] == [["token-meter"]]


def test_windows_line_ends_stay(run: Run) -> None:
    (run.folder / "w.yaml").write_bytes(SMALL.replace("\n", "\r\n").encode())
    main(["inject", "-f", str(run.folder / "w.yaml")])
    out = run.capsys.readouterr().out
    assert out.count("\n") == out.count("\r\n") > SMALL.count("\n")


def test_several_files_become_one_stream(run: Run) -> None:
    _, out, _ = run(
        "-f",
        run.file("a.yaml", OTHERS),
        "-f",
        run.file("b.yaml", SMALL.rstrip()),
        "-f",
        run.file("c.yaml", SMALL),
    )
    assert [obj["kind"] for obj in yaml.safe_load_all(out)] == [
        "ConfigMap",
        "InferenceService",
        "InferenceService",
    ]


def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SMALL.encode())))
    code, out, _ = run("-f", "-")
    assert code == 0
    assert _sidecars(yaml.safe_load(out)) == ["token-meter"]


def test_list_is_injected_item_by_item(run: Run) -> None:
    items = [yaml.safe_load(OTHERS), yaml.safe_load(SMALL)]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}, sort_keys=False)
    _, out, _ = run("-f", run.file("list.yaml", text))
    listed = yaml.safe_load(out)["items"]
    assert listed[0] == items[0]
    assert _sidecars(listed[1]) == ["token-meter"]
    _, again, _ = run("-f", run.file("again.yaml", out))
    assert again == out


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_json_input(run: Run, output: str) -> None:
    obj = yaml.safe_load(SMALL)
    _, out, _ = run("-f", run.file("small.json", json.dumps(obj)), "-o", output)
    assert _sidecars(json.loads(out) if output == "json" else yaml.safe_load(out)) == ["token-meter"]


def test_json_output_of_several_documents_is_a_list_as_kubectl_writes_it(run: Run) -> None:
    _, out, _ = run("-f", run.file("all.yaml", f"{OTHERS}---\n{SMALL}"), "-o", "json")
    listed = json.loads(out)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert listed["items"][0]["data"]["mode"] == 0o644  # YAML 1.1, as Kubernetes reads it
    assert _sidecars(listed["items"][1]) == ["token-meter"]


def test_patch_output_is_what_kubectl_patch_takes(run: Run) -> None:
    path = run.file("small.yaml", SMALL)
    _, patch, _ = run("-f", path, "-o", "patch")
    _, after, _ = run("-f", path, "-o", "json")
    assert jsonpatch.apply_patch(yaml.safe_load(SMALL), json.loads(patch)) == json.loads(after)


def test_patch_output_has_a_line_for_each_inference_service(run: Run) -> None:
    _, once, _ = run("-f", run.file("small.yaml", SMALL))
    _, out, _ = run("-f", run.file("a.yaml", f"{SMALL}---\n{OTHERS}---\n{once}"), "-o", "patch")
    first, second = map(json.loads, out.splitlines())
    assert first
    assert second == []


def test_diff_output_adds_lines_and_removes_none(run: Run) -> None:
    _, out, _ = run("-f", run.file("all.yaml", f"{OTHERS}---\n{SMALL}"), "-o", "diff")
    changed = [line for line in out.splitlines()[2:] if line[0] in "+-"]
    assert changed
    assert all(line.startswith("+") for line in changed)
    assert "all.yaml document 2" in out.splitlines()[0]


def test_skip_says_document_line_name_and_reason(run: Run) -> None:
    text = SMALL.replace("huggingface", "sklearn")
    code, out, said = run("-f", run.file("all.yaml", f"{OTHERS}---\n{text}"))
    assert code == 0
    assert out == f"{OTHERS}---\n{text}"
    assert (
        "all.yaml: document 2, line 11: InferenceService default/small is skipped, PredictiveFormat: " in said
    )


def test_namespace_option_is_for_objects_that_name_none(run: Run) -> None:
    _, out, _ = run("-f", run.file("small.yaml", SMALL), "-n", "team-a", "-o", "json")
    env = json.loads(out)["spec"]["predictor"]["initContainers"][0]["env"]
    assert {"name": "TOKEN_METER_NAMESPACE", "value": "team-a"} in env


def test_runtime_in_the_input_is_known(run: Run) -> None:
    runtime = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: own}
spec:
  containers:
  - name: kserve-container
    image: vllm/vllm-openai:v1
    args: [--port=8123]
"""
    text = SMALL.replace("args:", "runtime: own\n      args:")
    _, _, said = run("-f", run.file("alone.yaml", text))
    assert "RuntimeUnknown" in said
    _, out, _ = run("-f", run.file("runtime.yaml", runtime), "-f", run.file("with.yaml", text))
    assert "http://127.0.0.1:8123" in out


def test_namespace_in_the_input_gives_its_annotations_and_may_ask_for_annotated_ones_only(run: Run) -> None:
    namespace = """\
apiVersion: v1
kind: Namespace
metadata:
  name: default
  labels: {token-meter.dev/injection: annotated}
  annotations: {token-meter.dev/gateway: gateways/ai}
"""
    _, _, said = run("-f", run.file("a.yaml", f"{namespace}---\n{SMALL}"))
    assert "NotAnnotated" in said
    _, out, _ = run("-f", run.file("b.yaml", f"{namespace.replace('annotated}', 'enabled}')}---\n{SMALL}"))
    assert "gateways/ai" in out


def test_unknown_annotation_is_a_warning(run: Run) -> None:
    text = SMALL.replace("  name: small", "  name: small\n  annotations: {token-meter.dev/limt: 5/day}")
    code, _, said = run("-f", run.file("a.yaml", text))
    assert code == 0
    assert "did you mean token-meter.dev/limit?" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{OTHERS}---\n{SMALL}".replace(
                "  name: small", "  name: small\n  annotations:\n    token-meter.dev/limit: lots"
            ),
            'in.yaml: document 2, line 16: InferenceService annotation token-meter.dev/limit: "lots" is not allowed;'
            " write TOKENS/UNIT",
        ),
        (
            SMALL.replace('["--model_id=a/b"]', "[8080]"),
            "in.yaml: document 1, line 10: InferenceService: spec.predictor",
        ),
        (f"{SMALL}---\nkind: [\n", "in.yaml: document 2, line 13: this is not YAML"),
        (
            f"{SMALL}---\n\n\na: 1\na: 2\n",
            "in.yaml: document 2, line 15: this is not YAML: found duplicate key",
        ),
        (
            "just text\n",
            "in.yaml: document 1, line 1: this is not a Kubernetes object; remove it or correct the file",
        ),
        ("- a\n", "in.yaml: document 1, line 1: this is not a Kubernetes object"),
        ('{"kind": "InferenceService",\n', "in.yaml: document 1, line"),
    ],
)
def test_wrong_input_says_file_document_line_and_prints_nothing(run: Run, text: str, message: str) -> None:
    code, out, said = run("-f", run.file("in.yaml", text))
    assert code == 1
    assert out == ""
    assert message in said


def test_file_that_is_not_there(run: Run) -> None:
    code, out, said = run("-f", str(run.folder / "none.yaml"))
    assert (code, out) == (1, "")
    assert "none.yaml: no such file or directory; name a file that can be read, or -" in said


def test_file_that_is_not_text(run: Run) -> None:
    (run.folder / "b.yaml").write_bytes(b"a: \xff\n")
    code, _, said = run("-f", str(run.folder / "b.yaml"))
    assert code == 1
    assert "b.yaml: byte 3 is not UTF-8" in said


def test_input_without_inference_service_passes_with_a_word(run: Run) -> None:
    code, out, said = run("-f", run.file("o.yaml", OTHERS))
    assert (code, out) == (0, OTHERS)
    assert "no InferenceService" in said


def test_other_api_version_is_left_with_a_word(run: Run) -> None:
    text = SMALL.replace("v1beta1", "v1alpha2")
    _, out, said = run("-f", run.file("a.yaml", text))
    assert out == text
    assert "v1alpha2" in said


def test_shared_anchors_do_not_spread_the_edits(run: Run) -> None:
    text = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: m}
spec:
  predictor:
    containers:
    - name: kserve-container
      image: vllm/vllm-openai:v1
      ports: &ports
      - {containerPort: 8000, protocol: TCP}
    unrelated: *ports
"""
    _, out, _ = run("-f", run.file("a.yaml", text))
    predictor = yaml.safe_load(out)["spec"]["predictor"]
    assert predictor["containers"][0]["ports"][0]["containerPort"] == 9180
    assert predictor["unrelated"] == [{"containerPort": 8000, "protocol": "TCP"}]
