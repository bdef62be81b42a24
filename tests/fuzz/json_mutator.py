"""Mutations of JSON that stay JSON: most random bytes would only show that a parser refuses garbage.

Works on a whole JSON text and on the `data:` lines of an event stream.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    1e308,
    2**31,
    2**53,
    2**64 - 1,
    2**70,
    "",
    "0",
    "a",
    "\0",
    '"',
    "\\",
    "\n",
    "é",
    "\U0001f600",
    [],
    {},
    [None],
    [[]],
    {"": None},
)
Mutate = Callable[[bytes, int], bytes]


def mutate(data: bytes, most: int, seed: int, *, words: Sequence[str], blindly: Mutate) -> bytes:
    """One mutation, at most `most` bytes long; `blindly` is the fuzzer's own of bytes."""
    chance = random.Random(seed)  # noqa: S311 no secret
    if chance.random() < 0.3:
        return blindly(data, most)
    found = _json(data, chance, words)
    if found is None and b"data:" in data:
        lines = data.split(b"\n")
        at = chance.choice([number for number, line in enumerate(lines) if b"data:" in line])
        start = lines[at].index(b"data:") + 5
        inner = _json(lines[at][start:], chance, words)
        if inner is not None:
            lines[at] = lines[at][:start] + b" " + inner
            found = b"\n".join(lines)
    if found is None or len(found) > most:
        return blindly(data, most)
    return found


def _json(data: bytes, chance: random.Random, words: Sequence[str]) -> bytes | None:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(chance.randint(1, 3)):
        tree = _edit(tree, chance, words)
    separators = (",", ":") if chance.random() < 0.7 else None
    return json.dumps(tree, ensure_ascii=chance.random() < 0.5, separators=separators).encode(
        "utf-8", "surrogatepass"
    )


def _edit(tree: Any, chance: random.Random, words: Sequence[str]) -> Any:
    places = list(_places(tree, None, None))
    holder, key, value = chance.choice(places)
    others = [place[2] for place in places]
    new = _new(value, chance, words, others)
    if holder is None:
        return new
    match chance.randrange(5):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 0:
            holder.pop(key)
        case 1 if isinstance(holder, dict):
            holder[chance.choice(words) if words else "x"] = new
        case 1:
            holder.insert(key, new)
        case 2 if isinstance(holder, dict) and words:
            holder[chance.choice(words)] = holder.pop(key)
        case _:
            holder[key] = new
    return tree


def _new(value: Any, chance: random.Random, words: Sequence[str], others: Sequence[Any]) -> Any:
    match chance.randrange(6):
        case 0:
            return json.loads(json.dumps(chance.choice(others)))
        case 1 if words:
            return chance.choice(words)
        case 2:
            return [value] if chance.random() < 0.5 else {chance.choice(words) if words else "x": value}
        case 3 if isinstance(value, str):
            at = chance.randint(0, len(value))
            return value[:at] + chance.choice(["\0", '"', "\\", "/", " ", "\r", "9" * 20, "é"]) + value[at:]
        case 3 if isinstance(value, int):
            return value * 10 + chance.randint(-11, 11)
        case _:
            return json.loads(json.dumps(chance.choice(_VALUES)))


def _places(tree: Any, holder: Any, key: Any, depth: int = 30) -> Any:
    yield holder, key, tree
    if depth and isinstance(tree, dict):
        for name, value in tree.items():
            yield from _places(value, tree, name, depth - 1)
    elif depth and isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _places(value, tree, number, depth - 1)
