"""`/mutate-pods`: the model's volume for the sidecar, so that it can count with the model's own tokenizer.

KServe adds the volume to the Pod alone (storage_initializer_injector.go), so that no InferenceService can name it.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import names
from webhook.patch import Operation, patch

VOLUME = "kserve-provision-location"
MOUNT = "/mnt/models"
_SERVER = "kserve-container"


def mount_model(pod: Mapping[str, Any]) -> list[Operation]:
    """The operations that mount the model read-only into the sidecar of a raw Pod.

    None for a Pod without our sidecar, without the model's volume, or with the mount already there.
    """
    spec = pod.get("spec")
    if not isinstance(spec, Mapping):
        return []
    containers = [*_objects(spec.get("initContainers")), *_objects(spec.get("containers"))]
    if not any(_is_sidecar(container) for container in containers):
        return []
    of_server = [
        mount for c in containers if c.get("name") == _SERVER for mount in _objects(c.get("volumeMounts"))
    ]
    model = next((m for m in of_server if m.get("name") == VOLUME and m.get("mountPath") == MOUNT), None)
    if model is None or not any(volume.get("name") == VOLUME for volume in _objects(spec.get("volumes"))):
        return []
    wanted = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
    if "subPath" in model:
        wanted["subPath"] = model["subPath"]
    after = copy.deepcopy(dict(pod))
    for key in ("initContainers", "containers"):
        for container in _objects(after["spec"].get(key)):
            if _is_sidecar(container) and MOUNT not in _paths(container):
                container["volumeMounts"] = [*_objects(container.get("volumeMounts")), wanted]
    return patch(pod, after)


def _is_sidecar(container: Mapping[str, Any]) -> bool:
    """Ours by its name and a variable that only we set, as in the InferenceService."""
    variables = {entry.get("name") for entry in _objects(container.get("env"))}
    return container.get("name") == names.CONTAINER and "TOKEN_METER_UPSTREAM" in variables


def _paths(container: Mapping[str, Any]) -> set[Any]:
    return {mount.get("mountPath") for mount in _objects(container.get("volumeMounts"))}


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; what is none is left to the API server, which refuses it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
