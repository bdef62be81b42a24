"""The two answers to an InferenceService, `Inject(plan)` and `Skip(reason)`, and what they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isvc import Mode, names
from isvc.errors import Path
from isvc.predictor import Probe
from webhook.reasons import Reason

# Taken in a KServe pod: Knative's queue-proxy, KServe's gRPC, metrics, HTTPS and agent, Ray, Istio (15xxx).
RESERVED_PORTS = frozenset(
    {6379, 8008, 8012, 8013, 8022, 8081, 8082, 8112, 8443, 9000, 9081, 9083, 9088, 9090, 9091}
)


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """What is the same for every sidecar of a cluster. Raises ValueError for ports that are taken in KServe pods.

    `moved_port` is the server's where the sidecar takes over the port that its runtime declares.
    """

    image: str = "token-meter/sidecar:0.1.0"
    port: int = names.DATA_PORT
    admin_port: int = names.ADMIN_PORT
    moved_port: int = names.MOVED_PORT

    def __post_init__(self) -> None:
        ports = (self.port, self.admin_port, self.moved_port)
        for port in ports:
            if not 1024 <= port <= 65535 or port in RESERVED_PORTS or 15000 <= port < 15100:
                raise ValueError(
                    f"the sidecar cannot listen on {port}: choose a free port from 1024 to 65535"
                )
        if len(set(ports)) < len(ports):
            listed = ", ".join(map(str, ports))
            raise ValueError(f"data, admin and moved server port must be three different ones, are {listed}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the caller knows besides the InferenceService.

    `injection` is the value of its namespace's label, None without one; `serving_runtimes` the cluster's raw
    runtimes, None where they are not known (then the ones that KServe ships are taken); `inference_graphs` its raw
    InferenceGraphs.
    """

    injection: str | None = "enabled"
    default_mode: Mode = Mode.STANDARD
    default_namespace: str = "default"
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    cluster_defaults: Mapping[str, str] = field(default_factory=dict)
    serving_runtimes: Sequence[Mapping[str, Any]] | None = None
    inference_graphs: Sequence[Mapping[str, Any]] = ()
    sidecar: SidecarSettings = SidecarSettings()


class Strategy(StrEnum):
    """How the sidecar comes into the pod and traffic into the sidecar."""

    NATIVE_SIDECAR = "native sidecar"
    """Standard: an init container with restartPolicy Always; the server's `ports` name the sidecar's port."""

    CONTAINER = "container"
    """Knative: an ordinary container without probes; the server's `ports` name the sidecar's, the only one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `inject` writes, decided.

    `predictor` leads to the predictor, `path` to the server's container, None where a canary has none of its own;
    `port` is the sidecar's, `server_port` the server's. `move` is the argument that moves the server where the sidecar
    takes over its port; where it is None and `ports` is asked for, the server's `ports` name the sidecar's instead.
    `redirect` are the probes that would reach the sidecar and go to the server's port from now on; `probe` asks for a
    readiness probe on that port, `prefix` for KSERVE_OPENAI_ROUTE_PREFIX="", `rename` for the name kserve-container.
    `key_secret` None mounts neither key nor certificate, `volume` says whether this predictor has to hold its volume.
    `known` is the sidecar's path where the object has it already, `former_port` the server's port that it went to;
    `revision` is the wish for a new sidecar in its place, where that differs from the one it was made with.
    `as_root`: the pod's user is root, which the sidecar must not be. `inherits`: the server's fields are merged over
    the stable predictor's (canary), so that only lists are written that it has of its own.
    """

    strategy: Strategy
    predictor: Path
    path: Path | None
    image: str
    cpu: str
    memory: str
    port: int
    admin_port: int
    server_port: int
    env: Mapping[str, str]
    key_secret: str | None
    ports: bool
    move: str | None
    redirect: tuple[Probe, ...]
    probe: bool
    prefix: bool
    rename: bool
    as_root: bool = False
    volume: bool = True
    inherits: bool = False
    known: Path | None = None
    former_port: int | None = None
    revision: str | None = None
    canaries: "tuple[Plan, ...]" = ()


@dataclass(frozen=True, slots=True)
class Inject:
    """Put the sidecar in."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the object as it is."""

    reason: Reason
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason's sentence and what it is about in this object."""
        return f"{self.reason.sentence} ({self.detail})" if self.detail else self.reason.sentence


Decision = Inject | Skip
