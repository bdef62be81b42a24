"""The two answers to an InferenceService, `Inject(plan)` and `Skip(reason)`, and what they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isvc import Mode, names
from isvc.errors import Path
from webhook.reasons import Reason

# Taken in a KServe pod: Knative's queue-proxy, KServe's gRPC, metrics, HTTPS and agent, Ray, Istio (15xxx).
RESERVED_PORTS = frozenset(
    {6379, 8008, 8012, 8013, 8022, 8081, 8082, 8112, 8443, 9000, 9081, 9083, 9088, 9090, 9091}
)


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """What is the same for every sidecar of a cluster. Raises ValueError for ports that are taken in KServe pods."""

    image: str = "token-meter/sidecar:0.1.0"
    port: int = names.DATA_PORT
    admin_port: int = names.ADMIN_PORT

    def __post_init__(self) -> None:
        for port in (self.port, self.admin_port):
            if not 1024 <= port <= 65535 or port in RESERVED_PORTS or 15000 <= port < 15100:
                raise ValueError(
                    f"the sidecar cannot listen on {port}: choose a free port from 1024 to 65535"
                )
        if self.port == self.admin_port:
            raise ValueError(f"the sidecar needs two ports, both are {self.port}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the caller knows besides the InferenceService.

    `injection` is the value of its namespace's label, None without one; `serving_runtimes` the cluster's raw
    runtimes, None where they are not known (then the ones that KServe ships are taken).
    """

    injection: str | None = "enabled"
    default_mode: Mode = Mode.STANDARD
    default_namespace: str = "default"
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    cluster_defaults: Mapping[str, str] = field(default_factory=dict)
    serving_runtimes: Sequence[Mapping[str, Any]] | None = None
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

    `path` leads to the server's container; `probe` asks for a readiness probe on the server's own port,
    `prefix` for KSERVE_OPENAI_ROUTE_PREFIX="", `rename` for the name kserve-container; `key_secret` None
    leaves access open; `known` is the sidecar's path where the object has it already, `former_port` the
    server's port that it went to.
    """

    strategy: Strategy
    path: Path
    image: str
    cpu: str
    memory: str
    port: int
    admin_port: int
    server_port: int
    env: Mapping[str, str]
    key_secret: str | None
    probe: bool
    prefix: bool
    rename: bool
    known: Path | None = None
    former_port: int | None = None


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
