"""The kubelet's part: what the injected InferenceService says of our container, run on this machine.

The sidecar gets the container's own environment and HOSTNAME, nothing else; its volumes become folders, and a
mount path in a value of the environment becomes that folder's path.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import DemoError
from demo.traffic import Backend
from demo.values import UnsupportedError

CONTAINER = "token-meter"
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Our container in an injected InferenceService. `secrets`: mount path -> name of the Secret."""

    env: Mapping[str, str]
    port: int
    admin_port: int
    secrets: Mapping[str, str]


def sidecar_of(isvc: Object) -> Sidecar:
    """Our container in the predictor; raises DemoError where it is not there or cannot be run here."""
    predictor = isvc["spec"]["predictor"]
    containers = [*predictor.get("initContainers", []), *predictor.get("containers", [])]
    found = next((container for container in containers if container["name"] == CONTAINER), None)
    if found is None:
        raise DemoError(f"the injected InferenceService has no container called {CONTAINER}")
    env = {entry["name"]: _literal(entry) for entry in found.get("env", [])}
    volumes = {volume["name"]: volume for volume in predictor.get("volumes", [])}
    secrets = {
        mount["mountPath"].rstrip("/"): volumes[mount["name"]]["secret"]["secretName"]
        for mount in found.get("volumeMounts", [])
        if "secret" in volumes.get(mount["name"], {})
    }
    return Sidecar(env, int(env["TOKEN_METER_PORT"]), int(env["TOKEN_METER_ADMIN_PORT"]), secrets)


def mount(sidecar: Sidecar, objects: Iterable[Object], folder: Path) -> dict[str, str]:
    """Write the mounted Secrets into `folder`; return the environment with paths that lead there."""
    secrets = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Secret"}
    env = dict(sidecar.env)
    for path, name in sidecar.secrets.items():
        place = folder / path.strip("/").replace("/", "-")
        place.mkdir(mode=0o700)
        # Optional volumes: where the Secret is not among the objects the folder stays empty, as in the pod.
        for key, value in _data(secrets.get(name, {})).items():
            (place / key).write_bytes(value)
        env = {
            key: f"{place}{value.removeprefix(path)}" if value.startswith(f"{path}/") else value
            for key, value in env.items()
        }
    return env


def target_port(backend: Backend, objects: Iterable[Object]) -> int:
    """Where a Backend's host and port lead: the demo's DNS and kube-proxy, which know the Services of the objects."""
    for item in objects:
        metadata = item["metadata"]
        if item["kind"] == "Service" and backend.host.startswith(
            f"{metadata['name']}.{metadata['namespace']}.svc"
        ):
            for port in item["spec"]["ports"]:
                if port["port"] == backend.port:
                    return int(port.get("targetPort", port["port"]))
    raise UnsupportedError(f"no Service among the objects is {backend.host}:{backend.port}")


def _data(secret: Object) -> dict[str, bytes]:
    encoded = {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}
    return encoded | {key: value.encode() for key, value in secret.get("stringData", {}).items()}


def _literal(entry: Object) -> str:
    if "valueFrom" in entry:
        raise DemoError(
            f"the sidecar's {entry['name']} comes from the cluster (valueFrom); the demo has none"
        )
    return str(entry.get("value", ""))
