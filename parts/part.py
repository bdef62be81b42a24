"""What a part is, and what goes wrong with one."""

from pathlib import Path
from typing import Protocol


class PartError(Exception):
    """A part could not be had. The text says which one, what failed and what to do."""


class Part(Protocol):
    """A real program (or model) that the cache can make.

    `version` names everything that changes the result; with `name` it is the cache's key.
    `program` is the file, relative to the part's folder, that `parts.path` gives.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def program(self) -> str: ...

    def installed(self) -> Path | None:
        """A program of this machine or environment that serves as well; None where the cache must make it."""

    def build(self, folder: Path) -> None:
        """Make the part in an empty folder; raises PartError."""

    def check(self, folder: Path) -> None:
        """Raise PartError where what was built does not run."""
