"""Strategy C: the sidecar takes the port that the runtime declares, and the server is moved by its own flag.

A port in the InferenceService would be merged beside the runtime's, not in its place: Knative refuses the second, and
in Standard mode the Service's ports would need names (KServe 0.20, utils.go MergeRuntimeContainers).
"""

from dataclasses import dataclass

from isvc import InferenceService, servers
from webhook.plan import RESERVED_PORTS, SidecarSettings


@dataclass(frozen=True, slots=True)
class Takeover:
    """`port` is the runtime's and becomes the sidecar's, `moved` the server's; `argument` moves it there."""

    port: int
    moved: int
    argument: str


def takeover(service: InferenceService, settings: SidecarSettings) -> Takeover | None:
    """How the port of a runtime that declares one is taken over, None where that cannot be done safely."""
    container, first = service.container, service.container.runtime_ports[0]
    there = service.sidecar and service.sidecar.number("TOKEN_METER_UPSTREAM")
    moved = there if there and there != first.number else settings.moved_port
    argument = servers.moving_flag(service.server, moved)
    if (
        argument is None
        or container.ports
        or container.shell
        or service.multi_node
        or first.grpc
        or first.number < 1024
        or first.number in RESERVED_PORTS
        or service.port not in (first.number, moved)
    ):
        return None
    return Takeover(first.number, moved, argument)
