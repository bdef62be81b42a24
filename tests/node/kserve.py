"""A stand-in for KServe's controller: of an InferenceService it makes what the oracle says, Deployment and Service."""

import json
from typing import Any

from tests.cluster.cluster import Cluster
from tests.oracle import make

LABEL = "serving.kserve.io/inferenceservice"
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


def reconcile(cluster: Cluster, name: str, namespace: str) -> None:
    """Make the workload of a stored InferenceService, or bring it up to date."""
    made = make(cluster.get("inferenceservice", name, namespace), ())
    assert made.works, made
    for workload in made.workloads.values():
        labels = {LABEL: name, "app": f"isvc.{workload.name}", "component": "predictor"}
        head = {"name": workload.name, "namespace": namespace, "labels": labels}
        template = {"metadata": {"labels": labels}, "spec": workload.pod}
        selector = {"app": labels["app"]}
        deployment = {"selector": {"matchLabels": selector}, "template": template}
        service = {"selector": selector, "ports": workload.service}
        cluster.apply(
            [
                {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": deployment},
                {"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": service},
            ]
        )


def say_ready(cluster: Cluster, name: str, namespace: str) -> None:
    """Write into its status what KServe's controller does when the predictor is ready."""
    conditions = [{"type": "PredictorReady", "status": "True"}, {"type": "Ready", "status": "True"}]
    status = {"deploymentMode": "Standard", "conditions": conditions}
    patch = f"--patch={json.dumps({'status': status})}"
    where = (f"--namespace={namespace}", "--subresource=status", "--type=merge")
    cluster.kubectl("patch", "inferenceservice", name, *where, patch)
