"""The two merges that KServe uses, and its templates."""

import copy
from typing import Any

from tests.oracle.made import Object

_KEYS = {
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumes": "name",
    "imagePullSecrets": "name",
}


def strategic(base: Object, patch: Object) -> Object:
    """Kubernetes' strategic merge: objects deeply, keyed lists by key, all else replaced.

    Empty values of the patch are not sent (Go's omitempty), and so replace nothing.
    """
    merged = copy.deepcopy(base)
    for key, value in compact(patch).items():
        there = merged.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            merged[key] = strategic(there, value)
        elif isinstance(value, list) and isinstance(there, list) and key in _KEYS:
            merged[key] = _lists(there, value, _KEYS[key])
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _lists(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    """Entries merged by key, the patch's order kept and the base's put between (strategicpatch.go mergeSortedSlice)."""
    order = [item.get(key) for item in base]
    by_key = {item.get(key): item for item in base}
    right = [
        strategic(by_key[item[key]], item) if item.get(key) in by_key else compact(item) for item in patch
    ]
    patched = {item.get(key) for item in patch}
    left = [item for item in base if item.get(key) not in patched]
    merged: list[Object] = []
    while left and right:
        both = right[0].get(key) in by_key
        before = both and order.index(left[0].get(key)) < order.index(right[0].get(key))
        merged.append((left if before else right).pop(0))
    return copy.deepcopy([*merged, *left, *right])


def override(base: Any, patch: Any) -> Any:
    """mergo's Merge WithOverride: objects deeply, everything else that is not empty replaces (canary)."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(base)
    for key, value in compact(patch).items():
        merged[key] = override(merged[key], value) if key in merged else copy.deepcopy(value)
    return merged


def compact(value: Any) -> Any:
    """Without null, "" and empty lists: what a Go client's omitempty leaves of it."""
    if isinstance(value, dict):
        return {k: compact(v) for k, v in value.items() if v is not None and v not in ("", [])}
    return [compact(item) for item in value] if isinstance(value, list) else value


def fill(value: Any, fields: dict[str, str]) -> Any:
    """KServe's ReplacePlaceholders, as far as the fields of metadata go."""
    if isinstance(value, str):
        for name, text in fields.items():
            value = value.replace("{{.%s}}" % name, text)  # noqa: UP031 - the braces are the template's own
        return value
    if isinstance(value, dict):
        return {key: fill(item, fields) for key, item in value.items()}
    return [fill(item, fields) for item in value] if isinstance(value, list) else value
