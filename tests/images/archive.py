"""What is in an image, from its archive: its configuration, its layers and the files of each."""

import json
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

OWN_LAYERS = 2
"""The last ones: what the Dockerfile's last stages copy."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, folder or link. `content` is the SHA-256 of a file, or where a link leads."""

    mode: int
    owner: tuple[int, int]
    size: int
    content: str

    def readable_by_all(self) -> bool:
        """Whether any user may read it (and, where it is a folder or a program, enter or run it)."""
        return bool(self.mode & 0o004) and (not self.mode & 0o100 or bool(self.mode & 0o001))


@dataclass(frozen=True, slots=True)
class Image:
    """An image; `layers` map paths to what is there, the base's first."""

    config: dict[str, Any]
    layers: list[dict[str, File]]

    @property
    def files(self) -> dict[str, File]:
        """All layers' together. No layer of ours deletes anything."""
        return {path: file for layer in self.layers for path, file in layer.items()}

    @property
    def own(self) -> dict[str, File]:
        """What stands on the base."""
        return {path: file for layer in self.layers[-OWN_LAYERS:] for path, file in layer.items()}

    def below(self, folder: str) -> dict[str, File]:
        """What stands in a folder, whichever layers brought it."""
        return {path: file for path, file in self.files.items() if path.startswith(f"{folder}/")}


def read(archive: Path) -> Image:
    """An image that `docker save` wrote, or buildah."""
    with tarfile.open(archive) as saved:
        (manifest,) = json.load(_open(saved, "manifest.json"))
        config = json.load(_open(saved, manifest["Config"]))
        layers = [_layer(_open(saved, name)) for name in manifest["Layers"]]
    return Image(config, layers)


def _layer(stream: IO[bytes]) -> dict[str, File]:
    with tarfile.open(fileobj=stream) as layer:
        return {entry.name.removeprefix("./").rstrip("/"): _file(layer, entry) for entry in layer}


def _file(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> File:
    stream = layer.extractfile(entry) if entry.isfile() else None
    content = sha256(stream.read()).hexdigest() if stream else entry.linkname
    return File(entry.mode, (entry.uid, entry.gid), entry.size, content)


def _open(saved: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = saved.extractfile(name)
    assert stream is not None, name
    return stream
