"""Standard mode: the predictor's Service, the default readiness probes, and what the API server refuses of them."""

from tests.oracle.defaulter import SERVER, TRANSFORMER
from tests.oracle.made import Object

AGENT_PORT = 9081


def ports(pod: Object, name: str, agent: bool) -> list[Object]:
    """The Service's ports (service_reconciler.go createDefaultSvc)."""
    entrance = next((c for c in pod["containers"] if c["name"] == TRANSFORMER), pod["containers"][0])
    declared = entrance.get("ports") or [{"containerPort": 8080, "name": name}]
    made = []
    for i, port in enumerate(declared):
        entry = {
            "port": port["containerPort"] if i else 80,
            "targetPort": port["containerPort"],
            "protocol": port.get("protocol", "TCP"),
        }
        if port.get("name"):
            entry["name"] = port["name"]
            if "grpc" in port["name"] or "h2c" in port["name"]:
                entry["appProtocol"] = "kubernetes.io/h2c"
        made.append(entry)
    if agent:
        made[0]["targetPort"] = AGENT_PORT
    return made


def give_default_probes(pod: Object) -> None:
    """A readiness probe for who has none (deployment_reconciler.go setDefaultPodSpec)."""
    for container in pod["containers"]:
        if container["name"] in (SERVER, TRANSFORMER) and "readinessProbe" not in container:
            declared = container.get("ports") or [{"containerPort": 8080}]
            container["readinessProbe"] = {"tcpSocket": {"port": declared[0]["containerPort"]}}


def refused(service: list[Object]) -> str | None:
    """Why the API server refuses the Service: with several ports each needs a name, and none may come twice."""
    if len(service) > 1:
        for i, port in enumerate(service):
            if not port.get("name"):
                return f"spec.ports[{i}].name: Required value"
    for key in ("name", "port"):
        values = [port.get(key) for port in service]
        if len(set(values)) < len(values):
            return f"spec.ports: Duplicate value of {key}"
    return None


def pod_refused(pod: Object) -> str | None:
    """Why the API server refuses the pod template: a name twice, a probe with two handlers, a mount of nothing."""
    seen: set[str] = set()
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        if container["name"] in seen:
            return f'containers name: Duplicate value: "{container["name"]}"'
        seen.add(container["name"])
        names = [port["name"] for port in container.get("ports") or [] if port.get("name")]
        if len(set(names)) < len(names):
            return "ports name: Duplicate value"
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            handlers = {"httpGet", "tcpSocket", "exec", "grpc"} & set(container.get(probe) or {})
            if len(handlers) > 1:
                return f"{container['name']} {probe}: may not specify more than 1 handler type"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                return f'volumeMounts: Not found: "{mount["name"]}"'
    return None
