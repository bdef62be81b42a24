"""The targets by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

NAMES = (
    "admission_review",
    "annotations",
    "answers",
    "chunk_stream",
    "cloud_events",
    "http_request",
    "http_response",
    "json_scan",
    "request_body",
    "spool",
    "sse",
)


@dataclass(frozen=True, slots=True)
class Target:
    """`check` judges one input; `words` are what its inputs are made of, `json` whether they hold JSON."""

    name: str
    check: Callable[[bytes], None]
    words: tuple[str, ...]
    json: bool


def load(name: str) -> Target:
    """Import one target."""
    module = import_module(f"tests.fuzz.targets.{name}")
    return Target(name, module.check, getattr(module, "WORDS", ()), getattr(module, "JSON", False))
