"""Pod Security "restricted" (kubernetes.io/docs/concepts/security/pod-security-standards), for Linux pods."""

from tests.oracle.made import Object

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: Object) -> set[str]:
    """What a namespace that enforces "restricted" would refuse in the pod, each with the container's name."""
    found = {f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)}
    for volume in pod.get("volumes", []):
        if not _VOLUMES & set(volume):
            found.add(f"volume {volume['name']} is of a forbidden type")
    of_pod = pod.get("securityContext") or {}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        found |= {f"{container['name']}: {what}" for what in _of_container(container, of_pod)}
    return found


def _of_container(container: Object, of_pod: Object) -> set[str]:
    own = container.get("securityContext") or {}
    both = {**of_pod, **own}
    capabilities = own.get("capabilities") or {}
    checks = {
        "privilege escalation is allowed": own.get("allowPrivilegeEscalation") is not False,
        "is privileged": bool(own.get("privileged")),
        "capabilities are not dropped": "ALL" not in (capabilities.get("drop") or []),
        "capabilities are added": bool(set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}),
        "may run as root": both.get("runAsNonRoot") is not True,
        "runs as user 0": both.get("runAsUser") == 0,
        "has no seccomp profile": (both.get("seccompProfile") or {}).get("type")
        not in ("RuntimeDefault", "Localhost"),
        "has a host port": any(port.get("hostPort") for port in container.get("ports") or []),
    }
    return {what for what, broken in checks.items() if broken}
