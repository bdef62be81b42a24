"""`/mutate-pods`: what the sidecar needs and only a Pod can name.

That is the model's volume, which KServe adds to the Pod alone (storage_initializer_injector.go), and what it sends its
usage to the ledger with. Other Pods are not touched.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import names
from webhook import sending
from webhook.patch import Operation, patch

VOLUME = "kserve-provision-location"
MOUNT = "/mnt/models"
_SERVER = "kserve-container"
_Object = dict[str, Any]


def complete(pod: Mapping[str, Any], ledger_url: str | None) -> list[Operation]:
    """The operations that complete a raw Pod with our sidecar in it; None for `ledger_url` sends nothing.

    None for any other Pod, and for one that is complete.
    """
    if not isinstance(pod.get("spec"), Mapping):
        return []
    after: _Object = copy.deepcopy(dict(pod))
    spec = after["spec"]
    containers = [*_objects(spec.get("initContainers")), *_objects(spec.get("containers"))]
    for sidecar in [container for container in containers if _is_sidecar(container)]:
        _mount_model(spec, containers, sidecar)
        if ledger_url:
            sending.give(after, sidecar, ledger_url)
    return patch(pod, after)


def _mount_model(spec: _Object, containers: list[_Object], sidecar: _Object) -> None:
    """The model as its server has it, read-only: the sidecar counts with the model's own tokenizer."""
    of_server = [m for c in containers if c.get("name") == _SERVER for m in _objects(c.get("volumeMounts"))]
    model = next((m for m in of_server if m.get("name") == VOLUME and m.get("mountPath") == MOUNT), None)
    mounts = _objects(sidecar.get("volumeMounts"))
    if model is None or not any(volume.get("name") == VOLUME for volume in _objects(spec.get("volumes"))):
        return
    if not any(mount.get("mountPath") == MOUNT for mount in mounts):
        wanted = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
        if "subPath" in model:
            wanted["subPath"] = model["subPath"]
        sidecar["volumeMounts"] = [*mounts, wanted]


def _is_sidecar(container: Mapping[str, Any]) -> bool:
    """Ours by its name and a variable that only we set, as in the InferenceService."""
    return container.get("name") == names.CONTAINER and any(
        entry.get("name") == "TOKEN_METER_UPSTREAM" for entry in _objects(container.get("env"))
    )


def _objects(value: Any) -> list[_Object]:
    """The objects of a list; what is none is left to the API server, which refuses it."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
