"""Every golden, run through what KServe makes of it: the pod works, and traffic passes the sidecar."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.oracle import Made, Workload, listening, make, security
from tests.oracle.defaulter import TRANSFORMER
from tests.oracle.services import AGENT_PORT
from tests.webhook import recorded
from tests.webhook.test_golden import FOLDER, NAMES
from webhook.injection import run
from webhook.plan import Facts, Skip
from webhook.remove import remove

SKIPPED = [name for name in NAMES if name.endswith("-skipped")]
INJECTED = [name for name in NAMES if name not in SKIPPED]


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def _isvc(name: str, state: str) -> dict[str, Any]:
    return next(d for d in _documents(FOLDER / f"{name}.{state}.yaml") if d["kind"] == "InferenceService")


def _runtimes(name: str) -> list[dict[str, Any]]:
    own = [d for d in _documents(FOLDER / f"{name}.before.yaml") if d["kind"].endswith("ServingRuntime")]
    return [*own, *recorded.kserves_runtimes()]


def _made(name: str, state: str) -> Made:
    return make(_isvc(name, state), _runtimes(name))


def _predictors(made: Made) -> list[Workload]:
    return [workload for part, workload in made.workloads.items() if not part.endswith("-transformer")]


def _sidecar(workload: Workload) -> dict[str, Any]:
    containers = [*workload.pod.get("initContainers", []), *workload.pod["containers"]]
    (sidecar,) = [c for c in containers if c["name"] == "token-meter"]
    return dict(sidecar)


def _env(workload: Workload) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in _sidecar(workload)["env"]}


@pytest.mark.parametrize("name", SKIPPED)
def test_skipped_golden_is_left_as_it_is_for_the_reason_that_it_names(name: str) -> None:
    before = _isvc(name, "before")
    decision = run(before, Facts(serving_runtimes=_runtimes(name))).decision
    assert isinstance(decision, Skip)
    assert decision.reason.label in (FOLDER / f"{name}.before.yaml").read_text().splitlines()[0]
    assert _isvc(name, "after") == before


@pytest.mark.parametrize("name", INJECTED)
def test_injected_golden_works_where_it_worked_before(name: str) -> None:
    assert _made(name, "before").works
    after = _made(name, "after")
    assert after.works, (after.rejected, after.failed)


@pytest.mark.parametrize("name", INJECTED)
def test_service_leads_to_the_sidecar_and_the_sidecar_to_the_server(name: str) -> None:
    predictor = _isvc(name, "after")["spec"]["predictor"]
    agent = "logger" in predictor or "batcher" in predictor
    for workload in _predictors(_made(name, "after")):
        env, server = _env(workload), workload.server
        data_port = int(env["TOKEN_METER_PORT"])
        assert server["ports"][0]["containerPort"] == data_port
        if not workload.knative:
            assert workload.service[0]["targetPort"] == (AGENT_PORT if agent else data_port)
            assert workload.service[0]["port"] == 80
        assert env["TOKEN_METER_UPSTREAM"] == f"http://127.0.0.1:{listening.port(server)}"


@pytest.mark.parametrize("name", INJECTED)
def test_further_ports_of_the_service_stay(name: str) -> None:
    before, after = _made(name, "before"), _made(name, "after")
    for part, workload in after.workloads.items():
        assert workload.service[1:] == before.workloads[part].service[1:]


@pytest.mark.parametrize("name", INJECTED)
def test_model_keeps_its_own_probes(name: str) -> None:
    before = {part: workload.server for part, workload in _made(name, "before").workloads.items()}
    for workload in _predictors(_made(name, "after")):
        port, server = listening.port(workload.server), workload.server
        for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
            was, probe = before[workload.name].get(kind), server.get(kind)
            assert (probe is None) == (was is None)
            for handler in ("httpGet", "tcpSocket"):
                if probe and handler in probe and probe[handler]["port"] != 0:  # 0: Knative's, on the sidecar
                    assert probe[handler]["port"] == port
                    assert was
                    assert probe[handler].get("path") == was[handler].get("path")
            if probe and "exec" in probe:
                assert probe == was


@pytest.mark.parametrize("name", INJECTED)
def test_sidecars_ports_are_nobody_elses(name: str) -> None:
    for workload in _predictors(_made(name, "after")):
        env = _env(workload)
        ours = {int(env["TOKEN_METER_PORT"]), int(env["TOKEN_METER_ADMIN_PORT"])}
        assert len(ours) == 2
        assert listening.port(workload.server) not in ours
        for container in workload.pod["containers"][1:]:
            assert not ours & {port["containerPort"] for port in container.get("ports") or []}


@pytest.mark.parametrize("name", INJECTED)
def test_pod_security_holds_where_it_held(name: str) -> None:
    before = _made(name, "before")
    for part, workload in _made(name, "after").workloads.items():
        assert security.violations(workload.pod) <= security.violations(before.workloads[part].pod)


@pytest.mark.parametrize("name", INJECTED)
def test_nothing_of_the_pod_changes_but_what_leads_the_traffic(name: str) -> None:
    before = _made(name, "before").workloads
    for part, workload in _made(name, "after").workloads.items():
        was, now = before[part].pod, workload.pod
        ours = ("token-meter", "token-meter-key")
        for key in ("containers", "initContainers", "volumes"):
            kept = [item["name"] for item in now.get(key, []) if item["name"] not in ours]
            assert kept == [item["name"] for item in was.get(key, [])]
        edited = {"ports", "readinessProbe", "livenessProbe", "startupProbe", "env", "args"}
        for mine, theirs in zip(now["containers"], was["containers"], strict=False):
            same = {key for key in theirs if key not in edited}
            assert {key: mine[key] for key in same} == {key: theirs[key] for key in same}
            assert mine.get("args", [])[: len(theirs.get("args", []))] == theirs.get("args", [])
            added = [entry for entry in mine["env"] if entry not in theirs["env"]]
            assert added in ([], [{"name": "KSERVE_OPENAI_ROUTE_PREFIX"}])


@pytest.mark.parametrize("name", INJECTED)
def test_removal_gives_what_was_there(name: str) -> None:
    assert _without_empty(remove(_isvc(name, "after"))) == _without_empty(_renamed(_isvc(name, "before")))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item not in (None, [])}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _renamed(isvc: dict[str, Any]) -> dict[str, Any]:
    """A lone custom container in Knative under the name that it gets and keeps."""
    predictor, annotations = isvc["spec"]["predictor"], isvc["metadata"].get("annotations", {})
    containers = predictor.get("containers") or []
    in_knative = annotations.get("serving.kserve.io/deploymentMode") in ("Knative", "Serverless")
    if "model" not in predictor and len(containers) == 1 and in_knative:
        containers[0]["name"] = "kserve-container"
    return isvc


def test_no_golden_enters_by_a_collocated_transformer() -> None:
    for name in INJECTED:
        for workload in _made(name, "after").workloads.values():
            assert TRANSFORMER not in [c["name"] for c in workload.pod["containers"]]
