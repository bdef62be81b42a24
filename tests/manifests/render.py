"""The manifests as kubectl renders them."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

import parts

FOLDER = Path(__file__).parents[2] / "manifests"
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
Object = dict[str, Any]


@functools.cache
def text(*components: str) -> str:
    """`kubectl kustomize` of the base with these components."""
    if not components:
        return _kustomize(FOLDER)
    folder = FOLDER.parent / "build" / "manifests" / "-".join(components)
    folder.mkdir(parents=True, exist_ok=True)
    up = "../" * len(folder.relative_to(FOLDER.parent).parts)
    lines = [f"resources: [{up}manifests]", "components:"]
    lines += [f"  - {up}manifests/components/{name}" for name in components]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
    return _kustomize(folder)


def objects(*components: str) -> list[Object]:
    """The same as objects."""
    return [obj for obj in yaml.safe_load_all(text(*components)) if obj]


def one(kind: str, name: str, *components: str) -> Object:
    """The object of this kind and name."""
    (found,) = [o for o in objects(*components) if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def _kustomize(folder: Path) -> str:
    done = subprocess.run(
        [parts.path("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
