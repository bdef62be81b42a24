"""token-meter installed in a control plane: `kubectl apply -k manifests`, and the webhook's replicas.

The replicas run as the manifests' ServiceAccount, with its RBAC and nothing else. KServe's part is here too: its
runtimes, its ConfigMap (Standard mode), and the stand-in for its webhooks in namespaces that ask for it.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests import crds
from tests.cluster.client import Answer
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kserve_server import KserveServer
from tests.cluster.replica import NAMESPACE, SERVICE, Replica

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
RUNTIMES = crds.FOLDER / "kserve" / "v0.20.0" / "runtimes"
LABEL = "token-meter.dev/injection"
PATIENCE = 180.0
Json = dict[str, Any]
PROBE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "probe"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}}}},
}


class Installation:
    """Installed while the block lasts; `replicas` are the webhook's that run."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.replicas: list[Replica] = []
        self._kserve = KserveServer(plane.folder)
        self._kubeconfig = plane.folder / "webhook.kubeconfig"
        self._started = 0

    def __enter__(self) -> "Installation":
        self._kserve.__enter__()
        try:
            self._surround()
            self.install()
            self.start(1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._kserve.__exit__()

    def _surround(self) -> None:
        plane = self.plane
        plane.kubectl("create", "-f", str(RUNTIMES))
        plane.kubectl("create", "namespace", "kserve")
        mode = 'deploy={"defaultDeploymentMode": "Standard"}'
        where = "--namespace=kserve"
        plane.kubectl("create", "configmap", "inferenceservice-config", f"--from-literal={mode}", where)
        plane.apply([*self._kserve.configurations("first"), *self._kserve.configurations("last")])
        plane.kubectl("create", "namespace", "token-meter-probe")
        plane.kubectl("label", "namespace", "token-meter-probe", f"{LABEL}=enabled")

    def install(self) -> None:
        """Apply the manifests, and get what the replicas started from now on run with."""
        plane = self.plane
        plane.kubectl("apply", "-k", str(MANIFESTS))
        token = plane.kubectl("create", "token", SERVICE, f"--namespace={NAMESPACE}", "--duration=2h").strip()
        plane.write_kubeconfig(self._kubeconfig, token, NAMESPACE)

    def uninstall(self) -> None:
        """Delete what the manifests made, as docs/install.md says; the replicas end after it, as their pods would."""
        self.plane.kubectl("delete", "-k", str(MANIFESTS), "--timeout=180s")
        self.stop()

    def start(self, count: int, settings: Mapping[str, str] | None = None) -> None:
        """More replicas; returns when the API server is answered by the webhook."""
        new = []
        for _ in range(count):
            self._started += 1
            name = f"{SERVICE}-{self._started}"
            new.append(Replica(name, self.plane.folder, self._kubeconfig, self.plane.client, settings or {}))
        self.replicas += new
        for replica in new:
            replica.wait()
        eventually(lambda: bool(self.probe()))

    def stop(self) -> None:
        """End all replicas."""
        for replica in self.replicas:
            replica.stop()
        self.replicas.clear()

    def create_probe(self) -> Answer:
        """The answer to a new InferenceService, which is not stored."""
        path = "/apis/serving.kserve.io/v1beta1/namespaces/token-meter-probe/inferenceservices?dryRun=All"
        return self.plane.client.request("POST", path, PROBE)

    def probe(self) -> list[Json]:
        """The init containers that a new InferenceService would get now."""
        answer = self.create_probe()
        return answer.body["spec"]["predictor"].get("initContainers", []) if answer.status == 201 else []

    def accepts_without_sidecar(self) -> bool:
        """Whether a new InferenceService may have none (asked while the webhook is down)."""
        return self.create_probe().status == 201

    def asked(self) -> float:
        """How often the API server has asked the webhook."""
        return sum(replica.counted("token_meter_admission_requests_total") for replica in self.replicas)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; raises TimeoutError after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"it does not hold after {PATIENCE:.0f} s")
        time.sleep(0.1)
