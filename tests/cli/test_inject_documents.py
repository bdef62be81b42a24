"""Documents in a text: nothing is lost, and an edit touches its own place only."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cli._documents import InputError, parse, plain

LINES = st.sampled_from(
    [
        "a: 1",
        "b:",
        "  - x",
        "- y",
        "---",
        "--- # next",
        "# comment",
        "",
        "  ",
        "...",
        "%YAML 1.2",
        "c: |",
        "  text",
        "{",
        "}",
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=12), st.sampled_from(["", "\n", "\r\n"]))
def test_texts_of_the_documents_are_the_file(lines: list[str], end: str) -> None:
    text = "\n".join(lines) + end
    try:
        documents = parse(text, "f")
    except InputError:
        return
    assert "".join(document.text for document in documents) == text


def test_editing_again_starts_from_the_file() -> None:
    (document,) = parse("a: 1 # one\n", "f")
    operations = [{"op": "add", "path": "/b", "value": [1]}]
    once = document.edited(operations, {"a": 1, "b": [1]})
    assert once == "a: 1 # one\nb:\n- 1\n"
    assert document.edited(operations, {"a": 1, "b": [1]}) == once
    assert document.rewritten() == "a: 1 # one\n"


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  b:\n    - c: 1\n      d: 2\n    - e\n",
        "a:\n    b:\n    - c\n    d: 'x'\n",
        'a: {b: 1, c: [1, "2"]}\n\n# between\nd: "x"\n',
        "--- # first\na: yes\n",
        "a: |\n  --- \n  text\n\nb: >-\n  folded\n  text\n",
        "a: ~\nb: 0644\nc: 2026-01-01T00:00:00Z\nd: 1.50\n",
    ],
)
def test_round_trip_keeps_what_people_write(text: str) -> None:
    (document,) = parse(text, "f")
    expected = text.replace("a: ~", "a:")
    assert document.rewritten() == expected


def test_merge_keys_are_read_as_what_they_stand_for() -> None:
    (document,) = parse("base: &b {x: 1}\nc:\n  <<: *b\n  y: 2\n", "f")
    assert document.value["c"] == {"y": 2, "x": 1}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("ab: #-'\"\n", max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON, min_size=1, max_size=3), JSON)
def test_what_is_edited_in_is_what_comes_out(obj: dict[str, Any], added: Any) -> None:
    (document,) = parse(yaml.safe_dump(obj, sort_keys=False, width=2**16), "f")
    after = {**copy.deepcopy(obj), "new": added}
    text = document.edited([{"op": "add", "path": "/new", "value": added}], after)
    (again,) = parse(text, "f")
    assert plain(again.value) == after
