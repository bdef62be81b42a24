"""Any InferenceService that KServe's own CRD allows: nothing breaks it, and little of it changes."""

import copy
import re
from functools import cache
from typing import Any

import jsonpatch
import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from isvc import InvalidAnnotation, Malformed
from tests.oracle import make
from tests.webhook import generated, recorded
from tests.webhook.test_crd import KSERVE, closed
from webhook.injection import Result, run
from webhook.patch import same
from webhook.plan import Facts, Inject, Skip
from webhook.remove import remove

pytestmark = pytest.mark.skipif(
    not KSERVE.is_dir(), reason="no CRDs of KServe: TOKEN_METER_CRDS does not name their folder"
)
RUNTIMES = recorded.all_runtimes()
FACTS = Facts(serving_runtimes=RUNTIMES)
# Examples are small as they are; shrinking these takes minutes.
ANY = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PREDICTOR = r"/spec/(predictor|canary/\d+/predictor)"
LISTS = re.compile(rf"{PREDICTOR}/(initContainers|containers|volumes)(/\d+)?")
SERVER = re.compile(
    rf"{PREDICTOR}/(model|[a-z]+|containers/\d+)/(ports|env|args|readinessProbe|livenessProbe|startupProbe)(/.*)?"
)
NAME = re.compile(rf"{PREDICTOR}/containers/\d+/name")


@cache
def _schema() -> dict[str, Any]:
    crd = yaml.load((KSERVE / "inferenceservices.yaml").read_text(), Loader=yaml.CSafeLoader)
    version = next(v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


@cache
def _validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(closed(_schema()))


def _any() -> st.SearchStrategy[dict[str, Any]]:
    return st.deferred(lambda: generated.services(_schema()))


def _run(obj: dict[str, Any]) -> Result | None:
    """The result; None where a setting is refused, which is an answer too."""
    try:
        return run(obj, FACTS)
    except (Malformed, InvalidAnnotation):
        return None


@ANY
@given(_any())
def test_what_is_generated_is_allowed_by_the_crd(obj: dict[str, Any]) -> None:
    for canary in obj["spec"].get("canary", []):
        canary["predictor"].get("model", {}).setdefault("name", "")
    validator = _validator()
    assert [error.message for error in validator.iter_errors({"spec": obj["spec"]})] == []


@ANY
@given(_any())
def test_valid_service_is_never_called_malformed(obj: dict[str, Any]) -> None:
    assert _run(obj) is not None


@ANY
@given(_any())
def test_patch_leads_to_the_result_by_jsonpatch_too(obj: dict[str, Any]) -> None:
    before = copy.deepcopy(obj)
    result = run(obj, FACTS)
    assert same(obj, before)
    assert same(jsonpatch.apply_patch(before, result.patch), result.obj)


@ANY
@given(_any())
def test_second_time_changes_nothing(obj: dict[str, Any]) -> None:
    once = run(obj, FACTS)
    again = run(once.obj, FACTS)
    assert again.patch == []
    if isinstance(once.decision, Inject):
        assert isinstance(again.decision, Inject), again.decision


@ANY
@given(_any())
def test_only_the_allowed_paths_differ(obj: dict[str, Any]) -> None:
    for operation in run(obj, FACTS).patch:
        path, value = operation["path"], operation.get("value")
        if LISTS.fullmatch(path):
            added: list[Any] = value if isinstance(value, list) else [value]
            assert operation["op"] in ("add", "replace")
            assert {item["name"] for item in added} <= {"token-meter", "token-meter-key"}
        elif NAME.fullmatch(path):
            assert value == "kserve-container"
        else:
            assert SERVER.fullmatch(path), operation


@ANY
@given(_any())
def test_skipped_service_is_left_as_it_is_and_says_why(obj: dict[str, Any]) -> None:
    result = run(obj, FACTS)
    if isinstance(result.decision, Skip):
        assert result.patch == []
        assert result.decision.text


@ANY
@given(_any())
def test_removal_gives_what_was_there(obj: dict[str, Any]) -> None:
    result = run(obj, FACTS)
    if isinstance(result.decision, Inject):
        removed = remove(result.obj)
        assert _comparable(removed) == _comparable(obj)


@ANY
@given(_any())
def test_service_that_worked_still_works_injected(obj: dict[str, Any]) -> None:
    result = run(obj, FACTS)
    if isinstance(result.decision, Inject) and make(obj, RUNTIMES).works:
        made = make(result.obj, RUNTIMES)
        assert made.works, (made.rejected, made.failed)
        for workload in made.workloads.values():
            containers = [*workload.pod.get("initContainers", []), *workload.pod["containers"]]
            (sidecar,) = [c for c in containers if c["name"] == "token-meter"]
            port = next(int(e["value"]) for e in sidecar["env"] if e["name"] == "TOKEN_METER_PORT")
            assert workload.server["ports"][0]["containerPort"] == port


def _comparable(value: Any, holder: str = "") -> Any:
    """Without empty values; the names of containers stay out of it, as one may have become kserve-container."""
    if isinstance(value, dict):
        return {
            key: _comparable(item, key)
            for key, item in value.items()
            if item not in (None, []) and not (key == "name" and holder == "containers")
        }
    return [_comparable(item, holder) for item in value] if isinstance(value, list) else value
