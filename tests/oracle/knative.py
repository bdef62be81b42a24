"""Knative Serving 1.21's rules for the pods of a Knative Service (pkg/apis/serving/k8s_validation.go)."""

from tests.oracle.made import Object

RESERVED_PORTS = {8008, 8012, 8013, 8022, 8112, 9090, 9091}
PROBES = ("readinessProbe", "livenessProbe")


def refused(pod: Object) -> str | None:
    """Why Knative's webhook refuses the pod spec, or None."""
    if pod.get("initContainers"):
        return "must not set the field(s): spec.template.spec.initContainers"
    containers = pod["containers"]
    declared = [(c, port) for c in containers for port in c.get("ports") or []]
    if len(declared) > 1:
        return "more than one container port is set"
    if not declared and len(containers) > 1:
        return "missing field(s): spec.template.spec.containers[*].ports"
    for _, port in declared:
        if port["containerPort"] in RESERVED_PORTS or port.get("name", "") not in ("", "http1", "h2c"):
            return f"invalid value: {port}"
    for i, container in enumerate(containers):
        if len(containers) > 1 and not container.get("ports"):
            for probe in PROBES:
                if probe in container:
                    return f"must not set the field(s): spec.template.spec.containers[{i}].{probe}"
        for j, entry in enumerate(container.get("env") or []):
            if "fieldRef" in (entry.get("valueFrom") or {}):
                return f"must not set the field(s): spec.template.spec.containers[{i}].env[{j}].valueFrom.fieldRef"
    return None


def give_default_probe(pod: Object) -> None:
    """The serving container's readiness: a TCP connect to its port, written as port 0 (revision_defaults.go)."""
    containers = pod["containers"]
    serving = next((c for c in containers if c.get("ports")), containers[0])
    serving.setdefault("readinessProbe", {"tcpSocket": {"port": 0}})
