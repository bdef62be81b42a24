"""What is known of one metered request, from its admission to its end."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

from sidecar.access import Channel
from sidecar.endpoints import Endpoint
from sidecar.usage import NOTHING, Usage

# An event's id is random for each process, which asks the kernel once, and a number.
_PROCESS = os.urandom(12).hex()
_NUMBERS = count()


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    CLIENT_DISCONNECT = "client_disconnect"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    REJECTED = "rejected"
    METER_RESTARTED = "meter_restarted"
    """The sidecar was killed while the request was open; its next start closed the record."""


class CountedBy(StrEnum):
    """Where the count comes from."""

    SERVER = "server"
    RUNNING = "running_usage"
    TOKENIZE = "tokenize"
    TOKENIZER = "tokenizer"
    TIKTOKEN = "tiktoken"
    ESTIMATE = "estimate"
    NONE = "none"


class GatewaySaw(StrEnum):
    """The usage that went to the gateway within the answer; what it saw end, every AI Gateway charges itself."""

    NOTHING = "nothing"
    RUNNING = "running_usage"
    FINAL = "final_usage"


@dataclass(slots=True)
class Record:
    """One metered request. Times are the event loop's, in seconds; `admitted` is the clock's, since 1970.

    While an answer is under way `so_far` tells its count; `usage` and `counted_by` are the last word.
    """

    endpoint: Endpoint
    started: float
    request_id: str
    event_id: str = field(default_factory=lambda: f"{_PROCESS}{next(_NUMBERS):08x}")
    admitted: float = field(default_factory=time.time)
    model: str = ""
    gateway_model: str | None = None
    channel: Channel = Channel.DIRECT
    user: str | None = None
    stream: bool = False
    status: int = 0
    outcome: Outcome = Outcome.COMPLETED
    usage: Usage = NOTHING
    counted_by: CountedBy = CountedBy.NONE
    gateway_saw: GatewaySaw = GatewaySaw.NOTHING
    so_far: Callable[[], tuple[Usage, CountedBy]] | None = None
    sent: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    ended: float = 0.0
    # Somebody else concludes it: the answer is finished without its client.
    handed_over: bool = False
    overhead: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the count is the server's own for the whole request."""
        return self.counted_by is CountedBy.SERVER

    @property
    def charged_by_gateway(self) -> bool:
        """Whether the gateway has charged these tokens by itself."""
        return self.gateway_saw is GatewaySaw.FINAL

    def fields(self) -> dict[str, Any]:
        """The log line's fields: neither prompt, nor answer, nor key."""
        fields: dict[str, Any] = {
            "model": self.model,
            "endpoint": self.endpoint,
            "channel": self.channel,
            "user": self.user,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "input_tokens": self.usage.input,
            "output_tokens": self.usage.output,
            "total_tokens": self.usage.total,
            "cached_input_tokens": self.usage.cached_input,
            "reasoning_tokens": self.usage.reasoning,
            "counted_by": self.counted_by,
            "exact": self.exact,
            "gateway_saw": self.gateway_saw,
            "charged_by_gateway": self.charged_by_gateway,
            "request_id": self.request_id,
            "duration_ms": round((self.ended - self.started) * 1000, 3),
            "ttft_ms": round((self.first_token - self.started) * 1000, 3) if self.first_token else None,
        }
        if self.user is None:
            del fields["user"]
        return fields
