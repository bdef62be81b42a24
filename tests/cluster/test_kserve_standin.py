"""The stand-in for KServe's webhooks stores and refuses what the real one stored and refused."""

from typing import Any

import pytest

from tests.cluster.kserve_standin import default, refusal
from tests.webhook.recorded import FOLDER, case

CASES = sorted(
    f"{folder}/{path.stem}" for folder in ("standard", "knative") for path in (FOLDER / folder).glob("*.yaml")
)
KNATIVE = "knative/"


@pytest.mark.parametrize("name", CASES)
def test_it_does_as_the_recorded_kserve_did(name: str) -> None:
    recorded = case(name)
    made = default(recorded["input"], "Knative" if name.startswith(KNATIVE) else "Standard")
    refused = refusal(made)
    if "rejected" in recorded:
        assert refused is not None
        assert refused in recorded["rejected"]
        return
    assert refused is None
    assert _as_stored(made["spec"]) == recorded["stored_spec"]
    assert made["metadata"].get("annotations", {}) == (recorded["stored_annotations"] or {})


@pytest.mark.parametrize(
    ("predictor", "why"),
    [
        (
            {"model": {"modelFormat": {"name": "a"}}, "containers": [{"name": "kserve-container"}]},
            "exactly one",
        ),
        ({}, "exactly one"),
        ({"model": {"modelFormat": {"name": "a"}, "name": "b"}}, "must not be set"),
    ],
)
def test_it_refuses_what_kserve_refuses(predictor: dict[str, Any], why: str) -> None:
    obj = {"metadata": {"name": "m"}, "spec": {"predictor": predictor}}
    assert why in str(refusal(obj))


def _as_stored(spec: dict[str, Any]) -> dict[str, Any]:
    """With the CRD's own default, which the API server adds: every port has a protocol."""
    for container in _every_container(spec):
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
    return spec


def _every_container(node: Any) -> Any:
    match node:
        case {"name": str()}:
            yield node
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _every_container(child)
