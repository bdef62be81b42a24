"""Whether an object has to be written: what was asked for last (a hash on the object) and what it says now.

The hash sees what is no longer asked for, the values see what somebody else has changed; what others have added
beside ours is theirs.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.objects.metadata import Object
from isvc.names import DOMAIN

APPLIED = f"{DOMAIN}/applied"
"""Annotation on every object: the hash of what was applied."""


def stamped(desired: Object) -> Object:
    """The object with its hash on it."""
    text = json.dumps(desired, sort_keys=True, separators=(",", ":"))
    made = copy.deepcopy(desired)
    made["metadata"].setdefault("annotations", {})[APPLIED] = hashlib.sha256(text.encode()).hexdigest()[:32]
    return made


def differs(desired: Object, live: Mapping[str, Any] | None) -> bool:
    """Whether the live object lacks anything of the (stamped) desired one."""
    if live is None:
        return True
    rest = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind", "metadata")}
    wanted, has = desired["metadata"], live.get("metadata") or {}
    owners = has.get("ownerReferences") or ()
    return not (
        _within(rest, live)
        and _within(wanted.get("labels", {}), has.get("labels") or {})
        and _within(wanted["annotations"], has.get("annotations") or {})
        and all(any(_within(owner, other) for other in owners) for owner in wanted.get("ownerReferences", ()))
    )


def _within(part: Any, whole: Any) -> bool:
    """Every value of `part` is in `whole`; lists have the same length and order, as the API server keeps them."""
    match part:
        case Mapping():
            return isinstance(whole, Mapping) and all(
                key in whole and _within(value, whole[key]) for key, value in part.items()
            )
        case str():
            return bool(part == whole)
        case Sequence():
            return (
                isinstance(whole, Sequence)
                and len(part) == len(whole)
                and all(_within(one, other) for one, other in zip(part, whole, strict=True))
            )
        case _:
            return bool(part == whole)
