"""`read`: the raw object in, the value out."""

from collections.abc import Mapping, Sequence
from typing import Any

from isvc import flags as command_line
from isvc import modes, openai, predictor, runtimes, servers
from isvc._node import Node
from isvc._override import override
from isvc.annotations import ANNOTATIONS, own
from isvc.modes import Mode
from isvc.names import CONTAINER, KEY_VOLUME, api_key_secret
from isvc.predictor import Container, Shape
from isvc.runtimes import Runtime
from isvc.servers import Server
from isvc.service import PREFIX_VARIABLE, STOP_ANNOTATION, Canary, InferenceService, Sidecar


def read(
    obj: Mapping[str, Any],
    *,
    default_mode: Mode = Mode.STANDARD,
    default_namespace: str = "default",
    serving_runtimes: Sequence[Mapping[str, Any]] | None = None,
) -> InferenceService:
    """Read a raw v1beta1 InferenceService; the object is not changed.

    `default_mode` is the cluster's; `serving_runtimes` its raw ServingRuntimes and ClusterServingRuntimes,
    else those that KServe ships are taken. Raises Malformed with the field's path, InvalidAnnotation with
    what is allowed.
    """
    root = Node(obj)
    metadata, spec, status = root.node("metadata"), root.node("spec"), root.node("status")
    pod = spec.node("predictor")
    name, namespace = metadata.text("name") or "", metadata.text("namespace") or default_namespace
    annotations = metadata.strings("annotations")
    wishes = {
        key: ANNOTATIONS[key].value(text) for key, text in own(annotations).items() if key in ANNOTATIONS
    }
    mode = modes.read(root, default_mode)

    sidecar = _sidecar(pod)
    shape, model_format, node = predictor.find(pod, CONTAINER)
    runtime_name = node.text("runtime") if shape is Shape.MODEL else None
    runtime_name = (
        runtime_name or status.text("servingRuntimeName") or status.text("clusterServingRuntimeName")
    )
    runtime = None
    if shape in (Shape.MODEL, Shape.FRAMEWORK):
        runtime = runtimes.find(
            serving_runtimes,
            name=runtime_name,
            model_format=model_format,
            namespace=namespace,
            multi_node="workerSpec" in pod,
        )
    container = predictor.merge(
        node,
        runtime,
        sidecar_port=sidecar.port if sidecar else None,
        name=name,
        namespace=namespace,
    )

    flags = command_line.parse(container.argv)
    found = servers.recognise(container.image, container.argv)
    if found is None and shape in (Shape.MODEL, Shape.FRAMEWORK):
        found = {"huggingface": Server.HUGGINGFACE, "vLLM": Server.VLLM}.get(model_format)
    server = found or Server.GENERIC
    models = servers.served_models(server, flags, name, shape is Shape.CUSTOM)
    others = _others(pod, node, runtime)
    return InferenceService(
        name=name,
        namespace=namespace,
        uid=metadata.text("uid") or "",
        created=_text_or_time(metadata, "creationTimestamp"),
        annotations=annotations,
        labels=metadata.strings("labels"),
        mode=mode,
        shape=shape,
        path=node.path,
        model_format=model_format,
        runtime=runtime.name if runtime else runtime_name,
        runtime_known=runtime is not None or runtime_name is None,
        container=container,
        container_name=node.text("name") or "",
        server=server,
        port=wishes.get("port") or _port(server, flags, container, sidecar),
        told_port=servers.told_port(server, flags, container.env) or None,
        port_fixed="port" in wishes
        or servers.names_port(server, flags)
        or not servers.reads_port_variable(server),
        tls=_speaks_tls(flags, container),
        api_key=_wants_key(server, flags, container),
        served_models=(wishes["model"],) if "model" in wishes else models,
        base_path=servers.base_path(server, flags, container.env.get(PREFIX_VARIABLE, "")),
        not_openai=openai.verdict(
            mode,
            shape=shape,
            model_format=model_format,
            server=found,
            container=container,
            flags=flags,
            asserted=wishes.get("inject") is True,
        ),
        sidecar=sidecar,
        name_taken=_name_taken(pod, sidecar, name),
        extra_containers=tuple(c.text("name") or "" for c in others if c.path[-2] != "initContainers"),
        other_ports=tuple(port.number for c in others for port in predictor.ports(c)),
        server_first=_server_first(pod, shape),
        own_init=any(c.text("name") != CONTAINER for c in pod.nodes("initContainers")),
        host_network=bool(pod.value.get("hostNetwork")),
        as_root=pod.node("securityContext").number("runAsUser") == 0,
        predictor_name=pod.text("name") or "",
        canaries=_canaries(root, pod, default_mode, namespace, serving_runtimes),
        multi_node="workerSpec" in pod,
        transformer="transformer" in spec,
        logger="logger" in pod,
        batcher="batcher" in pod,
        address=status.node("address").text("url"),
        predictor_ready=_condition(status, "PredictorReady"),
        stopped=annotations.get(STOP_ANNOTATION, "").lower() == "true",
    )


def _containers(pod: Node) -> tuple[Node, ...]:
    return (*pod.nodes("initContainers"), *pod.nodes("containers"))


def _name_taken(pod: Node, sidecar: Sidecar | None, name: str) -> bool:
    """Whether somebody else's container or volume has one of our names."""
    volumes = [volume for volume in pod.nodes("volumes") if volume.text("name") == KEY_VOLUME]
    ours = {api_key_secret(name)}
    if any(volume.node("secret").text("secretName") not in ours for volume in volumes):
        return True
    return sidecar is None and any(c.text("name") == CONTAINER for c in _containers(pod))


def _sidecar(pod: Node) -> Sidecar | None:
    """Our container, known by its name and a variable that only we set.

    The lists that an injection adds to are read here as well, so that a wrong one is found before it is edited.
    """
    pod.nodes("volumes")
    for container in _containers(pod):
        if container.text("name") == CONTAINER:
            container.nodes("volumeMounts")
            env = {entry.text("name") or "": entry.text("value") or "" for entry in container.nodes("env")}
            if "TOKEN_METER_UPSTREAM" in env:
                return Sidecar(container.path, env)
    return None


def _port(
    server: Server, flags: command_line.Flags, container: Container, sidecar: Sidecar | None
) -> int | None:
    """The port that the server listens on: what it is told, what the manifest declares, its own default."""
    told = servers.told_port(server, flags, container.env)
    if told is not None:
        return None if told == servers.NO_PORT else told
    # An injected object declares our port in place of the server's; the sidecar remembers which that was.
    remembered = sidecar.number("TOKEN_METER_UPSTREAM") if sidecar else None
    candidates = [p for p in (*container.ports, *container.runtime_ports) if not p.grpc]
    if container.taken:
        candidates = [p for p in candidates if container.taken.replaces(p, remembered)]
    declared = next((p.number for p in candidates), None)
    return declared or remembered or servers.default_port(server)


def _speaks_tls(flags: command_line.Flags, container: Container) -> bool:
    certificate = any(flag in flags for flag in ("ssl-certfile", "ssl-cert-file", "tls-cert-file"))
    return certificate or "KSERVE_TLS_CERT_FILE" in container.env


# KServe's own server takes vLLM's --api-key too, but does not look at it.
_KEY_VARIABLES = {
    Server.VLLM: "VLLM_API_KEY",
    Server.LLAMA_CPP: "LLAMA_API_KEY",
    Server.TGI: "API_KEY",
    Server.SGLANG: "",
}


def _wants_key(server: Server, flags: command_line.Flags, container: Container) -> bool:
    """Whether the server checks a key of its own."""
    if server not in _KEY_VARIABLES:
        return False
    return "api-key" in flags or "api-key-file" in flags or _KEY_VARIABLES[server] in container.env


def _others(pod: Node, server: Node, runtime: Runtime | None) -> tuple[Node, ...]:
    """Every container of the pod but the server's and ours."""
    own_ones = [c for c in _containers(pod) if c.path != server.path and c.text("name") != CONTAINER]
    return (*own_ones, *(runtime.others if runtime else ()))


def _server_first(pod: Node, shape: Shape) -> bool:
    """Whether KServe finds the server: it renames a lone custom container, of several it takes the first's place."""
    if shape is not Shape.CUSTOM:
        return True
    names = [c.text("name") for c in pod.nodes("containers") if c.text("name") != CONTAINER]
    return len(names) == 1 or names[0] in ("kserve-container", "", None)


def _canaries(
    root: Node,
    stable: Node,
    default_mode: Mode,
    namespace: str,
    serving_runtimes: Sequence[Mapping[str, Any]] | None,
) -> tuple[Canary, ...]:
    found = []
    said = {one.text("name"): one for one in root.node("status").nodes("canaryStatuses")}
    for canary in root.node("spec").nodes("canary"):
        own_pod = canary.node("predictor")
        own_shape, _, server = predictor.find(own_pod, CONTAINER)
        merged = {
            **root.value,
            "spec": {"predictor": override(stable.value, own_pod.value)},
            "status": {"deploymentMode": root.node("status").text("deploymentMode")},
        }
        service = read(
            merged,
            default_mode=default_mode,
            default_namespace=namespace,
            serving_runtimes=serving_runtimes,
        )
        handlers = server.node("readinessProbe").value
        status = said.get(service.predictor_name) or Node({})
        lists = (*own_pod.value.items(), *server.value.items())
        found.append(
            Canary(
                name=service.predictor_name,
                path=own_pod.path,
                server=None if own_shape is Shape.NONE else server.path,
                shape=own_shape,
                service=service,
                sidecar=_sidecar(own_pod),
                lists=frozenset(key for key, value in lists if isinstance(value, list) and value),
                probe=next((h for h in ("httpGet", "tcpSocket", "exec", "grpc") if h in handlers), None),
                percent=next((p for p in map(_percent, (status, canary)) if p is not None), 0),
                ready=status.value.get("ready") is True,
            )
        )
    return tuple(found)


def _percent(node: Node) -> int | None:
    value = node.number("trafficPercent")
    return None if value is None else min(max(value, 0), 100)


def _condition(status: Node, kind: str) -> bool:
    return any(c.text("type") == kind and c.text("status") == "True" for c in status.nodes("conditions"))


def _text_or_time(metadata: Node, key: str) -> str:
    value = metadata.value.get(key)
    return "" if value is None else str(value)
