"""A base image made by debootstrap, for machines that pull none: this machine's Debian with its Python."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from parts.part import PartError
from parts.steps import run

PACKAGES = ("ca-certificates", "python3")
BUILD_PACKAGES = ("python3-venv",)
"""What the build needs beside them."""
_NOT_NEEDED = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "var/lib/apt/lists")


def suite() -> str:
    """Debian's code name, as in `bookworm`."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")


@dataclass(frozen=True, slots=True)
class DebianRoot:
    """A root folder's archive, kept among the parts. A new one is made when it is deleted."""

    suite: str
    name: str = "debian"
    program: str = "root.tar"

    @property
    def version(self) -> str:
        return f"{self.suite}-1"

    def installed(self) -> Path | None:
        return None

    def build(self, folder: Path) -> None:
        root = folder / "root"
        flags = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        run(self.name, ["debootstrap", *flags, self.suite, str(root)])
        for path in (*_NOT_NEEDED, "var/cache/apt", "var/log"):
            shutil.rmtree(root / path, ignore_errors=True)
            (root / path).mkdir()
        packed = ["--numeric-owner", "--sort=name", "--one-file-system", "-C", str(root), "."]
        run(self.name, ["tar", "-cf", str(folder / self.program), *packed])
        shutil.rmtree(root)

    def check(self, folder: Path) -> None:
        listed = subprocess.run(
            ["tar", "-tf", str(folder / self.program)], capture_output=True, text=True, check=False
        )
        if f".{os.sep}usr/bin/python3" not in listed.stdout.splitlines():
            raise PartError(f"{self.name}: debootstrap's {self.suite} holds no Python")
