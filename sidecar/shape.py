"""How a stream is written by its server, and what of its usage its client is to have."""

from dataclasses import dataclass
from enum import Enum


class Delivery(Enum):
    """What a client gets of the usage."""

    AS_SENT = "as_sent"
    ON_LAST_CHUNK = "on_last_chunk"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Shape:
    """How a server writes a stream. `per_prompt`: see Tally."""

    per_prompt: int | None = None
    several: bool = False
    """More than one choice: what is passed on of the usage is their sum, for a reader who takes the last."""
    usage_per_choice: bool = False
    """llama.cpp: running usage is called `timings`, and each choice ends with a usage chunk of its own."""
    strip_timings: bool = False
    strip_token_ids: bool = False
