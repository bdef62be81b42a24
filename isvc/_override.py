"""What KServe makes of a canary: the stable predictor with the canary's fields over it."""

from typing import Any


def override(base: Any, patch: Any) -> Any:
    """Objects are merged, all else that is not empty replaces (KServe 0.20, predictor.go: mergo WithOverride)."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return patch
    merged = dict(base)
    for key, value in patch.items():
        if value is not None and value not in ("", [], {}):
            merged[key] = override(merged[key], value) if key in merged else value
    return merged
