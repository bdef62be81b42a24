"""What operators do and what befalls them: admissions go on, predictor pods and their streams do not notice."""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from demo.processes import python
from tests.cluster.client import Client
from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import LABEL, MANIFESTS, PROBE, eventually
from tests.cluster.load import Load
from tests.images import builder
from tests.node import product
from tests.node.conftest import Start
from tests.node.product import SERVER, SIDECAR, SYSTEM, Predictor, rolled_out, usage

pytestmark = pytest.mark.xdist_group("node")
LATE = 2.0
"""Seconds by which the gateway of a test knows a changed key late."""


@pytest.fixture
def client(installed: NodeCluster, tmp_path: Path) -> Iterator[Client]:
    """Somebody who may do everything, by a token: for what kubectl does not do, or not quickly."""
    name, where = f"admin-{uuid4().hex[:8]}", "--namespace=default"
    installed.kubectl("create", "serviceaccount", name, where)
    role = ("--clusterrole=cluster-admin", f"--serviceaccount=default:{name}")
    installed.kubectl("create", "clusterrolebinding", name, *role)
    token = installed.kubectl("create", "token", name, where).strip()
    config = json.loads(installed.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o=json"))
    cluster = config["clusters"][0]["cluster"]
    ca = tmp_path / "ca.crt"
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    yield Client(cluster["server"], ca, token)
    installed.kubectl("delete", "clusterrolebinding", name)
    installed.kubectl("delete", "serviceaccount", name, where)


@pytest.fixture
def admissions(installed: NodeCluster, client: Client) -> Iterator[Callable[[], Load]]:
    """Creates InferenceServices all the time, as dry runs."""
    namespace = {"name": f"admissions-{uuid4().hex[:8]}", "labels": {LABEL: "enabled"}}
    installed.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}])
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace['name']}/inferenceservices?dryRun=All"
    yield lambda: Load(lambda: client.request("POST", path, PROBE))
    installed.kubectl("delete", "namespace", str(namespace["name"]), "--wait=false")


def test_in_knatives_shape_a_pod_waits_for_its_model_and_ends_its_streams(
    predictor: Start, installed: NodeCluster
) -> None:
    model = predictor(mode="Knative", DELAY="0.05", WAIT="for /tmp/loaded")
    eventually(lambda: bool(model.container(SERVER).get("started") and model.container(SIDECAR)["started"]))
    spec = model.pod["spec"]
    assert [one["name"] for one in spec["containers"]] == [SERVER, SIDECAR]
    assert not model.ready
    name, where = model.pod["metadata"]["name"], f"--namespace={model.namespace}"
    installed.kubectl("exec", name, where, f"--container={SERVER}", "--", "touch", "/tmp/loaded")
    eventually(lambda: model.ready)
    count, words, key = 20, 100, model.key
    with model.reached() as port, ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(model.ask, port, key, stream=True, max_tokens=words) for _ in range(count)]
        eventually(lambda: not any(one.done() for one in asked))
        installed.kubectl("delete", "pod", name, where, "--wait=false")
        answers = [one.result() for one in asked]
    assert [(status, answer.count(b'"word "')) for status, answer in answers] == [(200, words)] * count
    eventually(lambda: usage(installed, model.namespace).get("output_tokens") == count * words)


def test_a_key_is_rotated_and_no_request_fails(predictor: Start, installed: NodeCluster) -> None:
    """The gateway takes its time: it shows the former key for a while after the Secret has changed."""
    model = predictor()
    eventually(lambda: model.ready)
    before, old = model.identity(), model.key
    with model.reached() as port, asking(model, port) as statuses:
        command = python("cli.main", "rotate", f"{model.namespace}/{model.name}", "--wait", "15")
        environment = {"KUBECONFIG": str(installed.kubeconfig), "PYTHONPATH": str(builder.REPOSITORY)}
        subprocess.run(command, env=environment, check=True)
        assert model.key != old
        eventually(lambda: model.ask(port, old)[0] == 401)
    assert len(statuses) > 100
    assert set(statuses) == {200}
    assert model.identity() == before


@contextmanager
def asking(model: Predictor, port: int) -> Iterator[list[int]]:
    """Requests without a pause, as the gateway would show the key; the list is of their statuses."""
    statuses: list[int] = []
    shown = [model.key]
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(0.2):
            key = model.key
            if ended.wait(LATE if key != shown[0] else 0):
                return
            shown[0] = key

    def ask() -> None:
        while not ended.is_set():
            statuses.append(model.ask(port, shown[0])[0])

    threads = [threading.Thread(target=target) for target in (follow, ask)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_without_the_api_server_requests_go_on_and_none_is_lost(
    predictor: Start, installed: NodeCluster
) -> None:
    """It hangs for longer than a Lease lives. The client is on the node: a port-forward goes through the API server."""
    model = predictor(DELAY="0.1")
    eventually(lambda: model.ready)
    before, words, others = model.identity(), 250, 40
    asked = f"""
import json, threading, time, urllib.request
def ask(**more):
    body = {{"model": "m", "messages": [{{"role": "user", "content": "Hi"}}], **more}}
    headers = {{"content-type": "application/json", "authorization": "Bearer {model.key}"}}
    url = "http://{model.pod["status"]["podIP"]}:9180/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=180).read()
said = []
stream = threading.Thread(target=lambda: said.append(ask(stream=True, max_tokens={words}).count(b'"word "')))
stream.start()
for _ in range({others}):
    said.append(ask(max_tokens=1).count(b"word "))
    time.sleep(0.5)
stream.join()
print(sum(said))
"""
    said: list[str] = []
    client = threading.Thread(target=lambda: said.append(installed.enter("python3", "-c", asked)))
    installed.enter("sh", "-c", "kill -STOP $(pidof kube-apiserver)")
    try:
        client.start()
        client.join()
    finally:
        installed.enter("sh", "-c", "kill -CONT $(pidof kube-apiserver)")
    assert [text.strip() for text in said] == [str(words + others)]
    eventually(lambda: usage(installed, model.namespace).get("output_tokens") == words + others)
    assert model.identity() == before
    rolled_out(installed)
    eventually(lambda: time.time() - renewed(installed) < 15)


def renewed(cluster: NodeCluster) -> float:
    """When the controller's leader renewed its Lease last, in seconds since 1970."""
    jsonpath = "-o=jsonpath={.spec.renewTime}"
    text = cluster.kubectl("get", "lease", "token-meter-gateway", f"--namespace={SYSTEM}", jsonpath)
    return time.mktime(time.strptime(text.strip()[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def test_an_eviction_and_a_killed_leader_cost_no_admission(
    installed: NodeCluster, client: Client, admissions: Callable[[], Load]
) -> None:
    where = f"--namespace={SYSTEM}"
    with admissions() as load:
        eventually(lambda: load.count > 20)
        (evicted, *_) = pods(installed, "token-meter-webhook")
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": evicted, "namespace": SYSTEM},
        }
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{evicted}/eviction"
        assert client.request("POST", path, eviction).status == 201
        eventually(lambda: evicted not in pods(installed, "token-meter-webhook"))
        leader = holder(installed)
        pod = next(name for name in pods(installed, "token-meter-gateway") if leader.startswith(name))
        status = installed.get("pod", pod, SYSTEM)["status"]["containerStatuses"][0]
        installed.kill(status["containerID"])
        eventually(lambda: holder(installed) not in ("", leader))
        rolled_out(installed)
        installed.kubectl("wait", "pods", "--all", where, "--for=condition=Ready", "--timeout=2m")
    assert load.refused == load.bare == []
    assert load.count > 100


def holder(cluster: NodeCluster) -> str:
    """Who leads the controllers."""
    jsonpath = "-o=jsonpath={.spec.holderIdentity}"
    return cluster.kubectl("get", "lease", "token-meter-gateway", f"--namespace={SYSTEM}", jsonpath).strip()


def pods(cluster: NodeCluster, name: str) -> list[str]:
    """The pods of one of our Deployments."""
    selector = f"--selector=app.kubernetes.io/name={name}"
    listed = cluster.kubectl("get", "pods", f"--namespace={SYSTEM}", selector, "-o=json")
    return [pod["metadata"]["name"] for pod in json.loads(listed)["items"]]


def test_an_upgrade_costs_no_admission_and_leaves_predictor_pods_and_their_streams_alone(
    predictor: Start, installed: NodeCluster, admissions: Callable[[], Load]
) -> None:
    model = predictor(DELAY="0.1")
    eventually(lambda: model.ready)
    image = builder.name("controller", "next")
    builder.builder().build(builder.REPOSITORY, image, "--target=controller")
    installed.load(image)
    before, key, words = model.identity(), model.key, 200
    with model.reached() as port, ThreadPoolExecutor(1) as pool, admissions() as load:
        stream = pool.submit(model.ask, port, key, stream=True, max_tokens=words)
        for name in product.DEPLOYMENTS:
            installed.kubectl("set", "image", f"deployment/{name}", f"*={image}", f"--namespace={SYSTEM}")
        rolled_out(installed)
        status, answer = stream.result()
    assert load.refused == load.bare == []
    assert load.count > 100
    assert (status, answer.count(b'"word "'), answer.rstrip().endswith(b"data: [DONE]")) == (200, words, True)
    assert model.identity() == before
    eventually(lambda: usage(installed, model.namespace).get("output_tokens") == words)


def test_the_network_policies_are_accepted(installed: NodeCluster) -> None:
    """This node's network does not enforce them."""
    file = MANIFESTS / "components" / "network-policy" / "network-policy.yaml"
    installed.kubectl("apply", "-f", str(file))
    listed = installed.kubectl("get", "networkpolicies", f"--namespace={SYSTEM}", "-o=name").split()
    installed.kubectl("delete", "-f", str(file))
    assert len(listed) == 4
