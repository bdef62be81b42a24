"""etcd, kube-apiserver and kube-controller-manager on free ports of this machine, in one folder.

RBAC, ServiceAccount tokens, PodSecurity, admission webhooks and policies work as in any cluster. Controllers:
namespaces, garbage collection, ServiceAccounts. There is no node, no scheduler and no kube-proxy; the API server
finds a webhook by its Service's EndpointSlices (`--enable-aggregator-routing`), which the tests write
(`endpoints.py`), so that manifests are applied as they are.
"""

import json
import secrets
import time
import urllib.request
from pathlib import Path
from typing import Any

import parts
from demo.processes import Child, Processes, free_ports
from tests.cluster.client import Client
from tests.cluster.cluster import Cluster
from tests.cluster.pki import write_key

START_SECONDS = 180.0
CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    # Else a namespace with a PersistentVolumeClaim never goes: the claim waits for its finalizer.
    "persistentvolumeclaim-protection-controller",
)


class ControlPlane(Cluster):
    """A control plane in `folder`, which must be empty. Its administrator is in the group system:masters."""

    controllers: tuple[str, ...] = CONTROLLERS
    reach: tuple[str, ...] = (
        "--bind-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--enable-aggregator-routing",
    )
    """Flags of the API server: who reaches it, and how it reaches Services."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """`port` is the API server's; without it a free one is taken."""
        self.folder = folder
        self._port = port
        self.kubeconfig = folder / "kubeconfig"
        self.processes = Processes(folder)
        self.url = ""
        self._children: list[Child] = []
        self.token = secrets.token_hex(16)

    @property
    def ca(self) -> Path:
        """The certificate that the API server made for itself."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def client(self) -> Client:
        """For requests that kubectl does not make, or that must be quick; the administrator's."""
        return Client(self.url, self.ca, self.token)

    def up(self) -> None:
        etcd_port, peer_port, free = free_ports(3)
        self._port = self._port or free
        self.url, self._etcd = f"https://127.0.0.1:{self._port}", f"http://127.0.0.1:{etcd_port}"
        try:
            self._start_etcd(self._etcd, f"http://127.0.0.1:{peer_port}")
            tokens, key = self.folder / "tokens.csv", self.folder / "service-account.key"
            tokens.touch(0o600)
            tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
            write_key(key)
            self._server = self._start_api_server()
            self.processes.wait(self._server, self._ready, START_SECONDS)
            self.write_kubeconfig(self.kubeconfig, self.token)
            self._start_controllers()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        for child in self._children:  # nothing in it is to be kept, and an orderly end takes seconds
            child.process.kill()
        self.processes.stop()

    def restart_api_server(self) -> None:
        """End it as a crash would, and start it anew on what etcd holds."""
        self._server.process.kill()
        self._server.process.wait()
        self._server = self._start_api_server()
        end = time.monotonic() + START_SECONDS
        while not self._ready():  # not by `wait`: that minds the one that was killed
            if time.monotonic() > end:
                raise TimeoutError(f"the API server is not ready after {START_SECONDS:.0f} s")
            time.sleep(0.1)

    def compact(self) -> None:
        """Have etcd forget all revisions but the present (its JSON gateway, /v3/kv)."""
        newest = self._ask_etcd("range", {"key": "AA=="})["header"]["revision"]
        self._ask_etcd("compaction", {"revision": newest, "physical": True})

    def _ask_etcd(self, method: str, body: dict[str, object]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._etcd}/v3/kv/{method}", json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def write_kubeconfig(self, file: Path, token: str, namespace: str = "default") -> None:
        """A kubeconfig (JSON is YAML) that speaks to this API server with a bearer token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        context = {"cluster": "tests", "user": "tests", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": context}],
        }
        file.touch(0o600)
        file.write_text(json.dumps(config, indent=1) + "\n")

    def _start(self, name: str, *arguments: str) -> Child:
        child = self.processes.start(name, [parts.path(name), *arguments])
        self._children.append(child)
        return child

    def _start_etcd(self, client: str, peer: str) -> Child:
        return self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _start_api_server(self) -> Child:
        tokens, key = self.folder / "tokens.csv", self.folder / "service-account.key"
        return self._start(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            f"--secure-port={self._port}",
            f"--cert-dir={self.folder / 'certs'}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            *self.reach,
        )

    def _start_controllers(self) -> Child:
        return self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(self.controllers)}",
            f"--service-account-private-key-file={self.folder / 'service-account.key'}",
            f"--root-ca-file={self.ca}",
            "--leader-elect=false",
            "--secure-port=0",
            # It makes this folder, by default one of the machine's.
            f"--flex-volume-plugin-dir={self.folder / 'plugins'}",
        )

    def _ready(self) -> bool:
        """Whether the API server says that it is."""
        try:
            return self.client.request("GET", "/readyz").status == 200
        except OSError:  # not listening yet, or its certificate is not written yet
            return False
