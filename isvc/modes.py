"""How KServe deploys an InferenceService: by its status, else its annotation, else the cluster's default."""

from enum import StrEnum

from isvc._node import Node
from isvc.errors import Malformed

ANNOTATION = "serving.kserve.io/deploymentMode"


class Mode(StrEnum):
    """KServe's deployment modes, by their names since KServe 0.16."""

    STANDARD = "Standard"
    KNATIVE = "Knative"
    MODEL_MESH = "ModelMesh"


_LEGACY = {"RawDeployment": Mode.STANDARD, "Serverless": Mode.KNATIVE}


def parse(text: str) -> Mode:
    """A mode from its present or its former name; raises ValueError for another."""
    return _LEGACY.get(text) or Mode(text)


def read(root: Node, default: Mode) -> Mode:
    """The mode (KServe 0.20, utils.go GetDeploymentMode); raises Malformed for an unknown one."""
    status, annotations = root.node("status"), root.node("metadata").node("annotations")
    for holder, key in ((status, "deploymentMode"), (annotations, ANNOTATION)):
        text = holder.text(key)
        if text:
            try:
                return parse(text)
            except ValueError:
                allowed = ", ".join([*Mode, *_LEGACY])
                raise Malformed(
                    (*holder.path, key), f'"{text}" is not a deployment mode; write one of {allowed}'
                ) from None
    return default
