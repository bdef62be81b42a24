"""A node's programs die, a pod is deleted: streams go on to their ends, and every token is in the ledger."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import eventually
from tests.node.conftest import Start
from tests.node.product import usage

pytestmark = pytest.mark.xdist_group("node")
WORDS = 100


def kill(program: str) -> Callable[[NodeCluster], None]:
    """SIGKILL to a program of the node, which is then started again."""

    def outage(cluster: NodeCluster) -> None:
        cluster.enter("sh", "-c", f"kill -9 $(pidof {program})")
        eventually(
            lambda: (
                "True"
                in cluster.kubectl("get", "nodes", "-o=jsonpath={..conditions[?(@.type=='Ready')].status}")
            )
        )

    return outage


@pytest.mark.parametrize("outage", [kill("kubelet"), kill("containerd")], ids=["kubelet", "containerd"])
def test_a_stream_goes_on_while_the_node_is_mended(
    predictor: Start, installed: NodeCluster, outage: Callable[[NodeCluster], None]
) -> None:
    model = predictor(DELAY="0.1")
    eventually(lambda: model.ready)
    before = model.identity()
    asked = f"""
import json, urllib.request
body = {{"model": "m", "stream": True, "max_tokens": {WORDS}, "messages": [{{"role": "user", "content": "Hi"}}]}}
headers = {{"content-type": "application/json", "authorization": "Bearer {model.key}"}}
url = "http://{model.pod["status"]["podIP"]}:9180/v1/chat/completions"
request = urllib.request.Request(url, json.dumps(body).encode(), headers)
print(urllib.request.urlopen(request, timeout=180).read().count(b'"word "'))
"""
    said: list[str] = []
    client = threading.Thread(target=lambda: said.append(installed.enter("python3", "-c", asked)))
    client.start()
    outage(installed)
    client.join()
    assert [text.strip() for text in said] == [str(WORDS)]
    assert model.identity() == before
    eventually(lambda: usage(installed, model.namespace).get("output_tokens") == WORDS)


def test_a_pod_that_is_deleted_ends_its_streams_and_loses_no_token(
    predictor: Start, installed: NodeCluster
) -> None:
    model = predictor(DELAY="0.1")
    eventually(lambda: model.ready)
    count, key = 20, model.key
    with model.reached() as port, ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(model.ask, port, key, stream=True, max_tokens=WORDS) for _ in range(count)]
        name = model.pod["metadata"]["name"]
        eventually(lambda: not any(one.done() for one in asked))
        installed.kubectl("delete", "pod", name, f"--namespace={model.namespace}", "--wait=false")
        answers = [one.result() for one in asked]
    assert [(status, answer.count(b'"word "')) for status, answer in answers] == [(200, WORDS)] * count
    eventually(lambda: usage(installed, model.namespace).get("output_tokens") == count * WORDS)
