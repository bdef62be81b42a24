"""Name, labels and owner of every object: how it is found again, and who takes it along when it goes."""

from collections.abc import Mapping
from typing import Any

from gateway.names import label
from gateway.target import Target
from isvc import LLM_KIND
from isvc.names import DOMAIN

Object = dict[str, Any]

MANAGED_BY: Mapping[str, str] = {"app.kubernetes.io/managed-by": "token-meter"}
# Never KServe's own two labels together: it deletes what carries both and is not its own.
SERVICE_LABEL = f"{DOMAIN}/inferenceservice"
SERVICE_LABELS: Mapping[str, str] = {
    "InferenceService": SERVICE_LABEL,
    LLM_KIND: f"{DOMAIN}/llminferenceservice",
}
NAMESPACE_LABEL = f"{DOMAIN}/namespace"


def made(kind: str, api_version: str, name: str, namespace: str, target: Target) -> Object:
    """An object's head.

    An owner reference only works within a namespace; across, the labels lead back. It does not block deletion.
    """
    labels = {SERVICE_LABELS[target.kind]: label(target.isvc), NAMESPACE_LABEL: label(target.namespace)}
    metadata: Object = {"name": name, "namespace": namespace, "labels": {**MANAGED_BY, **labels}}
    if target.uid and namespace == target.namespace:
        metadata["ownerReferences"] = [
            {
                "apiVersion": target.api_version,
                "kind": target.kind,
                "name": target.isvc,
                "uid": target.uid,
            }
        ]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
