"""What we write has the shape that the real KServe accepted: compared with its recorded cases."""

from typing import Any

import pytest

from isvc import SHIPPED_RUNTIMES
from tests.webhook import recorded
from webhook.injection import run
from webhook.plan import Facts, Inject

STANDARD = [
    "standard/hf-model.injected",
    "standard/vllm-runtime.injected",
    "standard/custom-kserve-container.injected",
    "standard/custom-with-port-8000.injected",
    "standard/own-init-volumes.injected",
    "standard/predictor-name.injected",
    "standard/logger.injected",
    "standard/batcher.injected",
    "standard/prefix-set-in-runtime.injected",
]
KNATIVE = [
    "knative/hf-model.injected",
    "knative/vllm-runtime.injected",
    "knative/custom.injected",
    "knative/logger.injected",
    "knative/min-replicas-zero.injected",
    "knative/canary-percent.injected",
]
FACTS = Facts(serving_runtimes=[*recorded.runtimes(), *SHIPPED_RUNTIMES])


def _injected(name: str) -> dict[str, Any]:
    result = run(recorded.without_sidecar(recorded.given(name)), FACTS)
    assert isinstance(result.decision, Inject)
    predictor: dict[str, Any] = result.obj["spec"]["predictor"]
    return predictor


def _server(predictor: dict[str, Any]) -> dict[str, Any]:
    server: dict[str, Any] = predictor.get("model") or predictor["containers"][0]
    return server


@pytest.mark.parametrize("name", STANDARD + KNATIVE)
def test_server_gets_the_ports_probe_and_environment_that_kserve_accepted(name: str) -> None:
    ours, theirs = _server(_injected(name)), _server(recorded.given(name)["spec"]["predictor"])
    assert ours["ports"] == theirs["ports"]
    assert ours.get("readinessProbe") == theirs.get("readinessProbe")
    if name != "standard/prefix-set-in-runtime.injected":  # "" has no effect there, so we do not write it
        assert ours.get("env") == theirs.get("env")


@pytest.mark.parametrize("name", STANDARD)
def test_standard_sidecar_is_the_last_init_container_as_recorded(name: str) -> None:
    ours, theirs = _injected(name), recorded.given(name)["spec"]["predictor"]
    assert [c["name"] for c in ours["initContainers"]] == [c["name"] for c in theirs["initContainers"]]
    sidecar, accepted = ours["initContainers"][-1], theirs["initContainers"][-1]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["ports"][0] == accepted["ports"][0]
    assert sidecar["readinessProbe"] == accepted["readinessProbe"]
    assert "cpu" in sidecar["resources"]["requests"]  # the HPA's percentages are of the requests


@pytest.mark.parametrize("name", KNATIVE)
def test_knative_sidecar_is_a_container_with_what_knative_accepts(name: str) -> None:
    ours, theirs = _injected(name), recorded.given(name)["spec"]["predictor"]
    assert [c["name"] for c in ours["containers"]] == [c["name"] for c in theirs["containers"]]
    assert "initContainers" not in ours
    sidecar = ours["containers"][-1]
    accepted = recorded.given("knative/sidecar-with-security-context")["spec"]["predictor"]["containers"][0]
    assert sidecar["securityContext"] == accepted["securityContext"]
    assert sidecar.keys() == {"name", "image", "env", "resources", "securityContext", "volumeMounts"}
    assert all(entry.keys() == {"name", "value"} for entry in sidecar["env"])  # Knative refuses fieldRef


def test_key_volume_is_optional_as_recorded() -> None:
    ours = _injected("knative/hf-model.injected")["volumes"]
    theirs = recorded.given("knative/sidecar-with-optional-secret")["spec"]["predictor"]["volumes"]
    assert ours[0]["secret"].keys() == theirs[0]["secret"].keys()
    assert ours[0]["secret"]["optional"] is True


def test_knative_custom_container_is_renamed_to_what_kserve_looks_for() -> None:
    obj = recorded.given("standard/custom-other-name")
    obj["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Knative"}
    predictor = run(obj, FACTS).obj["spec"]["predictor"]
    theirs = recorded.given("knative/custom-other-name.renamed-and-injected")["spec"]["predictor"]
    assert [c["name"] for c in predictor["containers"]] == [c["name"] for c in theirs["containers"]]
    assert predictor["containers"][0]["ports"] == [{"containerPort": 9180, "protocol": "TCP"}]


@pytest.mark.parametrize("name", STANDARD + KNATIVE)
def test_nothing_that_kserve_refuses_is_written(name: str) -> None:
    predictor = _injected(name)
    containers = [*predictor.get("initContainers", []), *predictor.get("containers", [])]
    variables = [entry["name"] for container in containers for entry in container.get("env", [])]
    assert "PYTHONPATH" not in variables
    names = [container["name"] for container in containers]
    assert len(names) == len(set(names))
