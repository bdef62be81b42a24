"""The control plane that the other tests stand on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.demo.conftest import living_in

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = crds.needed


def test_the_api_server_says_its_release_and_so_does_kubectl(cluster: ControlPlane) -> None:
    said = cluster.kubectl("version")
    assert "Server Version: v1.36.3" in said
    assert "Client Version: v1.36.3" in said


def test_the_official_crds_are_established(cluster: ControlPlane) -> None:
    groups = cluster.kubectl("api-resources", "-o=name").split()
    assert {
        "inferenceservices.serving.kserve.io",
        "clusterservingruntimes.serving.kserve.io",
        "backendtrafficpolicies.gateway.envoyproxy.io",
        "gateways.gateway.networking.k8s.io",
        "aigatewayroutes.aigateway.envoyproxy.io",
    } <= set(groups)


def test_a_user_without_rights_is_refused(cluster: ControlPlane) -> None:
    with pytest.raises(KubectlError, match="Forbidden"):
        cluster.kubectl("get", "secrets", "--as=somebody")


def test_pod_security_is_enforced_where_a_namespace_asks_for_it(cluster: ControlPlane) -> None:
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.kubectl("run", "plain", "--image=plain", "-n=strict")


def test_the_one_to_use_by_hand_says_how_works_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.cluster"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not said.endswith("Ctrl-C ends it and removes it all.\n"):
            line = process.stdout.readline()
            assert line, f"it ended by itself:\n{said}"
            said += line
        commands = "\n".join(line.strip() for line in said.splitlines() if line.startswith("  "))
        shell = f"shopt -s expand_aliases\nset -e\n{commands}"
        shown = subprocess.run(
            ["bash", "-c", shell], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        alive = living_in(tmp_path)
        process.send_signal(signal.SIGINT)
        process.wait(120)
    assert process.returncode == 0
    assert "name: token-meter" in shown.stdout, shown.stderr
    assert any("kube-apiserver" in line for line in alive)
    assert living_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
