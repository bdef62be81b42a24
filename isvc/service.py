"""An InferenceService as the rest of the product sees it: `read` makes the value out of the raw object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isvc import flags as command_line
from isvc import modes, openai, predictor, runtimes, servers
from isvc._node import Node
from isvc.annotations import ANNOTATIONS, own
from isvc.errors import Path
from isvc.modes import Mode
from isvc.names import CONTAINER
from isvc.openai import NotOpenAI
from isvc.predictor import Container, Shape
from isvc.servers import Server

PREFIX_VARIABLE = "KSERVE_OPENAI_ROUTE_PREFIX"
STOP_ANNOTATION = "serving.kserve.io/stop"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Our container as it stands in the object already: where, and with which environment."""

    path: Path
    env: Mapping[str, str]

    def number(self, variable: str) -> int | None:
        """The port in `variable`: its digits at the end, as in `9180` and `http://127.0.0.1:8080`."""
        digits = self.env.get(variable, "").rsplit(":", 1)[-1]
        return int(digits) if digits.isascii() and digits.isdigit() else None


@dataclass(frozen=True, slots=True)
class InferenceService:
    """What an InferenceService says.

    `path` leads to the model server's container in the raw object; `port` is the server's own, None where it
    has none, `port_fixed` whether it stays when the variable PORT is set; `tls` and `api_key` say that the
    server itself asks for them; `base_path` is what stands before `/chat/completions` once injected, None where
    it cannot be known; `address` is status.address.url; `runtime` is the ServingRuntime's name, `runtime_known`
    False where it is named but was not given, so that the container's ports and probes are a guess.
    """

    name: str
    namespace: str
    uid: str
    created: str
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    mode: Mode
    shape: Shape
    path: Path
    model_format: str
    runtime: str | None
    runtime_known: bool
    container: Container
    container_name: str
    server: Server
    port: int | None
    port_fixed: bool
    tls: bool
    api_key: bool
    served_models: tuple[str, ...]
    base_path: str | None
    not_openai: NotOpenAI | None
    sidecar: Sidecar | None
    name_taken: bool
    extra_containers: tuple[str, ...]
    predictor_name: str
    canaries: int
    multi_node: bool
    transformer: bool
    logger: bool
    batcher: bool
    address: str | None
    predictor_ready: bool
    stopped: bool

    @property
    def openai(self) -> bool:
        return self.not_openai is None

    @property
    def injected(self) -> bool:
        return self.sidecar is not None


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
            serving_runtimes, name=runtime_name, model_format=model_format, namespace=namespace
        )
    container = predictor.merge(
        node,
        runtime,
        sidecar_port=sidecar.number("TOKEN_METER_PORT") if sidecar else None,
        name=name,
        namespace=namespace,
    )

    flags = command_line.parse(container.argv)
    found = servers.recognise(container.image, container.argv)
    if found is None and shape in (Shape.MODEL, Shape.FRAMEWORK):
        found = {"huggingface": Server.HUGGINGFACE, "vLLM": Server.VLLM}.get(model_format)
    server = found or Server.GENERIC
    models = servers.served_models(server, flags, name, shape is Shape.CUSTOM)
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
        name_taken=sidecar is None and any(c.text("name") == CONTAINER for c in _containers(pod)),
        extra_containers=_extra_containers(pod, node),
        predictor_name=pod.text("name") or "",
        canaries=len(spec.nodes("canary")),
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
    declared = next((p.number for p in (*container.ports, *container.runtime_ports) if not p.grpc), None)
    # An injected object declares our port in place of the server's; the sidecar remembers which that was.
    remembered = sidecar.number("TOKEN_METER_UPSTREAM") if sidecar else None
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


def _extra_containers(pod: Node, server: Node) -> tuple[str, ...]:
    others = [c for c in pod.nodes("containers") if c.path != server.path]
    return tuple(c.text("name") or "" for c in others if c.text("name") != CONTAINER)


def _condition(status: Node, kind: str) -> bool:
    return any(c.text("type") == kind and c.text("status") == "True" for c in status.nodes("conditions"))


def _text_or_time(metadata: Node, key: str) -> str:
    value = metadata.value.get(key)
    return "" if value is None else str(value)
