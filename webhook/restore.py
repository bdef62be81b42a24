"""`restore(obj, old)`: the sidecar back in an object that was applied without it.

A plain apply of a file with `initContainers` or `containers` sends the whole list, without our entry, while the ports
that lead to it stay. With the stored sidecar back in place nothing else of the pod changes, not even its image.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import names

_LISTS = ("initContainers", "containers")


def restore(obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A copy of `obj` with the sidecars of the stored object that it has lost; None where it has lost none.

    Canaries are the same where their predictors have the same name.
    """
    stored = {name: _sidecar(predictor) for name, predictor in _predictors(old or {}).items()}
    lost = {
        name: there
        for name, predictor in _predictors(obj).items()
        if (there := stored.get(name)) and not _sidecar(predictor) and _takes(predictor, there[0])
    }
    if not lost:
        return None
    after = copy.deepcopy(dict(obj))
    predictors = _predictors(after)
    for name, (key, sidecar) in lost.items():
        predictors[name][key] = [*(predictors[name].get(key) or ()), copy.deepcopy(sidecar)]
    return after


def _predictors(obj: Mapping[str, Any]) -> dict[str | None, dict[str, Any]]:
    """The stable predictor under None, each canary's under its name."""
    spec = _object(obj.get("spec"))
    canaries = [_object(_object(canary).get("predictor")) for canary in _list(spec.get("canary"))]
    named: dict[str | None, dict[str, Any]] = {str(canary.get("name") or ""): canary for canary in canaries}
    return {None: _object(spec.get("predictor")), **named}


def _sidecar(predictor: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Our container and the list that it is in."""
    for key in _LISTS:
        for container in map(_object, _list(predictor.get(key))):
            variables = [_object(entry).get("name") for entry in _list(container.get("env"))]
            if container.get("name") == names.CONTAINER and "TOKEN_METER_UPSTREAM" in variables:
                return key, container
    return None


def _takes(predictor: Mapping[str, Any], key: str) -> bool:
    """Whether a container can be put there; of what is no list `isvc` tells."""
    return isinstance(predictor.get(key) or [], list)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
