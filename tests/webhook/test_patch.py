"""The JSON Patch is right by the rules of `jsonpatch`, and touches no more than it must."""

import copy
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from webhook.patch import apply, patch, same

KEYS = st.sampled_from(["a", "b", "name", "x/y", "m~n", "", "0"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["", "a", "b"]), st.just(1.0)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_patch_leads_from_before_to_after(before: dict[str, Any], after: dict[str, Any]) -> None:
    operations = patch(before, after)
    assert same(jsonpatch.apply_patch(copy.deepcopy(before), operations), after)


@given(OBJECTS, OBJECTS)
def test_our_own_apply_agrees_with_jsonpatch(before: dict[str, Any], after: dict[str, Any]) -> None:
    target = copy.deepcopy(before)
    apply(target, patch(before, after))
    assert same(target, after)


@given(OBJECTS)
def test_no_difference_gives_no_operation(obj: dict[str, Any]) -> None:
    assert patch(obj, copy.deepcopy(obj)) == []


@given(OBJECTS, OBJECTS)
def test_patch_does_not_change_what_it_compares(before: dict[str, Any], after: dict[str, Any]) -> None:
    copies = copy.deepcopy((before, after))
    patch(before, after)
    assert (before, after) == copies


def test_absent_list_is_made_by_one_operation() -> None:
    assert patch({"spec": {}}, {"spec": {"volumes": [{"name": "v"}]}}) == [
        {"op": "add", "path": "/spec/volumes", "value": [{"name": "v"}]}
    ]


def test_appended_and_inserted_items_leave_the_others_untouched() -> None:
    assert patch([1, 2], [1, 2, 3]) == [{"op": "add", "path": "/2", "value": 3}]
    assert patch([1, 2], [3, 1, 2]) == [{"op": "add", "path": "/0", "value": 3}]


def test_changed_field_of_an_item_is_replaced_alone() -> None:
    assert patch([{"name": "a", "port": 1}, {"name": "b"}], [{"name": "a", "port": 2}, {"name": "b"}]) == [
        {"op": "replace", "path": "/0/port", "value": 2}
    ]


def test_true_is_not_one() -> None:
    assert patch({"a": 1}, {"a": True}) == [{"op": "replace", "path": "/a", "value": True}]
