"""KServe, Envoy Gateway and AI Gateway as `token-meter check` sees them: Deployments that nobody runs, a ConfigMap."""

from collections.abc import Mapping
from typing import Any

import yaml

from tests.cluster.cluster import Cluster
from tests.e2e.settings import FOLDER

NAMESPACE = "envoy-gateway-system"
IMAGES = {
    "kserve-controller-manager": "kserve/kserve-controller:v0.20.0",
    "envoy-gateway": "docker.io/envoyproxy/gateway:v1.9.1",
    "ai-gateway-controller": "docker.io/envoyproxy/ai-gateway-controller:v1.1.0",
}
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "values" / "envoy-gateway.yaml").read_text())["config"][
    "envoyGateway"
]
"""As `make e2e-kind` configures Envoy Gateway."""


def install(cluster: Cluster) -> None:
    """Put them there, all as they should be."""
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    configure(cluster, CONFIG)
    deploy(cluster, IMAGES)


def configure(cluster: Cluster, config: Mapping[str, Any]) -> None:
    """Envoy Gateway's ConfigMap."""
    head = {"name": "envoy-gateway-config", "namespace": NAMESPACE}
    data = {"envoy-gateway.yaml": yaml.safe_dump(dict(config))}
    cluster.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": head, "data": data}])


def deploy(cluster: Cluster, images: Mapping[str, str]) -> None:
    """Deployments with these images."""
    cluster.apply([_deployment(name, image) for name, image in images.items()])


def _deployment(name: str, image: str) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "manager", "image": image}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
