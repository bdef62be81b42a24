"""The guide, word for word, as pods: a real model behind its sidecar, a real Envoy that Envoy Gateway started."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from demo import guide
from demo.client import Client
from demo.processes import python
from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import MANIFESTS, eventually
from tests.e2e import flow
from tests.e2e.settings import documents, inference_service
from tests.images import builder
from tests.node import gateway, kserve
from tests.node.product import SYSTEM, usage

pytestmark = pytest.mark.xdist_group("node")
RIGHTS = MANIFESTS / "components" / "charge-gateway" / "rbac.yaml"
ISVC = inference_service()["metadata"]
MODEL, NAMESPACE = ISVC["name"], ISVC["namespace"]


@pytest.fixture(scope="module")
def served(installed: NodeCluster) -> Iterator[NodeCluster]:
    """Envoy Gateway runs, the namespace is labelled, the InferenceService applied and ready behind the Gateway."""
    installed.load(gateway.build())
    gateway.install(installed)
    installed.kubectl("apply", "-f", str(RIGHTS))
    flow.serve(installed)
    yield installed
    installed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def port(served: NodeCluster) -> Iterator[int]:
    """A port of this machine that leads to the Gateway's Envoy."""
    *_, made = documents("gateway")
    place = made["metadata"]
    with flow.gateway(served, place["namespace"], place["name"]) as port:
        eventually(lambda: Client(port, "nobody").post(guide.CHAT, {"model": "?"}).status == 404)
        yield port


def test_a_user_chats_streams_and_is_refused_past_his_limit(port: int) -> None:
    played = flow.play(port, MODEL)
    assert played["chat"]["total_tokens"] > 0
    assert played["stream"]["chunks"] > 1
    assert played["stream"]["usage"]["completion_tokens"] == 64
    assert set(guide.LIMIT_HEADERS) <= played["limit"]["headers"].keys()
    assert played["another user"]["total_tokens"] > 0


def test_a_stream_that_its_client_cuts_is_charged_by_the_ledger(port: int, served: NodeCluster) -> None:
    eve = Client(port, "eve")
    limit = guide.remaining(eve, MODEL)
    guide.cut(eve, MODEL, lambda _: None)
    eventually(lambda: _charged(served) == 1)
    used = usage(served, NAMESPACE, "--user", "eve")
    assert used["requests"] == 2
    assert used["output_tokens"] >= guide.CUT_AFTER
    assert guide.remaining(eve, MODEL) == limit - used["total_tokens"]


def test_usage_shows_the_tokens_of_each_user(port: int, served: NodeCluster) -> None:
    answer = guide.chat(Client(port, "frank"), MODEL)
    total = answer.usage["total_tokens"]
    eventually(lambda: usage(served, NAMESPACE, "--user", "frank").get("total_tokens") == total)


@pytest.fixture
def secret(port: int, served: NodeCluster) -> Iterator[str]:
    """An InferenceService of this name whose sidecar speaks TLS, and which the Gateway serves."""
    isvc, name = inference_service(), "secret"
    isvc["metadata"] |= {"name": name, "annotations": {"token-meter.dev/tls": "true"}}
    isvc["spec"]["predictor"]["model"]["args"][0] = f"--model_name={name}"
    del isvc["spec"]["predictor"]["model"]["resources"]  # a small machine has no room for two of them
    served.apply([isvc])
    where = f"--namespace={NAMESPACE}"
    served.kubectl("wait", f"isvc/{name}", "--for=condition=Ready", where, "--timeout=4m")
    eventually(lambda: _hello(Client(port, "grace"), name) == 200)
    yield name
    served.kubectl("delete", "isvc", name, where)


def test_tls_leads_from_envoy_to_the_sidecar_and_its_certificate_is_renewed_under_load(
    port: int, served: NodeCluster, secret: str
) -> None:
    stored = served.get("backendtlspolicy", f"token-meter-{secret}", NAMESPACE)
    (accepted,) = (one for one in stored["status"]["ancestors"][0]["conditions"] if one["type"] == "Accepted")
    assert accepted["status"] == "True"
    before, grace, statuses = _certificate(served, secret), Client(port, "grace"), []
    gone = [{"op": "remove", "path": f"/data/{name}"} for name in ("tls.crt", "tls.key")]
    where = f"--namespace={NAMESPACE}"
    served.kubectl(
        "patch", "secret", f"token-meter-{secret}-key", where, "--type=json", f"--patch={json.dumps(gone)}"
    )

    def renewed() -> bool:
        statuses.append(_hello(grace, secret))
        return _certificate(served, secret) != before

    eventually(renewed)
    statuses += [_hello(grace, secret) for _ in range(5)]
    assert set(statuses) == {200}


def _hello(client: Client, model: str) -> int:
    """The status of a short chat."""
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    return client.post(guide.CHAT, body).status


def _certificate(cluster: NodeCluster, name: str) -> str:
    """What the sidecar of an InferenceService shows, looked at from the node."""
    selector = f"--selector={kserve.LABEL}={name}"
    path = "-o=jsonpath={.items[0].status.podIP}"
    address = cluster.kubectl("get", "pods", f"--namespace={NAMESPACE}", selector, path)
    look = f"import ssl; print(ssl.get_server_certificate(({address!r}, 9180)))"
    return cluster.enter("python3", "-c", look)


def test_check_says_that_the_cluster_is_fit(served: NodeCluster) -> None:
    """Two of the controllers stand in here and are no Deployments, and nobody writes the user's header."""
    environment = {**os.environ, "KUBECONFIG": str(served.kubeconfig), "PYTHONPATH": str(builder.REPOSITORY)}
    done = subprocess.run(
        python("cli.main", "check", "-o", "json"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    amiss = {one["name"] for one in said["checks"] if one["state"] != "ok"}
    assert (said["fit"], done.returncode) == (True, 0)
    assert amiss == {"kserve", "ai-gateway", "user-header"}


def _charged(cluster: NodeCluster) -> int:
    """How many events the ledger has charged."""
    pods = cluster.kubectl("get", "pods", f"--namespace={SYSTEM}", "-o=name")
    (pod,) = (name.removeprefix("pod/") for name in pods.split() if "ledger" in name)
    path = f"/api/v1/namespaces/{SYSTEM}/pods/http:{pod}:8081/proxy/metrics"
    lines = cluster.kubectl("get", f"--raw={path}").splitlines()
    name = 'token_meter_ledger_charges_total{result="charged"} '
    return int(sum(float(line.removeprefix(name)) for line in lines if line.startswith(name)))
