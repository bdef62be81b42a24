"""What llama.cpp leaves out of a whole answer's usage: it counts the first choice alone (n=2, or several prompts)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.output_text import OutputText


def other_choices(choices: Sequence[Any], known: int, most_output: int | None) -> tuple[int, list[str]]:
    """The output of all choices but the first, of which `known` is that of the first: tokens that can be told, and
    the texts of those that cannot.

    A choice that ended by "length" has made as many as the limit, and all of one request have the same limit.
    """
    limit = known if _ended_by_length(choices[0]) else most_output
    told, texts = 0, []
    for choice in choices[1:]:
        if limit is not None and _ended_by_length(choice):
            told += limit
        else:
            said = OutputText()
            said.add({"choices": [choice]})
            texts += said.texts
    return told, texts


def _ended_by_length(choice: object) -> bool:
    return isinstance(choice, Mapping) and choice.get("finish_reason") == "length"
