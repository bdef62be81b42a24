"""What is played, before anything runs: the InferenceService, its injected form, the gateway objects made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from demo import pod, traffic
from demo.processes import DemoError
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


@dataclass(frozen=True, slots=True)
class Scene:
    """The InferenceService before and after, the objects of the gateway, and what both say."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    patch_operations: int
    model: str
    sidecar: pod.Sidecar
    objects: tuple[Mapping[str, Any], ...]
    gateway: traffic.Gateway


def load(name: str) -> dict[str, Any]:
    """A YAML document of this folder."""
    document: dict[str, Any] = YAML(typ="safe").load(HERE / name)
    return document
