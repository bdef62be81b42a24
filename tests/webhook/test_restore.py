"""An apply that sends the lists without the sidecar does not cost the pod its sidecar, nor a restart."""

import copy
from typing import Any

import pytest
from hypothesis import given

from isvc.errors import Malformed
from tests.webhook import recorded
from tests.webhook.services import SERVICES
from webhook.injection import run
from webhook.plan import Facts, SidecarSettings, Skip

NEWER = Facts(sidecar=SidecarSettings(image="token-meter/sidecar:9.9.9"))


def _without_sidecar_container(stored: dict[str, Any]) -> dict[str, Any]:
    """What arrives when a client sends the lists of its file and nothing else (a three-way merge)."""
    sent = copy.deepcopy(stored)
    predictor = sent["spec"]["predictor"]
    for key in ("initContainers", "containers"):
        if key in predictor:
            predictor[key] = [c for c in predictor[key] if c["name"] != "token-meter"]
    return sent


@given(SERVICES)
def test_lost_sidecar_comes_back_as_it_was_stored(obj: dict[str, Any]) -> None:
    stored = run(obj).obj
    assert run(_without_sidecar_container(stored), NEWER, stored).obj == stored


@given(SERVICES)
def test_users_own_file_replaced_over_the_stored_object_gives_the_stored_pod(obj: dict[str, Any]) -> None:
    stored = run(obj).obj
    replaced = run(copy.deepcopy(obj), NEWER, stored).obj
    assert run(replaced, NEWER, stored).patch == []
    keys = ("initContainers", "containers")
    images = [c["image"] for key in keys for c in replaced["spec"]["predictor"].get(key, [])]
    assert "token-meter/sidecar:9.9.9" not in images


@pytest.mark.parametrize("name", ["standard/canary", "knative/custom", "knative/hf-model"])
def test_lost_sidecars_of_recorded_cases_come_back(name: str) -> None:
    stored = run(recorded.given(name)).obj
    sent = _without_sidecar_container(stored)
    for canary in sent["spec"].get("canary", []):
        del canary["predictor"]["initContainers"]
    assert run(sent, NEWER, stored).obj == stored


def test_service_that_cannot_be_served_any_more_loses_what_led_to_the_sidecar() -> None:
    obj = recorded.given("standard/hf-model")
    sent = _without_sidecar_container(run(obj).obj)
    sent["spec"]["predictor"]["hostNetwork"] = True
    result = run(sent, Facts(), run(obj).obj)
    assert isinstance(result.decision, Skip)
    assert result.obj["spec"]["predictor"] == {**obj["spec"]["predictor"], "hostNetwork": True}


def test_object_that_was_not_injected_gets_nothing_back() -> None:
    obj = recorded.given("standard/sklearn")
    assert run(obj, Facts(), obj).patch == []


@pytest.mark.parametrize("nonsense", [3, "x", {"a": 1}])
def test_a_list_that_is_none_is_told_of_where_the_sidecar_was_in_it(nonsense: object) -> None:
    """Found by fuzzing."""
    stored = run(recorded.given("standard/hf-model")).obj
    sent = _without_sidecar_container(stored)
    sent["spec"]["predictor"]["initContainers"] = nonsense
    with pytest.raises(Malformed, match=r"spec.predictor.initContainers: must be a list"):
        run(sent, NEWER, stored)
