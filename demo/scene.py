"""What is played, before anything runs: the InferenceService, its injected form, the gateway objects made from it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import isvc
from demo import pod, traffic
from demo.objects import read
from demo.processes import DemoError
from gateway.facts import Facts as ClusterFacts
from gateway.facts import Placement
from gateway.plan import plan
from webhook import injection
from webhook.plan import Facts, Inject, SidecarSettings

HERE = Path(__file__).resolve().parent
PORT_ANNOTATION = "token-meter.dev/port"


@dataclass(frozen=True, slots=True)
class Ports:
    """The free ports of one run."""

    model: int
    sidecar: int
    sidecar_admin: int
    valkey: int
    ratelimit: int
    ratelimit_http: int
    ratelimit_debug: int
    gateway: int
    gateway_admin: int
    ledger: int
    ledger_admin: int


@dataclass(frozen=True, slots=True)
class Scene:
    """The InferenceService before and after, the objects of the gateway, and what both say."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    patch_operations: int
    model: str
    sidecar: pod.Sidecar
    objects: tuple[Mapping[str, Any], ...]
    place: Mapping[str, Any]
    """The Gateway itself, which the objects hang on."""
    gateway: traffic.Gateway

    @property
    def limit(self) -> traffic.Limit:
        """The first rule of the traffic policy: so many tokens for each user."""
        return self.gateway.routes[0].limits[0]


def prepare(ports: Ports) -> Scene:
    """Inject the guide's InferenceService for these ports and plan its gateway objects; raises DemoError."""
    before = load("inferenceservice.yaml")
    # The one thing that this machine adds: its free port instead of the server's own 8080.
    asked = {**before, "metadata": {**before["metadata"], "annotations": {PORT_ANNOTATION: str(ports.model)}}}
    settings = SidecarSettings(port=ports.sidecar, admin_port=ports.sidecar_admin)
    result = injection.run(asked, Facts(sidecar=settings))
    if not isinstance(result.decision, Inject):
        raise DemoError(f"the InferenceService is skipped: {result.decision.text}")
    gateway = load("gateway.yaml")
    # Read again: the objects lead to the port that the injected one says.
    objects = planned(isvc.read(result.obj), gateway, secrets.token_urlsafe(32))
    return Scene(
        before=asked,
        after=result.obj,
        patch_operations=len(result.patch),
        model=result.service.served_models[0],
        sidecar=pod.sidecar_of(result.obj),
        objects=objects,
        place=gateway,
        gateway=read(gateway, objects),
    )


def planned(
    service: isvc.InferenceService, gateway: Mapping[str, Any], key: str
) -> tuple[Mapping[str, Any], ...]:
    """The gateway objects of an injected InferenceService behind this Gateway, as the controller plans them."""
    metadata = gateway["metadata"]
    admits = (
        gateway["spec"]["listeners"][0].get("allowedRoutes", {}).get("namespaces", {}).get("from", "Same")
    )
    facts = ClusterFacts(
        gateway=isvc.GatewayRef(metadata["namespace"], metadata["name"]),
        placement=Placement.LOCAL if admits == "All" else Placement.CROSS,
        key=key,
    )
    return plan(service, isvc.resolve(service.annotations, {}, {}), facts).objects


def load(name: str) -> dict[str, Any]:
    """A YAML document of this folder."""
    document: dict[str, Any] = YAML(typ="safe").load(HERE / name)
    return document
