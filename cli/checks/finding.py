"""What comes of a check: one line for a person, the same as JSON for a program."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cli.checks.snapshot import Snapshot


class State(StrEnum):
    """How it stands. Only a failure makes the cluster unfit."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """It could not be looked at: this person may not read what it takes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`todo` is the command or the change that mends it; `items` are the objects concerned, each with its cause."""

    state: State
    text: str
    todo: str = ""
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """`needs` are the lists of the snapshot that it reads."""

    name: str
    needs: tuple[str, ...]
    judge: Callable[[Snapshot], Finding]

    def __call__(self, snapshot: Snapshot) -> Finding:
        """The finding; unknown where something that it needs could not be read."""
        refused = tuple(
            f"{name}: {snapshot.unreadable[name]}" for name in self.needs if name in snapshot.unreadable
        )
        if refused:
            todo = "ask as somebody who may read it (ClusterRole token-meter-check)"
            return Finding(State.UNKNOWN, "it may not be read", todo, refused)
        return self.judge(snapshot)


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(State.OK, text)


def as_json(name: str, finding: Finding) -> dict[str, Any]:
    """The contract of `-o json` (docs/check.md)."""
    return {"name": name, **asdict(finding), "items": list(finding.items)}
