"""An answer that does not come, or not to its end: why, what the client is told, and who has to know."""

from typing import Protocol

from sidecar.errors import Refusal
from sidecar.record import Outcome


class UpstreamLost(Exception):
    """The server closed or broke the connection; `untouched` where it had not answered a byte."""

    def __init__(self, message: str, *, untouched: bool = False) -> None:
        super().__init__(message)
        self.untouched = untouched


class UpstreamTimeout(Exception):
    """The server did not answer, or not go on, in time."""


def no_answer(error: UpstreamLost | UpstreamTimeout) -> Refusal:
    """What the client is told where the server gave no answer, or none to its end."""
    if isinstance(error, UpstreamTimeout):
        return Refusal(
            504, "upstream_timeout", f"The model did not answer in time: {error}.", code="upstream_timeout"
        )
    return Refusal(502, "upstream_error", f"The model's answer was lost: {error}.", code="upstream_error")


class Sink(Protocol):
    """Takes an answer's body as it comes; called from the event loop, must not block."""

    def data(self, data: bytes) -> None:
        """The next bytes of the body, framing removed."""

    def end(self) -> None:
        """The body is whole."""

    def lost(self, error: Exception) -> None:
        """The body will not be whole."""


def lost_outcome(error: UpstreamLost | UpstreamTimeout) -> Outcome:
    """How a request ended whose answer was lost."""
    return Outcome.UPSTREAM_TIMEOUT if isinstance(error, UpstreamTimeout) else Outcome.UPSTREAM_ERROR
