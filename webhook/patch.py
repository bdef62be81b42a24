"""JSON Patch (RFC 6902) from the difference of two objects, touching only the paths that differ."""

from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

Operation = dict[str, Any]


def patch(before: Any, after: Any) -> list[Operation]:
    """The operations (`add`, `remove`, `replace`) that make `after` of `before`; none where both are the same."""
    return list(_differences(before, after, ""))


def apply(target: Any, operations: Sequence[Operation]) -> None:
    """Carry out operations of `patch` in place, so that what else hangs on `target` (comments) stays."""
    for operation in operations:
        *parents, last = [_unescape(step) for step in operation["path"].split("/")[1:]]
        parent = target
        for step in parents:
            parent = parent[int(step)] if isinstance(parent, MutableSequence) else parent[step]
        match parent, operation["op"]:
            case MutableSequence(), "add":
                parent.insert(int(last), operation["value"])
            case MutableSequence(), "remove":
                del parent[int(last)]
            case MutableSequence(), _:
                parent[int(last)] = operation["value"]
            case MutableMapping(), "remove":
                del parent[last]
            case _:
                parent[last] = operation["value"]


def _differences(before: Any, after: Any, path: str) -> "list[Operation]":
    match before, after:
        case Mapping(), Mapping():
            return _of_objects(before, after, path)
        case list(), list():
            return _of_lists(before, after, path)
        case _ if same(before, after):
            return []
        case _:
            return [{"op": "replace", "path": path, "value": after}]


def _of_objects(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> list[Operation]:
    operations = [{"op": "remove", "path": _join(path, key)} for key in before if key not in after]
    for key, value in after.items():
        if key in before:
            operations += _differences(before[key], value, _join(path, key))
        else:
            operations.append({"op": "add", "path": _join(path, key), "value": value})
    return operations


def _of_lists(before: list[Any], after: list[Any], path: str) -> list[Operation]:
    """What is alike at both ends stays; the rest is compared in pairs; what is over is added or removed."""
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and same(before[head], after[head]):
        head += 1
    tail = 0
    while tail < shorter - head and same(before[-1 - tail], after[-1 - tail]):
        tail += 1
    paired = shorter - tail
    operations: list[Operation] = []
    for i in range(head, paired):
        operations += _differences(before[i], after[i], _join(path, i))
    # From the end, so that no removal moves one that is still to come.
    operations += [
        {"op": "remove", "path": _join(path, i)} for i in reversed(range(paired, len(before) - tail))
    ]
    operations += [
        {"op": "add", "path": _join(path, i), "value": after[i]} for i in range(paired, len(after) - tail)
    ]
    return operations


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: Python's True is not 1 here."""
    match one, other:
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case _:
            return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _join(path: str, step: str | int) -> str:
    return f"{path}/{str(step).replace('~', '~0').replace('/', '~1')}"


def _unescape(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
