"""Who may write and read, asked of a real API server under the ledger's own RBAC."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.ledger.process import Ledger, event
from tests.manifests.render import objects

SYSTEM = "token-meter-system"
NAME = "token-meter-ledger"


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with the ledger's ServiceAccount and what it may do."""
    with ControlPlane(tmp_path_factory.mktemp("ledger-auth")) as plane:
        kinds = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
        wanted = (NAME, SYSTEM, "token-meter-usage-viewer")
        plane.apply([o for o in objects() if o["kind"] in kinds and o["metadata"]["name"] in wanted])
        yield plane


@pytest.fixture
def guarded(plane: ControlPlane, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger as in its pod, and two namespaces with usage."""
    token = tmp_path / "token"
    token.write_text(plane.kubectl("create", "token", NAME, f"--namespace={SYSTEM}"))
    settings = {
        "AUTH": "kubernetes",
        "KUBERNETES_URL": plane.client.url,
        "KUBERNETES_TOKEN_FILE": str(token),
        "KUBERNETES_CA_FILE": str(plane.ca),
    }
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path, **settings) as ledger:
        yield ledger


def sidecar(
    plane: ControlPlane, namespace: str, pod: str, audience: str = "token-meter", *, service: str = "llama"
) -> str:
    """A token as the kubelet mounts it into that pod, which KServe has labelled with its InferenceService."""
    create = plane.client.request
    create("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    create("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    labels = {"serving.kserve.io/inferenceservice": service}
    body: Any = {
        "metadata": {"name": pod, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    made = create("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert made.status in (201, 409), made.body
    bound = [f"--bound-object-name={pod}", "--bound-object-kind=Pod"]
    return plane.kubectl(
        "create", "token", "default", f"--namespace={namespace}", f"--audience={audience}", *bound
    ).strip()


def reader(plane: ControlPlane, *, namespace: str | None) -> str:
    """A token of somebody who may see the usage of one namespace, or of all."""
    who = f"reader-{uuid4().hex[:6]}"
    plane.kubectl("create", "serviceaccount", who, f"--namespace={SYSTEM}")
    kind = ["rolebinding", f"--namespace={namespace}"] if namespace else ["clusterrolebinding"]
    subject = f"--serviceaccount={SYSTEM}:{who}"
    plane.kubectl("create", kind[0], who, *kind[1:], "--clusterrole=token-meter-usage-viewer", subject)
    return plane.kubectl("create", "token", who, f"--namespace={SYSTEM}").strip()


def test_a_pod_writes_for_itself_and_for_nobody_else(plane: ControlPlane, guarded: Ledger) -> None:
    token = sidecar(plane, "team-a", "llama-predictor-0")
    answer = guarded.send(
        [
            event(),
            event("pod", place="team-a/llama/llama-predictor-1"),
            event("namespace", place="team-b/llama/llama-predictor-0"),
            event("service", place="team-a/other/llama-predictor-0"),
        ],
        token,
    )
    assert answer["stored"] == 1
    assert [one["id"] for one in answer["rejected"]] == ["pod", "namespace", "service"]
    assert "writes for itself only" in answer["rejected"][0]["error"]


@pytest.mark.parametrize(
    ("service", "pod"),
    [
        ("llama", "llama-blue-predictor-7d9-x"),
        (
            "a-model-with-a-name-that-is-fifty-characters-long-x",
            "a-model-with-a-name-that-is-fifty-characters-long-x-predicx2x2x",
        ),
        (
            "meta-llama-3-1-70b-instruct-fp8-in-knative",
            "meta-llama-3-1-70b-i0123456789abcdef0123456789abcdef-deploy-x",
        ),
    ],
)
def test_a_pod_is_its_services_whatever_kserve_calls_it(
    plane: ControlPlane, guarded: Ledger, service: str, pod: str
) -> None:
    token = sidecar(plane, "team-a", pod, service=service)
    answer = guarded.send([event(place=f"team-a/{service}/{pod}")], token)
    assert (answer["stored"], answer["rejected"]) == (1, [])


def test_a_pod_that_is_gone_writes_nothing_more(plane: ControlPlane, guarded: Ledger) -> None:
    token = sidecar(plane, "team-a", "llama-predictor-gone")
    path = "/api/v1/namespaces/team-a/pods/llama-predictor-gone?gracePeriodSeconds=0"
    assert plane.client.request("DELETE", path).status == 200
    status, _, _ = guarded.try_send([event(place="team-a/llama/llama-predictor-gone")], token)
    assert status == 401


@pytest.mark.parametrize("what", ["none", "garbage", "audience", "no pod"])
def test_a_token_that_is_no_sidecars_writes_nothing(plane: ControlPlane, guarded: Ledger, what: str) -> None:
    token, status = {
        "none": ("", 401),
        "garbage": ("e30.e30.x", 401),
        "audience": (sidecar(plane, "team-a", "llama-predictor-0", "else"), 401),
        "no pod": (
            plane.kubectl("create", "token", NAME, f"--namespace={SYSTEM}", "--audience=token-meter").strip(),
            403,
        ),
    }[what]
    got, headers, body = guarded.try_send([event()], token)
    assert got == status, body
    assert ("www-authenticate" in headers) == (status == 401)


def test_a_reader_sees_the_namespaces_that_rbac_lets_him_see(plane: ControlPlane, guarded: Ledger) -> None:
    for namespace in ("team-a", "team-b"):
        token = sidecar(plane, namespace, "llama-predictor-0")
        guarded.send([event(place=f"{namespace}/llama/llama-predictor-0")], token)
    everything = guarded.usage("group_by=namespace", reader(plane, namespace=None))
    assert [row["namespace"] for row in everything["rows"]] == ["team-a", "team-b"]
    one = reader(plane, namespace="team-b")
    assert [row["namespace"] for row in guarded.usage("group_by=namespace", one)["rows"]] == ["team-b"]
    assert guarded.usage("namespace=team-a", one)["total"]["requests"] == 0
    # The sidecar's own token is of another audience, and reads nothing.
    status, _, body = guarded.request("GET", "/api/v1/usage", headers={"Authorization": f"Bearer {token}"})
    assert status == 401, body


def test_who_may_see_nothing_is_told_what_lets_him(plane: ControlPlane, guarded: Ledger) -> None:
    who = f"nobody-{uuid4().hex[:6]}"
    plane.kubectl("create", "serviceaccount", who, f"--namespace={SYSTEM}")
    token = plane.kubectl("create", "token", who, f"--namespace={SYSTEM}").strip()
    status, _, body = guarded.request("GET", "/api/v1/usage", headers={"X-Token-Meter-Token": token})
    assert status == 403
    assert "may not get usage of usage.token-meter.dev" in json.loads(body)["detail"]


def test_without_an_api_server_a_sender_is_told_to_come_again(plane: ControlPlane, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    settings = {
        "AUTH": "kubernetes",
        "KUBERNETES_URL": "https://127.0.0.1:9",
        "KUBERNETES_TOKEN_FILE": str(token),
    }
    settings["KUBERNETES_CA_FILE"] = str(plane.ca)
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path, **settings) as ledger:
        status, headers, _ = ledger.try_send([event()], "t")
        assert (status, headers["retry-after"]) == (503, "5")


def test_an_open_ledger_listens_on_a_loopback_only() -> None:
    from ledger.settings import SettingsError, read_settings

    with pytest.raises(SettingsError, match="TOKEN_METER_LEDGER_HOST: must be a loopback address"):
        read_settings({"TOKEN_METER_LEDGER_AUTH": "none"})
    assert read_settings({"TOKEN_METER_LEDGER_AUTH": "none", "TOKEN_METER_LEDGER_HOST": "::1"}).auth == "none"
