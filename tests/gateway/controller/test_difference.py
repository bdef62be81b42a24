"""When an object is written, and when it is left alone."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.difference import differs, stamped
from tests.gateway.scenes import guide, one, planned

POLICY = one(planned(guide() | {"metadata": {**guide()["metadata"], "uid": "u-1"}}), "BackendTrafficPolicy")


def stored(desired: dict[str, Any]) -> dict[str, Any]:
    """As the API server keeps it: with fields of its own and defaults in lists."""
    live = copy.deepcopy(stamped(desired))
    live["metadata"] |= {"uid": "1", "resourceVersion": "7"}
    live["spec"]["targetRefs"][0]["sectionName"] = "default"
    live["status"] = {"ancestors": []}
    return live


def test_what_stands_as_it_was_applied_is_not_written() -> None:
    assert not differs(stamped(POLICY), stored(POLICY))


def test_what_is_missing_is_written() -> None:
    assert differs(stamped(POLICY), None)


def test_what_others_add_is_theirs() -> None:
    live = stored(POLICY)
    live["metadata"]["labels"]["team"] = "a"
    live["metadata"]["annotations"]["note"] = "b"
    live["metadata"]["ownerReferences"].insert(0, {"kind": "Other", "uid": "2"})
    live["spec"]["loadBalancer"] = {"type": "Random"}
    assert not differs(stamped(POLICY), live)


def test_a_field_that_is_no_longer_wanted_is_taken_away() -> None:
    less = copy.deepcopy(POLICY)
    del less["spec"]["rateLimit"]
    assert differs(stamped(less), stored(POLICY))


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, child in items:
        found += paths(child, (*path, key))
    return found


WRITTEN = [path for path in paths(stamped(POLICY)) if path[0] == "spec" or len(path) > 2]


@given(st.sampled_from(WRITTEN), st.booleans())
def test_whatever_of_ours_somebody_changes_or_removes_is_put_right(
    path: tuple[str | int, ...], remove: bool
) -> None:
    live = stored(POLICY)
    node: Any = live
    for step in path[:-1]:
        node = node[step]
    if remove:
        del node[path[-1]]
    else:
        node[path[-1]] = "another"
    assert differs(stamped(POLICY), live)
