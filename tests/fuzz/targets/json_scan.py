"""The scanner beside orjson: the same members, of the same values, however the text is cut; edits change one member."""

import json
from typing import Any

import orjson

from sidecar.json_scan import Member, ScanError, Scanner, scan, with_member, without
from tests.fuzz.cuts import pieces

JSON = True
WORDS = ("usage", "stream", "\\u0061", "\\", '"', "{", "}", "[", "]", ":", ",", "\t")


def check(data: bytes) -> None:
    """Judge one text."""
    members = _scan([data])
    assert members == _scan(pieces(data)), "the cut changes what is found"
    pairs = _pairs(data)
    if pairs is None:
        return
    assert members is not None, "a JSON object is refused"
    assert [(one.name, orjson.loads(one.value or b"")) for one in members] == pairs
    for name in {name for name, _ in pairs[:3]} | {"usage"}:
        kept = [pair for pair in pairs if pair[0] != name]
        assert _pairs(without(data, name)) == kept, name
        edited = with_member(data, name, b'{"n":1}')
        assert dict(_pairs(edited) or []).keys() == dict(pairs).keys() | {name}
        found = next(one for one in scan(edited) if one.name == name)
        assert found.value == b'{"n":1}'


def _scan(given: list[bytes]) -> list[Member] | None:
    scanner = Scanner()
    try:
        for piece in given:
            scanner.feed(piece)
    except ScanError:
        return None
    return scanner.members if scanner.complete else None


def _pairs(data: bytes) -> list[tuple[str, Any]] | None:
    """The members of a JSON object in their order, or None where orjson sees none."""
    try:
        if not isinstance(orjson.loads(data), dict):
            return None
        value = json.loads(data, object_pairs_hook=_Pairs)
    except (orjson.JSONDecodeError, RecursionError):
        return None
    # As orjson has the values: of doubles inside of them the last, and numbers as it rounds them.
    return [(name, orjson.loads(json.dumps(_plain(one)))) for name, one in value.items]


class _Pairs:
    def __init__(self, items: list[tuple[str, Any]]) -> None:
        self.items = items


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(one) for name, one in value.items}
    return [_plain(one) for one in value] if isinstance(value, list) else value
