"""An InferenceService as the rest of the product sees it; `isvc.read` makes the value out of the raw object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from isvc.errors import Path
from isvc.modes import Mode
from isvc.names import DATA_PORT
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
        return int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else None

    @property
    def port(self) -> int:
        """Where it listens: by its variable, and without one by its own default."""
        return self.number("TOKEN_METER_PORT") or DATA_PORT


@dataclass(frozen=True, slots=True)
class Canary:
    """One entry of spec.canary.

    `service` is what KServe makes of it, the stable predictor with the canary's over it; `path` leads to the canary's
    own predictor, `server` to the server's container in that, None where it is the stable predictor's; `sidecar` is the
    one in its own lists, `lists` its own lists that are not empty, `probe` its readiness probe's handler.
    `percent` of the requests are for it once it is `ready`: KServe's status says both (KServe 0.20,
    status.canaryStatuses), before that its spec.
    """

    name: str
    path: Path
    server: Path | None
    shape: Shape
    service: "InferenceService"
    sidecar: Sidecar | None
    lists: frozenset[str]
    probe: str | None
    percent: int = 0
    ready: bool = False

    @property
    def metered(self) -> bool:
        """Whether its pods have our sidecar: its own, or the stable predictor's."""
        return self.sidecar is not None or ("initContainers" not in self.lists and self.service.injected)


@dataclass(frozen=True, slots=True)
class InferenceService:
    """What an InferenceService says.

    `path` leads to the model server's container in the raw object; `port` is the server's own, None where it
    has none, `told_port` the one that its command line or environment names, `port_fixed` whether it stays when
    the variable PORT is set; `tls` and `api_key` say that the server itself asks for them; `base_path` is what
    stands before `/chat/completions` once injected, None where it cannot be known; `address` is
    status.address.url; `runtime` is the ServingRuntime's name, `runtime_known` False where it is named but was
    not given, so that the container's ports and probes are a guess; `other_ports` are the ports of the
    containers beside the server's; `server_first` says that KServe finds the server where it looks; `own_init`
    that the predictor has init containers besides ours.
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
    told_port: int | None
    port_fixed: bool
    tls: bool
    api_key: bool
    served_models: tuple[str, ...]
    base_path: str | None
    not_openai: NotOpenAI | None
    sidecar: Sidecar | None
    name_taken: bool
    extra_containers: tuple[str, ...]
    other_ports: tuple[int, ...]
    server_first: bool
    own_init: bool
    host_network: bool
    as_root: bool
    predictor_name: str
    canaries: tuple[Canary, ...]
    multi_node: bool
    transformer: bool
    logger: bool
    batcher: bool
    address: str | None
    predictor_ready: bool
    stopped: bool

    @property
    def kind(self) -> str:
        return "InferenceService"

    @property
    def api_version(self) -> str:
        return "serving.kserve.io/v1beta1"

    @property
    def openai(self) -> bool:
        return self.not_openai is None

    @property
    def injected(self) -> bool:
        return self.sidecar is not None
