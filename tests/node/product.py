"""token-meter as its users run it: installed by its manifests, as pods, with a model's pod behind its sidecar."""

import base64
import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

import parts
from demo.processes import free_ports, listening, python
from tests import crds
from tests.cluster import official
from tests.cluster.cluster import KubectlError, NodeCluster
from tests.cluster.installation import LABEL, MANIFESTS, eventually
from tests.e2e.settings import FOLDER
from tests.images import builder
from tests.node import kserve

SYSTEM = "token-meter-system"
DEPLOYMENTS = ("token-meter-webhook", "token-meter-gateway", "token-meter-ledger")
MODEL_IMAGE = "token-meter/test-model:1"
SIDECAR, SERVER = "token-meter", "kserve-container"
Json = dict[str, Any]


def load_images(cluster: NodeCluster) -> None:
    """Ours, as the Dockerfile builds them, and the stand-in for a model server."""
    builder.builder().build(Path(__file__).parent / "model", MODEL_IMAGE)
    for image in (*(builder.build(target) for target in builder.TARGETS), MODEL_IMAGE):
        cluster.load(image)


def apply_crds(cluster: NodeCluster) -> None:
    """The official CRDs and Envoy Gateway's own; returns when they are served."""
    folders = (*official.FOLDERS, f"ai-gateway/{official.newest_ai_gateway()}")
    define(
        cluster, [crd for crd in crds.load(*folders) if crd["spec"]["names"]["kind"] not in official.NOT_OURS]
    )
    generated = parts.path("envoy-gateway").parent / "data" / "generated"
    define(cluster, [yaml.safe_load(file.read_text()) for file in sorted(generated.glob("*.yaml"))])


def define(cluster: NodeCluster, found: Sequence[Mapping[str, Any]]) -> None:
    """Apply CRDs; returns when they are served."""
    cluster.apply(found, "--server-side", "--force-conflicts")
    for crd in found:
        spec = crd["spec"]
        for version in spec["versions"]:
            if version["served"]:
                path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1"
                eventually(partial(_is_served, cluster, path))


def _is_served(cluster: NodeCluster, path: str) -> bool:
    try:
        cluster.kubectl("get", f"--raw={path}")
    except KubectlError:  # not yet
        return False
    return True


def install(cluster: NodeCluster) -> None:
    """The CRDs, what stands around it, a Gateway, and the manifests as they are; returns when its pods are ready."""
    apply_crds(cluster)
    kserve.configure(cluster)
    cluster.apply(yaml.safe_load_all((FOLDER / "objects" / "gateway.yaml").read_text()))
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    rolled_out(cluster)


def rolled_out(cluster: NodeCluster) -> None:
    """Wait for our Deployments."""
    for name in DEPLOYMENTS:
        cluster.kubectl("rollout", "status", f"deployment/{name}", f"--namespace={SYSTEM}", "--timeout=4m")


class Predictor:
    """An InferenceService with one pod, in a namespace of its own where PodSecurity "restricted" is enforced.

    `variables` are the model server's (model/server.py); `mode` is KServe's.
    """

    name = "m"

    def __init__(
        self, cluster: NodeCluster, namespace: str, *, mode: str = "Standard", **variables: str
    ) -> None:
        self.cluster, self.namespace = cluster, namespace
        self._mode, self._variables = mode, variables

    def create(self) -> None:
        """Label and apply; returns when KServe has made its pod."""
        labels = {LABEL: "enabled", "pod-security.kubernetes.io/enforce": "restricted"}
        head = {"name": self.namespace, "labels": labels}
        self.cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": head}])
        self.cluster.apply([self.manifest])
        eventually(lambda: len(self._pods()) == 1)

    @property
    def manifest(self) -> Json:
        """What its owner writes: a model server of his own."""
        server = {
            "name": SERVER,
            "image": MODEL_IMAGE,
            "env": [{"name": name, "value": value} for name, value in self._variables.items()],
            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/v1/models", "port": 8080}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        annotations = {
            "token-meter.dev/inject": "true",
            "token-meter.dev/model": "m",
            kserve.MODE: self._mode,
        }
        if self._mode == "Knative":  # it asks the probe itself, of the port that it is told of
            del server["readinessProbe"]
            annotations["token-meter.dev/port"] = "8080"
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": self.name, "namespace": self.namespace, "annotations": annotations},
            "spec": {"predictor": {"securityContext": restricted, "containers": [server]}},
        }

    @property
    def pod(self) -> Json:
        """Its only pod."""
        (found,) = self._pods()
        return found

    def _pods(self) -> list[Json]:
        selector = f"--selector={kserve.LABEL}={self.name}"
        listed = self.cluster.kubectl("get", "pods", f"--namespace={self.namespace}", selector, "-o=json")
        return list(json.loads(listed)["items"])

    def container(self, name: str) -> Json:
        """The status of one container; empty before there is one."""
        status = self.pod["status"]
        kinds = ("initContainerStatuses", "containerStatuses")
        return next((one for kind in kinds for one in status.get(kind, ()) if one["name"] == name), {})

    def identity(self) -> tuple[str, dict[str, int]]:
        """The pod's uid, and how often each container was restarted."""
        pod = self.pod
        kinds = ("initContainerStatuses", "containerStatuses")
        found = {one["name"]: one["restartCount"] for kind in kinds for one in pod["status"][kind]}
        return pod["metadata"]["uid"], found

    @property
    def ready(self) -> bool:
        """Whether its Service leads to it."""
        return any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in self.pod["status"].get("conditions", ())
        )

    @property
    def key(self) -> str:
        """What the gateway shows to the sidecar."""
        secret = self.cluster.get("secret", f"token-meter-{self.name}-key", self.namespace)
        return base64.b64decode(secret["data"]["apiKey"]).decode()

    @contextmanager
    def reached(self) -> Iterator[int]:
        """A port of this machine that leads to its sidecar, as long as the sidecar is not restarted."""
        (port,) = free_ports(1)
        pod = f"pod/{self.pod['metadata']['name']}"
        with self.cluster.forward(self.namespace, pod, port, 9180):
            eventually(lambda: listening(port))
            yield port

    def ask(self, port: int, key: str, **body: Any) -> tuple[int, bytes]:
        """A chat request: status and answer. Raises OSError where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}", "x-user-id": "alice"}
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def usage(cluster: NodeCluster, namespace: str, *filters: str) -> Json:
    """`token-meter usage` of a namespace: its sums. Empty while the ledger does not answer."""
    command = python("cli.main", "usage", "--namespace", namespace, *filters, "-o", "json")
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "PYTHONPATH": str(builder.REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    total: Json = json.loads(done.stdout)["total"]
    return total


def scale(cluster: NodeCluster, name: str, replicas: int) -> None:
    """Scale one of our Deployments, and wait until its pods are there, or gone."""
    where = f"--namespace={SYSTEM}"
    cluster.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}", where)
    cluster.kubectl("rollout", "status", f"deployment/{name}", where, "--timeout=4m")
    selector = f"--selector=app.kubernetes.io/name={name}"
    eventually(lambda: _count(cluster, selector) == replicas)


def _count(cluster: NodeCluster, selector: str) -> int:
    return len(
        json.loads(cluster.kubectl("get", "pods", f"--namespace={SYSTEM}", selector, "-o=json"))["items"]
    )
