"""Injected objects pass the schema of KServe's own CRD, and what is assumed of its runtimes is what it ships."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from isvc import SHIPPED_RUNTIMES
from tests.webhook import recorded
from webhook.injection import run
from webhook.plan import Facts, Inject

ROOT = Path(os.environ.get("TOKEN_METER_CRDS") or Path(__file__).parents[3] / "shared" / "crds")
KSERVE = ROOT / "kserve" / "v0.20.0"
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.after.yaml"))

pytestmark = pytest.mark.skipif(
    not KSERVE.is_dir(), reason="no CRDs of KServe: TOKEN_METER_CRDS does not name their folder"
)


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    text = (KSERVE / "inferenceservices.yaml").read_text()
    crd = yaml.load(text, Loader=yaml.CSafeLoader)
    version = next(v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    return jsonschema.Draft7Validator(closed(version["schema"]["openAPIV3Schema"]))


def closed(schema: Any) -> Any:
    """The schema with unknown fields as errors (the API server would drop them) and Kubernetes' int-or-string."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        strict["additionalProperties"] = False
    return strict


def _check(schema: jsonschema.Draft7Validator, obj: dict[str, Any]) -> None:
    for canary in obj["spec"].get(
        "canary", []
    ):  # KServe's defaulter writes the empty name that the CRD asks for
        canary["predictor"].get("model", {}).setdefault("name", "")
    errors = [
        f"{'/'.join(map(str, e.absolute_path))}: {e.message}"
        for e in schema.iter_errors({"spec": obj["spec"]})
    ]
    assert errors == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_injected_golden_passes_the_crd(schema: jsonschema.Draft7Validator, path: Path) -> None:
    documents = yaml.safe_load_all(path.read_text())
    _check(schema, next(d for d in documents if d["kind"] == "InferenceService"))


@pytest.mark.parametrize(
    "name", ["standard/hf-model", "knative/hf-model", "knative/custom", "standard/vllm-runtime"]
)
def test_injected_recorded_case_passes_the_crd(schema: jsonschema.Draft7Validator, name: str) -> None:
    result = run(recorded.given(name))
    assert isinstance(result.decision, Inject)
    _check(schema, result.obj)


def test_schema_refuses_an_unknown_field(schema: jsonschema.Draft7Validator) -> None:
    with pytest.raises(AssertionError):
        _check(schema, {"spec": {"predictor": {"initContainers": [{"name": "a", "no-such-field": 1}]}}})


@pytest.mark.parametrize("ours", SHIPPED_RUNTIMES, ids=lambda runtime: str(runtime["metadata"]["name"]))
def test_shipped_runtimes_are_kserves(ours: dict[str, Any]) -> None:
    theirs = yaml.safe_load((KSERVE / "runtimes" / f"{ours['metadata']['name']}.yaml").read_text())
    mine, real = ours["spec"]["containers"][0], theirs["spec"]["containers"][0]
    assert "ports" not in real
    assert ("readinessProbe" in mine) == ("readinessProbe" in real)
    assert mine.get("command") in (None, real.get("command"))  # some are known by their image alone
    assert set(mine["args"]) <= set(real["args"])
    formats = {
        f["name"]: f.get("priority") or 0
        for f in theirs["spec"]["supportedModelFormats"]
        if f.get("autoSelect")
    }
    assert {
        f["name"]: f["priority"] for f in ours["spec"]["supportedModelFormats"]
    }.items() <= formats.items()


def test_real_runtimes_lead_to_the_same_injection() -> None:
    real = [yaml.safe_load(path.read_text()) for path in sorted((KSERVE / "runtimes").glob("*.yaml"))]
    for name in ("standard/hf-model", "standard/vllm-runtime", "knative/hf-model"):
        assert run(recorded.given(name), Facts(serving_runtimes=real)).obj == run(recorded.given(name)).obj
