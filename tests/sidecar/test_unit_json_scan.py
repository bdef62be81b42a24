"""Finding and changing a member of a JSON object without touching the rest of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.json_scan import ScanError, Scanner, scan, with_member, without

NAMES = st.text(max_size=6) | st.sampled_from(["usage", "stream", "a\\b", 'q"q', "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
FORMATS = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}])


def dump(value: Any, style: dict[str, Any]) -> bytes:
    return json.dumps(value, **style).encode("utf-8", "surrogatepass")


@given(OBJECTS, FORMATS, st.data())
def test_every_member_is_found_with_its_own_bytes_however_the_text_is_split(
    value: dict[str, Any], style: dict[str, Any], data: st.DataObject
) -> None:
    text = dump(value, style)
    scanner = Scanner()
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        scanner.feed(rest[:size])
        rest = rest[size:]
    assert scanner.complete
    found = {
        member.name: json.loads(text[member.value_start : member.value_end]) for member in scanner.members
    }
    assert found == value
    assert [member.value for member in scanner.members] == [
        text[member.value_start : member.value_end] for member in scanner.members
    ]


@given(OBJECTS, FORMATS)
def test_removing_a_member_leaves_the_others_as_they_were(
    value: dict[str, Any], style: dict[str, Any]
) -> None:
    for name in value:
        left = json.loads(without(dump(value, style), name))
        assert left == {key: item for key, item in value.items() if key != name}
        assert list(left) == [key for key in value if key != name]


@given(OBJECTS, FORMATS, NAMES, VALUES)
def test_setting_a_member_changes_nothing_else(
    value: dict[str, Any], style: dict[str, Any], name: str, new: Any
) -> None:
    changed = with_member(dump(value, style), name, json.dumps(new).encode())
    assert json.loads(changed) == {**value, name: new}


def test_numbers_and_escapes_of_other_members_keep_their_bytes() -> None:
    text = b'{ "big": 123456789012345678901234567890, "small": 1.0E-7,"e":"\\u00e9\\/" , "x" : 1 }'
    assert with_member(text, "x", b"2") == text.replace(b'"x" : 1', b'"x" : 2')


@pytest.mark.parametrize("text", [b"[1]", b"1", b'{"a" 1}', b"{1:2}", b'{"a":}', b'{"a":1}x', b'{"a":1', b""])
def test_what_is_no_whole_object_is_refused(text: bytes) -> None:
    with pytest.raises(ScanError):
        scan(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_refused(text: bytes) -> None:
    try:
        scan(text)
    except ScanError:
        with pytest.raises(ScanError):
            scan(text)


def test_a_value_too_long_to_keep_is_still_found() -> None:
    text = b'{"prompt":"' + b"x" * 100_000 + b'","usage":{"n":1}}'
    prompt, usage = scan(text)
    assert prompt.value is None
    assert usage.value == b'{"n":1}'
