"""One replica of the webhook as a process of this machine, and what the kubelet would do for its pod.

There is no node: the process stands for the pod, and its readiness is written into an EndpointSlice of the Service by
which the API server finds it. An endpoint must not be a loopback address; as an "FQDN" 127.0.0.1 is allowed.
"""

import http.client
import os
import re
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from demo.processes import Processes, free_ports, python
from tests.cluster.client import Client

NAMESPACE, SERVICE = "token-meter-system", "token-meter-webhook"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
READY_SECONDS = 120.0
REPOSITORY = Path(__file__).resolve().parents[2]
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class Replica:
    """`token-meter webhook` with the ServiceAccount's kubeconfig; `settings` are TOKEN_METER_WEBHOOK_*'s."""

    def __init__(
        self, name: str, folder: Path, kubeconfig: Path, client: Client, settings: Mapping[str, str]
    ) -> None:
        self.name = name
        self._client = client
        self._port, self._admin_port = free_ports(2)
        own = {
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "ADMIN_PORT": str(self._admin_port),
            "IDENTITY": name,
            "SETTLE_SECONDS": "0.5",
            "DRAIN_SECONDS": "1",
            "LOG_FORMAT": "text",
            **settings,
        }
        variables = {f"TOKEN_METER_WEBHOOK_{key}": value for key, value in own.items()}
        self._processes = Processes(folder)
        self._child = self._processes.start(
            name,
            python("cli.main", "webhook"),
            {
                "PATH": os.environ["PATH"],
                "KUBECONFIG": str(kubeconfig),
                "PYTHONPATH": str(REPOSITORY),
                **variables,
            },
        )
        self._ended = threading.Event()
        self._kubelet = threading.Thread(target=self._watch_readiness, daemon=True)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._child.log.read_text(errors="replace")

    @property
    def certificate(self) -> x509.Certificate:
        """What it serves to who connects now."""
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", self._port)).encode())

    def wait(self) -> None:
        """Until it is ready; raises DemoError with its last lines where it is not."""
        self._processes.wait(self._child, self.ready, READY_SECONDS)
        self._write_slice(ready=True)
        self._kubelet.start()

    def ready(self) -> bool:
        """What its readiness probe sees."""
        try:
            return self._admin("/readyz")[0] == 200
        except OSError:
            return False

    def counted(self, metric: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        samples = _SAMPLE.findall(self._admin("/metrics")[1])
        return sum(
            float(value) for name, has, value in samples if name == metric and wanted <= set(has.split(","))
        )

    def stop(self) -> None:
        """SIGTERM, as when its pod is deleted: not ready first, then gone."""
        self._processes.stop()
        self._leave()

    def kill(self) -> None:
        """SIGKILL, as when its node dies; its endpoint goes once that is noticed."""
        self._child.process.kill()
        self._processes.stop()
        self._leave()

    def _leave(self) -> None:
        self._ended.set()
        if self._kubelet.is_alive():
            self._kubelet.join()
        self._client.request("DELETE", f"{SLICES}/{self.name}")

    def _watch_readiness(self) -> None:
        stands = True
        while not self._ended.wait(0.1):
            if (ready := self.ready()) != stands:
                self._write_slice(ready=ready)
                stands = ready

    def _write_slice(self, *, ready: bool) -> None:
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/service-name": SERVICE}},
            "addressType": "FQDN",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
            "ports": [{"name": "admission", "port": self._port, "protocol": "TCP"}],
        }
        path = f"{SLICES}/{self.name}?fieldManager=tests&force=true"
        answer = self._client.request("PATCH", path, body, "application/apply-patch+yaml")
        gone = {403, 404} if not ready else set()  # its namespace is being deleted, or is
        assert answer.status in {200, 201} | gone, answer.body

    def _admin(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {error}") from error
        finally:
            connection.close()
