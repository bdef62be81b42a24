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
from tests.node import gateway
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


def test_tls_leads_from_envoy_to_the_sidecar(port: int, served: NodeCluster) -> None:
    isvc = inference_service()
    isvc["metadata"] |= {"name": "secret", "annotations": {"token-meter.dev/tls": "true"}}
    isvc["spec"]["predictor"]["model"]["args"][0] = "--model_name=secret"
    del isvc["spec"]["predictor"]["model"]["resources"]  # a small machine has no room for two of them
    served.apply([isvc])
    where = f"--namespace={NAMESPACE}"
    served.kubectl("wait", "isvc/secret", "--for=condition=Ready", where, "--timeout=4m")
    grace = Client(port, "grace")
    body = {"model": "secret", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
    eventually(lambda: grace.post(guide.CHAT, body).status == 200)
    stored = served.get("backendtlspolicy", "token-meter-secret", NAMESPACE)
    (accepted,) = (one for one in stored["status"]["ancestors"][0]["conditions"] if one["type"] == "Accepted")
    assert accepted["status"] == "True"
    served.kubectl("delete", "isvc", "secret", where)


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
