"""A stand-in for KServe's controller: of InferenceServices it makes what the oracle says, and says when they are ready.

Deployments, Services, `status`. Their owner takes them along when it is deleted. In Knative mode the pods are those of
a Knative Service, without its queue-proxy, which would ask the readiness probe in kubelet's place.
"""

import copy
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.cluster.client import Client
from tests.cluster.cluster import Cluster
from tests.oracle import Made, make

LABEL = "serving.kserve.io/inferenceservice"
MODE = "serving.kserve.io/deploymentMode"
API = "/apis/serving.kserve.io"
SECONDS = 0.3
Json = dict[str, Any]


def configure(cluster: Cluster) -> None:
    """Its namespace, and Standard as the mode of who names none."""
    data = {"deploy": '{"defaultDeploymentMode": "Standard"}'}
    head = {"name": "inferenceservice-config", "namespace": "kserve"}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": data},
        ]
    )


def run(client: Client) -> None:
    """Follow all InferenceServices; never returns."""
    made: dict[str, str] = {}
    while True:
        try:
            runtimes = _list(client, f"{API}/v1alpha1/clusterservingruntimes")
            for isvc in _list(client, f"{API}/v1beta1/inferenceservices"):
                follow(client, isvc, runtimes, made)
        except OSError:  # the API server is away; all is looked at again when it is back
            made.clear()
        time.sleep(SECONDS)


def follow(client: Client, isvc: Json, runtimes: list[Json], made: dict[str, str]) -> None:
    """Bring one up to date; `made` remembers by uid what was written last."""
    if isvc["metadata"].get("deletionTimestamp"):
        return
    found = make(isvc, runtimes)
    wanted = objects(isvc, found)
    uid, text = isvc["metadata"]["uid"], json.dumps(wanted, sort_keys=True)
    if made.get(uid) != text and all(_put(client, obj) for obj in wanted):
        made[uid] = text
    _say(client, isvc, ready=found.works and all(_available(client, obj) for obj in wanted))


def objects(isvc: Json, made: Made) -> list[Json]:
    """Deployment and Service of each of its workloads."""
    name, namespace = isvc["metadata"]["name"], isvc["metadata"]["namespace"]
    owner = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "name": name,
        "uid": isvc["metadata"]["uid"],
        "controller": True,
    }
    found: list[Json] = []
    for workload in made.workloads.values() if made.works else ():
        labels = {LABEL: name, "app": f"isvc.{workload.name}", "component": "predictor"}
        head = {"name": workload.name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
        selector = {"app": labels["app"]}
        pod = probed_by_kubelet(workload.pod) if workload.knative else workload.pod
        template = {"metadata": {"labels": labels}, "spec": pod}
        deployment = {"selector": {"matchLabels": selector}, "template": template}
        service = {"selector": selector, "ports": workload.service}
        found.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": deployment})
        if workload.service:
            found.append({"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": service})
    return found


def probed_by_kubelet(pod: Json) -> Json:
    """A Knative pod whose probe names its port, which is 0 where Knative's queue-proxy knows it."""
    pod = copy.deepcopy(pod)
    for container in pod["containers"]:
        for probe in (container.get(kind, {}) for kind in ("readinessProbe", "livenessProbe")):
            for way in ("tcpSocket", "httpGet"):
                if probe.get(way, {}).get("port") == 0:
                    probe[way]["port"] = container["ports"][0]["containerPort"]
    return pod


def _put(client: Client, obj: Json) -> bool:
    """Create it, or replace what stands."""
    folder = _folder(obj)
    answer = client.request("POST", folder, obj)
    if answer.status == 409:
        answer = client.request("PUT", f"{folder}/{obj['metadata']['name']}", obj)
    if answer.status not in {200, 201}:
        print(f"{obj['kind']} {obj['metadata']['name']}: {answer.body}", flush=True)
    return answer.status in {200, 201}


def _available(client: Client, obj: Json) -> bool:
    """Whether it has all its replicas; a Service has none to wait for."""
    if obj["kind"] != "Deployment":
        return True
    found = client.request("GET", f"{_folder(obj)}/{obj['metadata']['name']}").body
    status = found.get("status") or {}
    observed = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
    return bool(observed and status.get("updatedReplicas", 0) == status.get("availableReplicas", -1))


def _say(client: Client, isvc: Json, *, ready: bool) -> None:
    status = "True" if ready else "False"
    conditions = [{"type": kind, "status": status} for kind in ("PredictorReady", "Ready")]
    mode = (isvc["metadata"].get("annotations") or {}).get(MODE, "Standard")
    wanted = {"deploymentMode": mode, "conditions": conditions}
    before: Mapping[str, Any] = isvc.get("status") or {}
    if {kind: before.get(kind) for kind in wanted} != wanted:
        path = f"{API}/v1beta1/namespaces/{isvc['metadata']['namespace']}/inferenceservices"
        path = f"{path}/{isvc['metadata']['name']}/status"
        client.request("PATCH", path, {"status": wanted}, "application/merge-patch+json")


def _folder(obj: Json) -> str:
    root = "/api/v1" if obj["apiVersion"] == "v1" else f"/apis/{obj['apiVersion']}"
    return f"{root}/namespaces/{obj['metadata']['namespace']}/{obj['kind'].lower()}s"


def _list(client: Client, path: str) -> list[Json]:
    answer = client.request("GET", path)
    return list(answer.body["items"]) if answer.status == 200 else []  # else its CRD is not there
