"""The steps of an operator and a client, by kubectl and HTTP alone: the same whatever cluster they are taken in.

Each raises DemoError where something is not as the docs promise.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from demo import guide
from demo.client import Client
from demo.processes import DemoError, free_ports, listening
from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.installation import eventually
from tests.e2e.settings import MANIFESTS, inference_service

SYSTEM = "token-meter-system"
ENVOYS = "envoy-gateway-system"
DEPLOYMENTS = ("token-meter-webhook", "token-meter-gateway")
LABEL = "token-meter.dev/injection"
OURS = "app.kubernetes.io/managed-by=token-meter"
GATEWAY_OBJECTS = (
    "aigatewayroutes,aiservicebackends,backendsecuritypolicies,backends,backendtrafficpolicies,"
    "clienttrafficpolicies,referencegrants,services,secrets"
)
PATIENCE = "--timeout=20m"
Json = dict[str, Any]


def install(cluster: Cluster) -> None:
    """docs/install.md: the manifests, and their Deployments ready."""
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    rolled_out(cluster)


def rolled_out(cluster: Cluster) -> None:
    """Wait for our Deployments."""
    for name in DEPLOYMENTS:
        cluster.kubectl("rollout", "status", f"deployment/{name}", f"--namespace={SYSTEM}", "--timeout=3m")


def serve(cluster: Cluster) -> None:
    """Label the namespace, apply the InferenceService, wait until the gateway serves it."""
    isvc = inference_service()
    name, namespace = isvc["metadata"]["name"], isvc["metadata"]["namespace"]
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
    cluster.kubectl("label", "namespace", namespace, f"{LABEL}=enabled", "--overwrite")
    cluster.apply([isvc])
    stored = cluster.get("inferenceservice", name, namespace)
    injected = [item["name"] for item in stored["spec"]["predictor"].get("initContainers", ())]
    if "token-meter" not in injected:
        raise DemoError(f"the stored InferenceService has no sidecar: {stored['spec']}")
    where = f"--namespace={namespace}"
    cluster.kubectl("wait", f"inferenceservice/{name}", "--for=condition=PredictorReady", where, PATIENCE)
    eventually(lambda: "GatewayReady" in events(cluster, namespace))


def events(cluster: Cluster, namespace: str) -> str:
    """The Events of a namespace, a line each."""
    line = "-o=jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}"
    return cluster.kubectl("get", "events", f"--namespace={namespace}", line)


@contextmanager
def gateway(cluster: Cluster, namespace: str, name: str) -> Iterator[int]:
    """A port of this machine that leads to the Gateway's Envoy, while the block lasts."""
    owner = "gateway.envoyproxy.io/owning-gateway"
    selector = f"--selector={owner}-namespace={namespace},{owner}-name={name}"
    where = f"--namespace={ENVOYS}"
    found = json.loads(cluster.kubectl("get", "services", selector, where, "-o=json"))["items"]
    if len(found) != 1:
        raise DemoError(f"Gateway {namespace}/{name} has {len(found)} Services in {ENVOYS}, not one")
    (port,) = free_ports(1)
    with cluster.forward(ENVOYS, f"service/{found[0]['metadata']['name']}", port, 80) as child:
        eventually(lambda: child.poll() is not None or listening(port))
        if child.poll() is not None:
            raise DemoError("kubectl port-forward ended")
        yield port


def play(port: int, model: str) -> Mapping[str, Any]:
    """The guide's requests to the 429; what came of them."""
    asked = guide.chat(Client(port, "alice"), model)
    streamed = guide.stream(Client(port, "bob"), model, lambda _: None)
    spent = guide.until_refused(Client(port, "carol"), model, lambda _, __: None)
    again = guide.chat(Client(port, "dave"), model)
    return {
        "chat": asked.usage,
        "stream": {"chunks": streamed.chunks, "usage": streamed.usage},
        "limit": {"requests": len(spent.answers), "headers": spent.headers},
        "another user": again.usage,
    }


def predictor_pods(cluster: Cluster) -> dict[str, int]:
    """uid of each pod of the InferenceService -> restarts of all its containers."""
    isvc = inference_service()["metadata"]
    selector = f"--selector=serving.kserve.io/inferenceservice={isvc['name']}"
    listed = cluster.kubectl("get", "pods", f"--namespace={isvc['namespace']}", selector, "-o=json")
    return {pod["metadata"]["uid"]: _restarts(pod["status"]) for pod in json.loads(listed)["items"]}


def _restarts(status: Json) -> int:
    kinds = ("containerStatuses", "initContainerStatuses")
    return sum(int(one["restartCount"]) for kind in kinds for one in status.get(kind, ()))


def upgrade(cluster: Cluster, image: str) -> None:
    """Roll our Deployments to another image; no predictor pod may notice."""
    before = predictor_pods(cluster)
    for name in DEPLOYMENTS:
        cluster.kubectl("set", "image", f"deployment/{name}", f"*={image}", f"--namespace={SYSTEM}")
    rolled_out(cluster)
    if (after := predictor_pods(cluster)) != before:
        raise DemoError(f"the upgrade touched predictor pods: {before} before, {after} after")


def uninstall(cluster: Cluster) -> None:
    """docs/install.md: unlabel, delete the manifests; nothing of ours stays but the key of who still asks for it."""
    namespace = inference_service()["metadata"]["namespace"]
    before = predictor_pods(cluster)
    cluster.kubectl("label", "namespace", namespace, f"{LABEL}-")
    eventually(lambda: all(name.startswith("secret/") for name in _ours(cluster)))
    cluster.kubectl("delete", "-k", str(MANIFESTS), "--timeout=2m")
    kinds = "mutatingwebhookconfigurations,clusterroles,clusterrolebindings"
    left = cluster.kubectl("get", kinds, "--selector=app.kubernetes.io/part-of=token-meter", "-o=name")
    if "/" in left:
        raise DemoError(f"the uninstall left {left}")
    if (after := predictor_pods(cluster)) != before:
        raise DemoError(f"the uninstall touched predictor pods: {before} before, {after} after")


def _ours(cluster: Cluster) -> list[str]:
    """`kind/name` of each gateway object."""
    try:
        said = cluster.kubectl("get", GATEWAY_OBJECTS, "--all-namespaces", f"--selector={OURS}", "-o=name")
    except KubectlError as error:
        raise DemoError(str(error)) from error
    return [line for line in said.splitlines() if "/" in line and " " not in line]
