"""Opting out takes out exactly what the injection put in."""

import copy
from typing import Any

import pytest
from hypothesis import given

from tests.webhook import recorded
from tests.webhook.services import SERVICES
from webhook.injection import run
from webhook.plan import Facts, Inject, Skip
from webhook.reasons import Reason
from webhook.remove import remove

FACTS = Facts(serving_runtimes=recorded.all_runtimes())
CASES = sorted(
    f"{mode}/{path.stem}"
    for mode in ("standard", "knative")
    for path in (recorded.FOLDER / mode).glob("*.yaml")
    if "." not in path.stem
)


def _plain(value: Any, path: str = "") -> Any:
    """Without empty lists, and a lone custom container under KServe's own name for it."""
    if isinstance(value, dict):
        return {k: _plain(v, f"{path}/{k}") for k, v in value.items() if v is not None and v != []}
    return [_plain(item, path) for item in value] if isinstance(value, list) else value


def _named(obj: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """`obj` with the custom container called as in `like`: the new name stays."""
    named = copy.deepcopy(obj)
    for ours, theirs in zip(
        named["spec"]["predictor"].get("containers") or (),
        like["spec"]["predictor"].get("containers") or (),
        strict=False,
    ):
        ours["name"] = theirs["name"]
    return named


@given(SERVICES)
def test_removing_what_was_injected_gives_the_object_as_it_was(obj: dict[str, Any]) -> None:
    injected = run(obj).obj
    removed = remove(injected)
    assert _plain(removed) == _plain(_named(obj, removed))


@pytest.mark.parametrize("name", CASES)
def test_removing_from_an_injected_recorded_case_gives_the_case(name: str) -> None:
    obj = recorded.given(name)
    obj["metadata"]["annotations"]["token-meter.dev/inject"] = "true"
    removed = remove(run(obj, FACTS).obj)
    assert _plain(removed) == _plain(_named(obj, removed))


@given(SERVICES)
def test_object_without_the_sidecar_is_left_as_it_is(obj: dict[str, Any]) -> None:
    assert remove(obj) == obj


@pytest.mark.parametrize(
    ("facts", "annotations", "reason"),
    [
        (Facts(), {"token-meter.dev/inject": "false"}, Reason.OPTED_OUT),
        (Facts(injection="annotated"), {}, Reason.NOT_ANNOTATED),
    ],
)
def test_object_that_no_longer_asks_for_it_loses_the_sidecar(
    facts: Facts, annotations: dict[str, str], reason: Reason
) -> None:
    obj = recorded.given("standard/hf-model")
    injected = run(obj, Facts()).obj
    injected["metadata"]["annotations"] = annotations
    result = run(injected, facts)
    assert result.decision == Skip(reason)
    assert result.obj["spec"] == obj["spec"]
    assert run(result.obj, facts).patch == []


def test_skip_for_another_reason_keeps_the_sidecar() -> None:
    injected = run(recorded.given("standard/hf-model")).obj
    injected["spec"]["predictor"]["hostNetwork"] = True
    assert run(injected).patch == []


def test_value_changed_since_is_left_alone() -> None:
    injected = run(recorded.given("standard/hf-model")).obj
    injected["spec"]["predictor"]["model"]["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}}
    injected["spec"]["predictor"]["model"]["ports"].append({"name": "metrics", "containerPort": 9400})
    server = remove(injected)["spec"]["predictor"]["model"]
    assert server["readinessProbe"] == {"httpGet": {"path": "/", "port": 8080}}
    assert server["ports"] == [{"name": "metrics", "containerPort": 9400}]


def test_container_of_somebody_elses_with_our_name_stays() -> None:
    obj = recorded.given("standard/hf-model")
    obj["spec"]["predictor"]["initContainers"] = [{"name": "token-meter", "image": "someone/else:1"}]
    assert remove(obj) == obj


def test_injecting_again_after_removal_gives_the_same_object() -> None:
    for name in CASES:
        obj = recorded.given(name)
        result = run(obj, FACTS)
        if isinstance(result.decision, Inject):
            assert run(remove(result.obj), FACTS).obj == result.obj
