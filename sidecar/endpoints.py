"""Which requests burn tokens, and where the model server has them.

Paths after OpenAI's API, vLLM 0.33 (its routers, with /invocations and /v2/rerank) and KServe 0.20
(`/openai` before `/v1`). A path is judged as a server would read it: percent-decoded, without doubled slashes
or dot segments, so that no spelling of a metered path goes by unmetered.
"""

import posixpath
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote_to_bytes


class Endpoint(StrEnum):
    """A metered endpoint; the value is its label in metrics, logs and events."""

    CHAT_COMPLETIONS = "chat_completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    RERANK = "rerank"
    SCORE = "score"
    MESSAGES = "messages"
    AUDIO_TRANSCRIPTIONS = "audio_transcriptions"
    AUDIO_TRANSLATIONS = "audio_translations"
    INVOCATIONS = "invocations"
    POOLING = "pooling"
    CLASSIFY = "classify"


# Below the base path (`/v1`, `/openai/v1`, ...).
_API: dict[bytes, Endpoint] = {
    b"/chat/completions": Endpoint.CHAT_COMPLETIONS,
    b"/chat/completions/batch": Endpoint.CHAT_COMPLETIONS,
    b"/completions": Endpoint.COMPLETIONS,
    b"/embeddings": Endpoint.EMBEDDINGS,
    b"/responses": Endpoint.RESPONSES,
    b"/rerank": Endpoint.RERANK,
    b"/reranking": Endpoint.RERANK,
    b"/score": Endpoint.SCORE,
    b"/messages": Endpoint.MESSAGES,
    b"/audio/transcriptions": Endpoint.AUDIO_TRANSCRIPTIONS,
    b"/audio/translations": Endpoint.AUDIO_TRANSLATIONS,
}

# The same endpoints by other names, at the root of the server: vLLM's aliases and llama.cpp's.
_ALIASES: dict[bytes, Endpoint] = {
    b"/invocations": Endpoint.INVOCATIONS,
    b"/pooling": Endpoint.POOLING,
    b"/classify": Endpoint.CLASSIFY,
    b"/score": Endpoint.SCORE,
    b"/rerank": Endpoint.RERANK,
    b"/reranking": Endpoint.RERANK,
    b"/v2/rerank": Endpoint.RERANK,
    b"/v2/embed": Endpoint.EMBEDDINGS,
    b"/inference/v1/generate": Endpoint.COMPLETIONS,
    b"/generative_scoring": Endpoint.SCORE,
    b"/chat/completions": Endpoint.CHAT_COMPLETIONS,
    b"/completions": Endpoint.COMPLETIONS,
    b"/completion": Endpoint.COMPLETIONS,
    b"/infill": Endpoint.COMPLETIONS,
    b"/embeddings": Endpoint.EMBEDDINGS,
    b"/embedding": Endpoint.EMBEDDINGS,
}

BASE_PATHS = (b"/v1", b"/openai/v1", b"/v3")

# Endpoints whose streams are OpenAI chunks, and take `stream_options`.
STREAMS_CHUNKS = frozenset({Endpoint.CHAT_COMPLETIONS, Endpoint.COMPLETIONS, Endpoint.INVOCATIONS})


# Endpoints whose requests are forms with a file of sound in them.
AUDIO = frozenset({Endpoint.AUDIO_TRANSCRIPTIONS, Endpoint.AUDIO_TRANSLATIONS})

# Endpoints whose answers are no text: what they burn is input.
NO_OUTPUT = frozenset(
    {Endpoint.EMBEDDINGS, Endpoint.RERANK, Endpoint.SCORE, Endpoint.POOLING, Endpoint.CLASSIFY}
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: `endpoint` is None where it is not metered; `below_base` is the path after the
    OpenAI base path, or None where the path has none (an alias, or a path of the server's own)."""

    endpoint: Endpoint | None
    below_base: bytes | None


@lru_cache(maxsize=1024)
def route(path: bytes) -> Route:
    """Judge a path (without query) for POST; pure, cached."""
    clean = _normalise(path)
    for base in BASE_PATHS:
        if clean.startswith(base + b"/"):
            below = clean[len(base) :]
            return Route(_API.get(below), below)
    return Route(_ALIASES.get(clean), None)


def is_model_list(path: bytes) -> bool:
    """Whether GET of this path is OpenAI's list of models."""
    return path in (b"/v1/models", b"/openai/v1/models")


def _normalise(path: bytes) -> bytes:
    if b"%" in path:
        path = unquote_to_bytes(path)
    if b"//" in path or b"/." in path:
        path = posixpath.normpath(path)
        if path.startswith(b"//"):
            path = path[1:]
    return path.rstrip(b"/") or b"/"
