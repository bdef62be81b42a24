"""`token-meter check` and `token-meter adopt` on a real API server, as programs with a kubeconfig."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.processes import python
from tests import crds
from tests.cluster import envoy_gateway, neighbours, official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import REPOSITORY, Run, kubeconfig
from tests.cluster.installation import LABEL, MANIFESTS, Installation, eventually
from tests.cluster.neighbours import CONFIG, IMAGES
from tests.e2e.settings import documents
from tests.gateway.controller.scene import Scene

pytestmark = crds.needed


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def checks(self) -> dict[str, Any]:
        return {check["name"]: check for check in json.loads(self.out)["checks"]}

    @property
    def failing(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["state"] == "failure"}


@dataclass(frozen=True, slots=True)
class Fit:
    """A cluster that is fit, as far as one without nodes can be."""

    plane: ControlPlane
    installation: Installation
    scene: Scene

    def run(self, *arguments: str, kubeconfig: Path | None = None) -> Ran:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "KUBECONFIG": str(kubeconfig or self.plane.kubeconfig),
        }
        command = [*map(str, python("cli.main")), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fit]:
    """Everything installed, one InferenceService behind a Gateway, its objects accepted."""
    folder = tmp_path_factory.mktemp("check")
    with ControlPlane(folder) as plane:
        official.install(plane.client)
        envoy_gateway.install_crds(plane.client)
        with Installation(plane) as installation, Scene(plane) as scene:
            neighbours.install(plane)
            ready = Fit(plane, installation, scene)
            controller = Run(folder, kubeconfig(plane), {"RATE_LIMIT": "true"})
            try:
                scene.serve()
                eventually(lambda: ("BackendTrafficPolicy", "models") in scene.kinds())
                yield ready
            finally:
                controller.stop()


def said(fit: Fit, plural: str, reason: str, *, well: bool) -> None:
    """What AI Gateway says of the route: nobody else does here."""
    status = "True" if well else "False"
    time = "2026-01-01T00:00:00Z"
    condition = {
        "type": "Accepted",
        "status": status,
        "reason": reason,
        "message": "m",
        "lastTransitionTime": time,
    }
    name = "token-meter-m"
    path = f"/apis/aigateway.envoyproxy.io/v1beta1/namespaces/{fit.scene.models}/{plural}/{name}/status"
    body = {"status": {"conditions": [condition]}}
    answer = fit.plane.client.request("PATCH", path, body, "application/merge-patch+json")
    assert answer.status == 200, answer.body


def test_a_fit_cluster_is_said_to_be_fit(fit: Fit) -> None:
    ran = fit.run("check", "-o", "json")
    assert (ran.failing, ran.code, ran.err) == (set(), 0, "")
    good = {"kserve", "envoy-gateway", "ai-gateway", "backend-api", "ai-gateway-hooks", "rate-limit-backend"}
    good |= {"webhook", "certificate", "controller", "namespaces", "inferenceservices", "gateway", "buffer"}
    good |= {"kserve-ingress"}
    assert {name for name, check in ran.checks.items() if check["state"] == "ok"} >= good
    assert {ran.checks[name]["state"] for name in ("user-header", "ledger", "charging")} == {"warning"}
    text = fit.run("check")
    assert "The cluster is fit." in text.out
    assert "\x1b" not in text.out


def test_that_the_ledger_may_charge_is_seen(fit: Fit) -> None:
    rights = MANIFESTS / "components" / "charge-gateway" / "rbac.yaml"
    fit.plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "envoy-gateway-system"}}])
    fit.plane.kubectl("apply", "-f", str(rights))
    try:
        charging = fit.run("check", "-o", "json").checks["charging"]
        assert (charging["state"], "envoy-gateway-system" in charging["text"]) == ("ok", True)
    finally:
        fit.plane.kubectl("delete", "-f", str(rights))


def test_each_thing_that_is_broken_is_named(fit: Fit) -> None:
    """Seven at once: each line stands for itself."""
    broken = {key: value for key, value in CONFIG.items() if key != "extensionManager"}
    neighbours.configure(fit.plane, {**broken, "extensionApis": {"enableBackend": False}})
    neighbours.deploy(
        fit.plane, {"ai-gateway-controller": "docker.io/envoyproxy/ai-gateway-controller:v0.2.1"}
    )
    fit.plane.apply([small_buffer(fit.scene.infra)])
    said(fit, "aigatewayroutes", "NotAccepted", well=False)
    fit.installation.stop()
    try:
        eventually(lambda: "webhook" in fit.run("check", "-o", "json").failing)
        ran = fit.run("check", "-o", "json")
        expected = {"ai-gateway", "backend-api", "ai-gateway-hooks", "webhook", "routes", "buffer"}
        assert (ran.failing, ran.code) == (expected, 1)
        assert all(ran.checks[name]["todo"] for name in expected)
        assert "is not fit" in fit.run("check").out
    finally:
        neighbours.configure(fit.plane, CONFIG)
        neighbours.deploy(fit.plane, IMAGES)
        fit.plane.kubectl("delete", "clienttrafficpolicy", "small", f"--namespace={fit.scene.infra}")
        said(fit, "aigatewayroutes", "Accepted", well=True)
        fit.installation.start(1)
    assert fit.run("check", "-o", "json").failing == set()


def small_buffer(namespace: str) -> dict[str, Any]:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": "small", "namespace": namespace},
        "spec": {"targetRefs": [target], "connection": {"bufferLimit": "64Ki"}},
    }


def test_who_may_not_read_something_is_told_so(fit: Fit) -> None:
    plane = fit.plane
    plane.kubectl("create", "serviceaccount", "guest", "--namespace=default")
    token = plane.kubectl("create", "token", "guest", "--namespace=default").strip()
    plane.write_kubeconfig(plane.folder / "guest.kubeconfig", token)
    ran = fit.run("check", "-o", "json", kubeconfig=plane.folder / "guest.kubeconfig")
    assert (ran.code, ran.err) == (0, "")
    assert {check["state"] for check in ran.checks.values()} == {"unknown"}
    assert "forbidden" in ran.checks["routes"]["items"][0]


def test_the_role_for_it_is_enough(fit: Fit) -> None:
    plane = fit.plane
    plane.kubectl("create", "serviceaccount", "checker", "--namespace=default")
    binding = ("--clusterrole=token-meter-check", "--serviceaccount=default:checker")
    plane.kubectl("create", "clusterrolebinding", "checker", *binding)
    token = plane.kubectl("create", "token", "checker", "--namespace=default").strip()
    plane.write_kubeconfig(plane.folder / "checker.kubeconfig", token)
    ran = fit.run("check", "-o", "json", kubeconfig=plane.folder / "checker.kubeconfig")
    assert {name for name, check in ran.checks.items() if check["state"] == "unknown"} == set()


def test_without_a_cluster_it_says_what_to_set(fit: Fit, tmp_path: Path) -> None:
    ran = fit.run("check", kubeconfig=tmp_path / "none")
    assert ran.code == 2
    assert "KUBECONFIG" in ran.err
    assert "Traceback" not in ran.err


def early(fit: Fit, name: str, server: str = "huggingface") -> str:
    """An InferenceService that was there before its namespace was labelled."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    isvc = documents("inferenceservice")[0]
    isvc["metadata"] = {"name": "qwen", "namespace": name}
    isvc["spec"]["predictor"]["model"]["modelFormat"]["name"] = server
    fit.plane.apply([space, isvc])
    return f"{name}/qwen"


def sidecar(fit: Fit, name: str) -> bool:
    stored = fit.plane.get("isvc", "qwen", name)
    return "token-meter" in [c["name"] for c in stored["spec"]["predictor"].get("initContainers", ())]


def test_a_key_is_rotated_and_a_rotation_that_was_begun_is_ended(fit: Fit) -> None:
    name, service = "token-meter-m-key", f"{fit.scene.models}/m"

    def keys() -> dict[str, str]:
        return dict(fit.plane.get("secret", name, fit.scene.models)["data"])

    before = keys()
    ran = fit.run("rotate", service, "--wait", "0.1")
    assert (ran.code, len(ran.out.splitlines()), ran.err) == (0, 3, "")
    after = keys()
    assert after.keys() == before.keys()
    assert after["apiKey"] != before["apiKey"]
    fit.plane.kubectl(
        "patch",
        "secret",
        name,
        f"--namespace={fit.scene.models}",
        '--patch={"stringData": {"nextApiKey": "n"}}',
    )
    ran = fit.run("rotate", service, "--wait", "0.1")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    assert keys() == {**before, "apiKey": base64.b64encode(b"n").decode()}
    unknown = fit.run("rotate", f"{fit.scene.models}/nobody")
    assert (unknown.code, "has no key" in unknown.err) == (1, True)


def test_who_was_there_before_is_adopted_when_its_owner_says(fit: Fit) -> None:
    service = early(fit, "adopted")
    unlabelled = fit.run("adopt", service, "--yes")
    assert unlabelled.code == 1
    assert f"kubectl label namespace adopted {LABEL}=enabled" in unlabelled.err
    fit.plane.kubectl("label", "namespace", "adopted", f"{LABEL}=enabled")
    found = fit.run("check", "-o", "json").checks["inferenceservices"]
    assert found["state"] == "warning"
    assert f"token-meter adopt {service}" in found["todo"]

    dry = fit.run("adopt", service, "--dry-run")
    assert (dry.code, "would get the sidecar" in dry.out) == (0, True)
    unasked = fit.run("adopt", service)
    assert (unasked.code, "--yes" in unasked.err) == (1, True)
    assert not sidecar(fit, "adopted")

    done = fit.run("adopt", service, "--yes")
    assert (done.code, "its pods restart" in done.out) == (0, True)
    assert sidecar(fit, "adopted")
    assert "already" in fit.run("adopt", service, "--yes").out


def test_who_cannot_be_adopted_is_told_why(fit: Fit) -> None:
    service = early(fit, "refused", server="sklearn")
    fit.plane.kubectl("label", "namespace", "refused", f"{LABEL}=enabled")
    ran = fit.run("adopt", service, "--yes")
    assert ran.code == 1
    assert "PredictiveFormat" in ran.err
    assert fit.run("adopt", "refused/none", "--yes").code == 1
    assert fit.run("adopt", "refused").code == 2
