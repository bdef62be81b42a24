"""The oracle says what the real KServe and Knative did, for every recorded case."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.oracle import Made, make
from tests.oracle.made import Object
from tests.webhook import recorded

CASES = sorted(
    f"{mode}/{path.stem}"
    for mode in ("standard", "knative")
    for path in (recorded.FOLDER / mode).glob("*.yaml")
)
RUNTIMES = recorded.all_runtimes()
# Refused by that API server alone: it ran without the ServiceAccount admission plugin (recorded README).
REFUSED_THERE_ONLY = {"knative/sidecar-with-projected-token"}
# What KServe tells the nodes of a multi-node model; no rule here rests on it.
RAY = {
    "PIPELINE_PARALLEL_SIZE",
    "TENSOR_PARALLEL_SIZE",
    "RAY_NODE_COUNT",
    "REQUEST_GPU_COUNT",
    "MODEL_NAME",
    "MODEL_DIR",
}
COMPARED = [
    "name",
    "args",
    "command",
    "env",
    "ports",
    "volumeMounts",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
]


def test_all_cases_are_there() -> None:
    assert len(CASES) == 68


@pytest.mark.parametrize("name", CASES)
def test_oracle_says_what_was_recorded(name: str) -> None:
    case = recorded.case(name)
    made = make(case["input"], RUNTIMES)
    if "rejected" in case:
        assert made.rejected
        assert made.rejected in case["rejected"]
        return
    assert made.rejected is None
    theirs = case.get("deployments") or case.get("knative_services") or {}
    if case.get("warnings") and name not in REFUSED_THERE_ONLY:
        assert made.failed
        assert any(_reason(made) in warning for warning in case["warnings"])
        return
    if not theirs:
        assert made.failed == "KServe's controller panics: no container is called kserve-container"
        return
    assert made.works, made.failed
    assert set(made.workloads) == {part for part in theirs if not part.endswith("-worker")}
    for part, workload in made.workloads.items():
        real = theirs[part].get("pod") or theirs[part]["spec"]
        assert _containers(workload.pod, "containers") == _containers(real, "containers")
        assert _containers(workload.pod, "initContainers") == _containers(real, "initContainers")
        assert [v["name"] for v in workload.pod.get("volumes", [])] == [
            v["name"] for v in real.get("volumes", [])
        ]
        if not workload.knative:
            assert workload.service == case["services"][part]["ports"]
    if case.get("pod_containers"):
        assert list(made.pod_containers) == [c["name"] for c in case["pod_containers"]]


def _reason(made: Made) -> str:
    """The part of the oracle's reason that the real message has too."""
    text = made.failed or ""
    return "Duplicate value" if "Duplicate" in text else text


def _containers(pod: Object, key: str) -> list[Object]:
    return [_comparable(container) for container in pod.get(key) or []]


def _comparable(container: Object) -> Object:
    """What is compared of a container, with the API server's defaults filled in and Ray's variables left out."""
    filled: dict[str, Any] = {key: copy.deepcopy(container[key]) for key in COMPARED if container.get(key)}
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe in filled:
            timing = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
            filled[probe] = {**timing, **filled[probe]}
            if "httpGet" in filled[probe]:
                filled[probe]["httpGet"].setdefault("scheme", "HTTP")
    filled["env"] = [entry for entry in filled.get("env", []) if entry["name"] not in RAY]
    for entry in filled["env"]:
        if entry.get("value") == "":
            del entry["value"]
        if "fieldRef" in entry.get("valueFrom", {}):
            entry["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    return filled


def test_recorded_folder_is_read_from_the_repository() -> None:
    assert Path(__file__).parents[1] in recorded.FOLDER.parents
