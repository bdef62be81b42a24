"""The sidecar's container and volume as they are written into the predictor."""

import copy
from typing import Any

from isvc import names
from webhook.plan import Plan, Strategy

_USER = 65532  # the image's

# Pod Security "restricted"; every field of it passes Knative's webhook too.
_SECURITY_CONTEXT: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(plan: Plan) -> dict[str, Any]:
    """The sidecar for the plan's strategy. It requests CPU always: the HPA counts in percent of requests."""
    native = plan.strategy is Strategy.NATIVE_SIDECAR
    built: dict[str, Any] = {"name": names.CONTAINER, "image": plan.image}
    if native:
        built["restartPolicy"] = "Always"
    built["env"] = [{"name": name, "value": value} for name, value in plan.env.items()]
    if native:  # Knative allows one port in a pod, which the server's container declares, and no probe here
        built["ports"] = [
            {"name": "meter", "containerPort": plan.port, "protocol": "TCP"},
            {"name": "meter-admin", "containerPort": plan.admin_port, "protocol": "TCP"},
        ]
        built["readinessProbe"] = {"httpGet": {"path": "/readyz", "port": plan.admin_port}}
    built["resources"] = {"requests": {"cpu": plan.cpu, "memory": plan.memory}}
    built["securityContext"] = copy.deepcopy(_SECURITY_CONTEXT)
    if (
        plan.as_root
    ):  # else the pod's runAsUser holds for us too; nowhere else, as OpenShift gives each namespace its own
        built["securityContext"]["runAsUser"] = _USER
    if plan.key_secret:
        built["volumeMounts"] = [key_mount()]
    return built


def key_mount() -> dict[str, Any]:
    """Where the sidecar, and nobody else, sees the key."""
    return {"name": names.KEY_VOLUME, "mountPath": names.KEY_MOUNT, "readOnly": True}


def key_volume(secret: str) -> dict[str, Any]:
    """The key's volume: optional, as the controller makes the Secret only once it has seen the ISVC."""
    return {"name": names.KEY_VOLUME, "secret": {"secretName": secret, "optional": True}}
