"""Which Gateway an InferenceService goes behind: the one that is named, else Envoy Gateway's only one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.notices import Notice, Reason
from isvc import GatewayRef, Settings

CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
"""Envoy Gateway's name in its GatewayClasses."""
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """The Gateway, None where there is none to choose, and what is to be said about it."""

    gateway: GatewayRef | None
    notices: tuple[Notice, ...] = ()


def choose(
    settings: Settings, gateways: Iterable[Object], classes: Iterable[Object], current: GatewayRef | None
) -> Choice:
    """`current` is where its route is already: a second Gateway in the cluster moves nobody's route."""
    there = {
        GatewayRef(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj
        for obj in gateways
        if not obj["metadata"].get("deletionTimestamp")
    }
    if settings.gateway:
        if settings.gateway in there:
            return Choice(settings.gateway)
        return Choice(None, (Notice(Reason.NO_GATEWAY, f"Gateway {settings.gateway} does not exist"),))
    own = {
        obj["metadata"]["name"]
        for obj in classes
        if (obj.get("spec") or {}).get("controllerName") == CONTROLLER
    }
    fit = sorted(
        (ref for ref, obj in there.items() if (obj.get("spec") or {}).get("gatewayClassName") in own), key=str
    )
    match fit:
        case []:
            return Choice(None, (Notice(Reason.NO_GATEWAY, "no Gateway has a class of Envoy Gateway's"),))
        case [only]:
            return Choice(only)
        case _:
            notice = Notice(Reason.SEVERAL_GATEWAYS, ", ".join(map(str, fit)))
            return Choice(current if current in fit else None, (notice,))
