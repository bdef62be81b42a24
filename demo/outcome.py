"""What came of a run, and the one JSON object that `--json` prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demo.client import Answer, Streamed
from demo.guide import Spent
from demo.pod import CONTAINER
from demo.scene import Scene


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of the whole run, counted three times: by the model server, the sidecar and the rate limit service."""

    model: int
    sidecar: int
    gateway: int

    @property
    def equal(self) -> bool:
        return self.model == self.sidecar == self.gateway


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every step's result."""

    scene: Scene
    chat: Answer
    stream: Streamed
    spent: Spent
    counts: Counts

    def as_json(self) -> dict[str, Any]:
        """The JSON contract of the demo (docs/demo.md)."""
        return {
            "injected": {
                "container": CONTAINER,
                "port": self.scene.sidecar.port,
                "patch_operations": self.scene.patch_operations,
            },
            "objects": [_name(item) for item in self.scene.objects],
            "chat": {"status": self.chat.status, "usage": self.chat.usage, "text": self.chat.text},
            "stream": {
                "status": self.stream.status,
                "usage": self.stream.usage,
                "chunks": self.stream.chunks,
            },
            "limit": {
                "tokens": self.scene.limit.requests,
                "window": self.scene.limit.unit.lower(),
                "status": self.spent.refusal.status,
                "headers": self.spent.headers,
            },
            "counts": {
                "model": self.counts.model,
                "sidecar": self.counts.sidecar,
                "gateway": self.counts.gateway,
            },
        }


def _name(item: Mapping[str, Any]) -> dict[str, str]:
    metadata = item["metadata"]
    return {"kind": item["kind"], "namespace": metadata.get("namespace", ""), "name": metadata["name"]}
