"""What is known of one metered request, from its admission to its end."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sidecar.access import Channel
from sidecar.endpoints import Endpoint
from sidecar.usage import NOTHING, Usage


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    CLIENT_DISCONNECT = "client_disconnect"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    REJECTED = "rejected"


class CountedBy(StrEnum):
    """Where the count comes from."""

    SERVER = "server"
    RUNNING = "running_usage"
    NONE = "none"


@dataclass(slots=True)
class Record:
    """One metered request. Times are the event loop's, in seconds."""

    endpoint: Endpoint
    started: float
    request_id: str
    model: str = ""
    channel: Channel = Channel.DIRECT
    user: str | None = None
    stream: bool = False
    status: int = 0
    outcome: Outcome = Outcome.COMPLETED
    usage: Usage = NOTHING
    counted_by: CountedBy = CountedBy.NONE
    sent: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    ended: float = 0.0
    overhead: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the count is the server's own for the whole request."""
        return self.counted_by is CountedBy.SERVER

    def fields(self) -> dict[str, Any]:
        """The log line's fields: neither prompt, nor answer, nor key."""
        fields: dict[str, Any] = {
            "model": self.model,
            "endpoint": self.endpoint.value,
            "channel": self.channel.value,
            "user": self.user,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome.value,
            "input_tokens": self.usage.input,
            "output_tokens": self.usage.output,
            "total_tokens": self.usage.total,
            "cached_input_tokens": self.usage.cached_input,
            "reasoning_tokens": self.usage.reasoning,
            "counted_by": self.counted_by.value,
            "exact": self.exact,
            "request_id": self.request_id,
            "duration_ms": round((self.ended - self.started) * 1000, 3),
            "ttft_ms": round((self.first_token - self.started) * 1000, 3) if self.first_token else None,
        }
        if self.user is None:
            del fields["user"]
        return fields
