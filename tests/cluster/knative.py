"""Knative Serving's own webhook in the control plane: it admits or refuses Knative Services, and nothing more.

It runs as the cluster's administrator; its manifests come with its part. It has no setting for the address that it
listens on, and takes them all: those of a network namespace of its own.
"""

import os
from collections.abc import Mapping
from typing import Any, Self

import yaml

import parts
from demo.processes import Processes, free_ports
from tests.cluster import network_namespace
from tests.cluster.cluster import Object
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installation import eventually

NAMESPACE = "knative-serving"
INNER_PORT = 8443
MANIFESTS = ("100-namespace.yaml", "300-resources/service.yaml", "configmaps", "webhooks")


class KnativeWebhook:
    """Installed and running while the block lasts."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._processes = Processes(plane.folder)
        self._data = parts.path("knative").parent / "data"

    def __enter__(self) -> Self:
        for name in MANIFESTS:
            self._plane.kubectl("create", "-f", str(self._data / name))
        self._plane.kubectl("create", "configmap", "config-network", f"--namespace={NAMESPACE}")
        self._plane.apply([self._service()])
        (port,) = free_ports(1)
        self._plane.apply([self._slice(port)])
        variables = {
            "KUBECONFIG": str(self._plane.kubeconfig),
            "SYSTEM_NAMESPACE": NAMESPACE,
            "POD_NAME": "webhook",
            "CONFIG_LOGGING_NAME": "config-logging",
            "CONFIG_OBSERVABILITY_NAME": "config-observability",
            "WEBHOOK_NAME": "webhook",
            "WEBHOOK_PORT": str(INNER_PORT),
            "PATH": os.environ["PATH"],
        }
        self._child = network_namespace.start(
            self._processes,
            "knative-webhook",
            [parts.path("knative")],
            variables,
            ports={port: INNER_PORT},
            calls=int(self._plane.url.rpartition(":")[2]),
        )
        eventually(lambda: self.refusal({"containers": [{"image": "example/one"}]}) is None)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.process.kill()  # it would wait for the endpoints to follow
        self._processes.stop()

    def refusal(self, pod: Mapping[str, Any]) -> str | None:
        """Why a Knative Service with this pod spec is not stored; None where it is (it is a dry run)."""
        body = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "m", "namespace": "default"},
            "spec": {"template": {"spec": pod}},
        }
        path = "/apis/serving.knative.dev/v1/namespaces/default/services?dryRun=All&fieldValidation=Strict"
        answer = self._plane.client.request("POST", path, body)
        return None if answer.status == 201 else str(answer.body["message"])

    def _service(self) -> Object:
        documents = yaml.safe_load_all((self._data / "deployments" / "webhook.yaml").read_text())
        return next(doc for doc in documents if doc["kind"] == "Service")

    def _slice(self, port: int) -> Object:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "webhook",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "webhook"},
            },
            "addressType": "FQDN",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "https-webhook", "port": port, "protocol": "TCP"}],
        }
