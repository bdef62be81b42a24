"""The operator's ConfigMap, as the controller reads it: what is wrong in it is logged and left out."""

import logging
from collections.abc import Mapping
from typing import Any

from gateway.creation import SETTING
from isvc import GatewayRef, InvalidAnnotation
from isvc.annotations import ANNOTATIONS

_LOG = logging.getLogger(__name__)


def creation(data: Mapping[str, Any]) -> GatewayRef | None:
    """The Gateway that is to be made where there is none."""
    text = data.get(SETTING)
    if not text:
        return None
    try:
        ref = ANNOTATIONS["gateway"].value(str(text), f"ConfigMap, {SETTING}")
    except InvalidAnnotation as error:
        _LOG.error("a setting is ignored: %s", error)
        return None
    return ref if isinstance(ref, GatewayRef) else None


def allowed(data: Mapping[str, Any]) -> dict[str, str]:
    """The defaults that are allowed; the others are the operator's fault, which no user's object pays for."""
    good = {}
    for name, text in data.items():
        annotation = ANNOTATIONS.get(name)
        if annotation is None or not annotation.cluster:
            continue
        try:
            annotation.value(str(text), "ConfigMap")
        except InvalidAnnotation as error:
            _LOG.error("a setting is ignored: %s", error)
        else:
            good[name] = str(text)
    return good
