"""`builder()`: what builds images on this machine. Docker where its engine runs, else buildah as root."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from demo.processes import DemoError
from parts import cache_folder, ensure
from tests.images import base
from tests.node.machine import apt

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("sidecar", "controller")
VERSION = "0.1.0"
TRUST = (Path("/etc/ssl/certs"), Path("/etc/pip.conf"))
"""Whom this machine trusts and where it gets packages from: there while an image is built, and not in it."""
_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


class Builder(Protocol):
    """Builds images and holds them by name."""

    def build(self, context: Path, image: str, *options: str) -> None:
        """Build the context's Dockerfile under this name; `options` are those that docker and buildah share."""

    def save(self, image: str, archive: Path) -> None:
        """Write an image as `docker load` reads it."""

    def remove(self, image: str) -> None:
        """Forget an image."""


def unavailable() -> str | None:
    """Why no image can be built here; None where it can."""
    if docker_answers():
        return None
    if sys.platform != "linux" or os.geteuid():
        return "images need a Docker engine, or Linux and root for buildah"
    if _missing() and not shutil.which("apt-get"):
        return f"images need {', '.join(_missing())}, which cannot be installed by apt here"
    return None


def docker_answers() -> bool:
    """Whether a Docker engine runs."""
    found = shutil.which("docker")
    return (
        bool(found) and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    )


def builder() -> Builder:
    """The machine's; raises DemoError where there is none."""
    if reason := unavailable():
        raise DemoError(reason)
    return Docker() if docker_answers() else Buildah(cache_folder() / "images")


def name(target: str, version: str = VERSION) -> str:
    """What the manifests call the image of a target."""
    return f"token-meter/{target}:{version}"


def build(target: str) -> str:
    """Build one of the Dockerfile's targets; returns its name."""
    builder().build(REPOSITORY, name(target), f"--target={target}")
    return name(target)


class Docker:
    """By the engine's own builder, on the Dockerfile's own base."""

    def build(self, context: Path, image: str, *options: str) -> None:
        _run("docker", "build", f"--tag={image}", *options, str(context))

    def save(self, image: str, archive: Path) -> None:
        _run("docker", "save", f"--output={archive}", image)

    def remove(self, image: str) -> None:
        _run("docker", "rmi", image)


class Buildah:
    """Without a daemon, in a store of its own, on a base that debootstrap makes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store = (f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=overlay")
        self._head = ["buildah", *store]
        self._settings = folder / "containers.conf"
        self._environment = {**os.environ, "CONTAINERS_CONF": str(self._settings)}
        self._base = f"localhost/token-meter/base:{base.suite()}"
        self._build_base = f"localhost/token-meter/build-base:{base.suite()}"

    def build(self, context: Path, image: str, *options: str) -> None:
        with self._alone():
            self._make_bases()
            bases = [f"--build-arg=BASE={self._base}", f"--build-arg=BUILD_BASE={self._build_base}"]
            self._build(context, image, *bases, *options)

    def save(self, image: str, archive: Path) -> None:
        archive.unlink(missing_ok=True)
        with self._alone():
            self._run("push", "--quiet", image, f"docker-archive:{archive}:{image}")

    def remove(self, image: str) -> None:
        with self._alone():
            self._run("rmi", "--force", image)

    def _build(self, context: Path, image: str, *options: str) -> None:
        mounts = [f"--volume={path}:{path}:ro" for path in TRUST if path.exists()]
        # No time of the build in the image, so that what is built twice is the same.
        layers = f"--layers={'false' if '--no-cache' in options else 'true'}"
        fixed = [
            "--force-rm",
            "--isolation=chroot",
            "--network=host",
            layers,
            "--timestamp=0",
            "--format=docker",
        ]
        self._run("bud", "--quiet", *fixed, *mounts, f"--tag={image}", *options, str(context))

    def _make_bases(self) -> None:
        apt(_missing())
        if self._has(self._build_base):
            return
        root = ensure(base.DebianRoot(base.suite()))
        made = self._run("from", "scratch").strip()
        self._run("add", "--quiet", made, str(root), "/")
        self._run("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", made)
        self._run("commit", "--quiet", "--rm", "--timestamp=0", "--format=docker", made, self._base)
        install = f"apt-get -qq install -y --no-install-recommends {' '.join(base.BUILD_PACKAGES)}"
        steps = f"FROM {self._base}\nRUN apt-get -qq update && {install}\n"
        folder = self._folder / "build-base"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(steps)
        self._build(folder, self._build_base)

    def _has(self, image: str) -> bool:
        done = subprocess.run(
            [*self._head, "inspect", "--type=image", image],
            env=self._environment,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def _run(self, *arguments: str) -> str:
        return _run(*self._head, *arguments, environment=self._environment)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # It makes a folder for networks, which are not used here: by default /etc/cni.
            self._settings.write_text(f'[network]\nnetwork_config_dir = "{self._folder / "networks"}"\n')
            yield


def _missing() -> list[str]:
    return [package for program, package in _PACKAGES.items() if not shutil.which(program)]


def _run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout
