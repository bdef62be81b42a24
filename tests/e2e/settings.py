"""What is installed, as the files beside this one say it."""

import tomllib
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
MANIFESTS = FOLDER.parents[1] / "manifests"
VERSIONS: dict[str, str] = tomllib.loads((FOLDER / "versions.toml").read_text())
IMAGES = ("controller", "sidecar")
"""The Dockerfile's targets."""


def documents(name: str) -> list[Any]:
    """The objects of one file in `objects/`."""
    return list(yaml.safe_load_all((FOLDER / "objects" / f"{name}.yaml").read_text()))


def valkey() -> list[Any]:
    """Valkey's objects with the image of versions.toml."""
    *others, deployment = documents("valkey")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = VERSIONS["valkey"]
    return [*others, deployment]


def inference_service() -> dict[str, Any]:
    """The InferenceService of the flow."""
    (found,) = documents("inferenceservice")
    return dict(found)
