"""What a count of tokens is, and how it is read from the many shapes that servers write it in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `input` includes `cached_input`; `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cached_input: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input + self.output


NOTHING = Usage()
# More than any request has: what says so is no count. The ledger takes no more either.
_MOST = 1_000_000_000


def read_usage(value: object) -> Usage | None:
    """Read OpenAI's `usage` object (chat, completions, embeddings, responses), vLLM's for score and rerank, llama.cpp's
    timings, or Anthropic's; None where it holds no usable count. Counts that are no natural numbers, or larger than
    any, are ignored."""
    if not isinstance(value, Mapping):
        return None
    predicted = _count(value, "predicted_n")
    if predicted is not None:
        # llama.cpp's `timings`: what it read of the prompt, and what of it was there from before.
        cached = _count(value, "cache_n") or 0
        return Usage(cached + (_count(value, "prompt_n") or 0), predicted, cached)
    prompt = _count(value, "prompt_tokens")
    if prompt is not None:
        return _openai(value, prompt, _count(value, "completion_tokens"))
    given = _count(value, "input_tokens")
    written = _count(value, "output_tokens")
    if given is None and written is None:
        # Some servers give rerank and score a total alone; what is ranked is input.
        total = _count(value, "total_tokens")
        return Usage(total) if total is not None else None
    # Anthropic's input_tokens leave the cached ones out; OpenAI's responses count them in, with details.
    if "cache_read_input_tokens" in value or "cache_creation_input_tokens" in value:
        cached = _count(value, "cache_read_input_tokens") or 0
        created = _count(value, "cache_creation_input_tokens") or 0
        return Usage((given or 0) + cached + created, written or 0, cached_input=cached)
    return _openai(value, given or 0, written)


def read_answer_usage(answer: object) -> Usage | None:
    """Usage of a whole JSON answer: `usage`, or Cohere's `meta.tokens` on rerank."""
    if not isinstance(answer, Mapping):
        return None
    found = read_usage(answer.get("usage"))
    if found is not None:
        return found
    meta = answer.get("meta")
    return read_usage(meta.get("tokens")) if isinstance(meta, Mapping) else None


def _openai(value: Mapping[str, Any], prompt: int, completion: int | None) -> Usage:
    if completion is None:
        # Embeddings, score and rerank have a total and no completion.
        completion = max((_count(value, "total_tokens") or prompt) - prompt, 0)
    cached = _detail(value, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")
    reasoning = _detail(value, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
    return Usage(prompt, completion, cached, reasoning)


def _detail(value: Mapping[str, Any], groups: tuple[str, ...], name: str) -> int:
    for group in groups:
        details = value.get(group)
        if isinstance(details, Mapping):
            return _count(details, name) or 0
    return 0


def _count(value: Mapping[str, Any], name: str) -> int | None:
    found = value.get(name)
    # bool is an int in Python; a count is not.
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= _MOST else None
