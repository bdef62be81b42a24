"""Which container is the model server, and what KServe makes of it and the runtime's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isvc._node import Node
from isvc.errors import Malformed
from isvc.flags import expand, is_shell
from isvc.runtimes import Runtime

PREDICTIVE = frozenset(
    {
        "sklearn",
        "xgboost",
        "lightgbm",
        "pmml",
        "paddle",
        "tensorflow",
        "pytorch",
        "triton",
        "onnx",
        "mlflow",
        "catboost",
        "autogluon",
        "tensorrt",
    }
)
FRAMEWORKS = (*sorted(PREDICTIVE), "huggingface")
"""The predictor's fields that name a framework; KServe's defaulter rewrites each to `model`."""


class Shape(StrEnum):
    """How the predictor is written."""

    MODEL = "model"
    FRAMEWORK = "framework field"
    CUSTOM = "custom container"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Port:
    """One entry of a container's `ports`."""

    number: int
    name: str = ""
    protocol: str = "TCP"

    @property
    def grpc(self) -> bool:
        """KServe makes the Service's port HTTP/2 by this name alone (service_reconciler.go)."""
        return "grpc" in self.name or "h2c" in self.name

    def replaces(self, other: "Port", number: int | None) -> bool:
        """Whether `other`, declared beside this one of the sidecar's, is the server's port and no further one.

        Server-side apply puts it there again, under its name and perhaps a new number; a further port needs a name.
        """
        return other.number == number or other.name in ("", self.name)


PROBES = ("readinessProbe", "livenessProbe", "startupProbe")


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe that goes to a port: its field, its handler (`httpGet`, `tcpSocket`), the port's number or name."""

    kind: str
    handler: str
    port: int | str


@dataclass(frozen=True, slots=True)
class Container:
    """The model server's container after KServe's merge.

    `env` holds None for a value from elsewhere; `shell` says that its command is a shell's, to which arguments are
    appended in vain; `taken` is the sidecar's entry in its ports, which are the others.
    """

    image: str = ""
    argv: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    runtime_ports: tuple[Port, ...] = ()
    readiness_probe: bool = False
    probes: tuple[Probe, ...] = ()
    shell: bool = False
    taken: "Port | None" = None


def find(predictor: Node, sidecar: str) -> tuple[Shape, str, Node]:
    """The predictor's shape, its model format ("" for a custom one) and the node to edit.

    `sidecar` is the name of our own container, which is nobody's model server.
    """
    if "model" in predictor:
        model = predictor.node("model")
        return Shape.MODEL, model.node("modelFormat").text("name") or "", model
    for framework in FRAMEWORKS:
        if framework in predictor:
            return Shape.FRAMEWORK, framework, predictor.node(framework)
    others = [c for c in predictor.nodes("containers") if c.text("name") != sidecar]
    if others:
        named = next((c for c in others if c.text("name") == "kserve-container"), others[0])
        return Shape.CUSTOM, "", named
    return Shape.NONE, "", Node({}, predictor.path)


def merge(
    own: Node, runtime: Runtime | None, *, sidecar_port: int | None, name: str, namespace: str
) -> Container:
    """The container that KServe makes of the runtime's and the ISVC's own (utils.go MergeRuntimeContainers).

    The ISVC's image and command replace the runtime's, its args follow them, env is merged by name.
    `sidecar_port` is left out of the ports: it is ours, from an earlier injection.
    """
    base = runtime.container if runtime else Node({})
    env = {**_env(base)}
    for key, value in _env(own).items():
        # KServe's merge drops empty values, so that "" cannot replace what the runtime has set.
        env[key] = env.get(key, "") if value == "" else value
    command = own.texts("command") or base.texts("command")
    declared = ports(own)
    own_ports = tuple(port for port in declared if port.number != sidecar_port)
    return Container(
        image=own.text("image") or base.text("image") or "",
        argv=expand((*command, *base.texts("args"), *own.texts("args")), env, name, namespace),
        env=env,
        ports=own_ports,
        runtime_ports=ports(base),
        readiness_probe="readinessProbe" in own or "readinessProbe" in base,
        probes=_probes(base, own),
        shell=is_shell(command),
        taken=next((port for port in declared if port.number == sidecar_port), None),
    )


def _env(container: Node) -> dict[str, str | None]:
    return {
        entry.text("name") or "": None if "valueFrom" in entry else entry.text("value") or ""
        for entry in container.nodes("env")
    }


def _probes(base: Node, own: Node) -> tuple[Probe, ...]:
    """The probes of both that go to a port; the container's own port stands in place of the runtime's."""
    found = {}
    for container in (base, own):
        for kind in PROBES:
            for handler in ("httpGet", "tcpSocket"):
                port = container.node(kind).node(handler).value.get("port")
                if isinstance(port, int | str) and not isinstance(port, bool):
                    found[kind, handler] = Probe(kind, handler, port)
    return tuple(found.values())


def ports(container: Node) -> tuple[Port, ...]:
    """What the container declares in `ports`."""
    return tuple(_port(entry) for entry in container.nodes("ports"))


def _port(entry: Node) -> Port:
    number = entry.number("containerPort")
    if number is None:
        raise Malformed((*entry.path, "containerPort"), "must be set")
    return Port(number, entry.text("name") or "", entry.text("protocol") or "TCP")
