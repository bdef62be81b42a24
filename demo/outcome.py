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
    """Tokens of the whole run, counted four times: by model server, sidecar, rate limit service and ledger."""

    model: int
    sidecar: int
    gateway: int
    ledger: int

    @property
    def equal(self) -> bool:
        return self.model == self.sidecar == self.gateway == self.ledger


@dataclass(frozen=True, slots=True)
class Abort:
    """The stream that its client cut off. `unsent`: what the model made after the last token that it could send."""

    delivered_chunks: int
    input_tokens: int
    output_tokens: int
    unsent: int
    charged: bool

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every step's result."""

    scene: Scene
    chat: Answer
    stream: Streamed
    abort: Abort
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
            "abort": {
                "delivered_chunks": self.abort.delivered_chunks,
                "input_tokens": self.abort.input_tokens,
                "output_tokens": self.abort.output_tokens,
                "charged": self.abort.charged,
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
                "ledger": self.counts.ledger,
            },
        }


def _name(item: Mapping[str, Any]) -> dict[str, str]:
    metadata = item["metadata"]
    return {"kind": item["kind"], "namespace": metadata.get("namespace", ""), "name": metadata["name"]}
