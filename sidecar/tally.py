"""Running usage of a stream: the last that each choice said, added up when somebody asks.

vLLM repeats the prompt in each choice and counts the output of that choice alone (0.33, chat_completion/serving.py);
llama.cpp's `timings` are the same. On completions a choice's index is `prompt * n + i`, and each prompt has tokens of
its own (completion/serving.py). So: the prompt of each prompt once, the outputs all together.
"""

import orjson

from sidecar.usage import Usage, read_usage


class Tally:
    """Usage as its servers wrote it, by choice. `per_prompt` is the choices that each prompt has, or None where
    there is one prompt for all (chat)."""

    __slots__ = ("_last", "_per_prompt")

    def __init__(self, per_prompt: int | None = None) -> None:
        self._per_prompt = per_prompt
        self._last: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._last)

    def note(self, index: int, usage: bytes) -> None:
        """A choice has come so far; nothing is parsed here, as this is done for every chunk."""
        self._last[index] = usage

    @property
    def usage(self) -> Usage | None:
        """All choices together; None where none has said a word."""
        prompts: dict[int, tuple[int, int]] = {}
        output = reasoning = 0
        for index, raw in self._last.items():
            usage = _read(raw)
            if usage is None:
                continue
            prompt = index // self._per_prompt if self._per_prompt else 0
            given, cached = prompts.get(prompt, (0, 0))
            prompts[prompt] = max(given, usage.input), max(cached, usage.cached_input)
            output += usage.output
            reasoning += usage.reasoning
        if not prompts:
            return None
        return Usage(
            sum(given for given, _ in prompts.values()),
            output,
            sum(cached for _, cached in prompts.values()),
            reasoning,
        )


def _read(raw: bytes) -> Usage | None:
    try:
        return read_usage(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return None
