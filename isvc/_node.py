"""A raw object read with its path in hand, so that a wrong type is reported by the field's full name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isvc.errors import Malformed, Path


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON object of a manifest and the path to it. Absent and null are the same, as in Kubernetes."""

    value: Mapping[str, Any]
    path: Path = ()

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def node(self, key: str) -> "Node":
        """The object under `key`, empty when it is absent."""
        return _as_node(self.value.get(key), (*self.path, key))

    def nodes(self, key: str) -> "tuple[Node, ...]":
        """The objects of the list under `key`."""
        items = self._list(key)
        if None in items:
            raise Malformed((*self.path, key, items.index(None)), "must be an object, is null")
        return tuple(_as_node(item, (*self.path, key, i)) for i, item in enumerate(items))

    def text(self, key: str) -> str | None:
        """The string under `key`."""
        value = self.value.get(key)
        if value is None or isinstance(value, str):
            return value
        raise Malformed((*self.path, key), f"must be a string, is {_kind(value)}{_quote_hint(value)}")

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings of the list under `key`."""
        items = self._list(key)
        for i, item in enumerate(items):
            if not isinstance(item, str):
                raise Malformed(
                    (*self.path, key, i), f"must be a string, is {_kind(item)}{_quote_hint(item)}"
                )
        return tuple(items)

    def strings(self, key: str) -> dict[str, str]:
        """The map of strings under `key` (labels, annotations)."""
        child = self.node(key)
        return {name: child.text(name) or "" for name in child.value}

    def number(self, key: str) -> int | None:
        """The whole number under `key`."""
        value = self.value.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise Malformed((*self.path, key), f"must be a whole number, is {_kind(value)}")

    def _list(self, key: str) -> list[Any]:
        value = self.value.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise Malformed((*self.path, key), f"must be a list, is {_kind(value)}")


def _as_node(value: Any, path: Path) -> Node:
    if value is None:
        return Node({}, path)
    if isinstance(value, Mapping):
        return Node(value, path)
    raise Malformed(path, f"must be an object, is {_kind(value)}")


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case None:
            return "null"
        case _:
            return f"a {type(value).__name__}"


def _quote_hint(value: Any) -> str:
    return f'; put it in quotes: "{str(value).lower()}"' if isinstance(value, bool | int | float) else ""
