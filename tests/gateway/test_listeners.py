"""Placement as the Gateway's listeners admit routes (Gateway API, AllowedRoutes)."""

from typing import Any

import pytest

from gateway.facts import Placement
from gateway.listeners import placement


def gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": "g", "namespace": "edge"},
        "spec": {"listeners": [{"name": "http", "protocol": "HTTP", "port": 80, **own} for own in listeners]},
    }


def allowing(**namespaces: Any) -> dict[str, Any]:
    return {"allowedRoutes": {"namespaces": namespaces}}


def selecting(**selector: Any) -> dict[str, Any]:
    return allowing(**{"from": "Selector", "selector": selector})


def requirement(operator: str, *values: str) -> dict[str, Any]:
    return selecting(matchExpressions=[{"key": "team", "operator": operator, "values": list(values)}])


ADMITTED = {
    "all": allowing(**{"from": "All"}),
    "labels": selecting(matchLabels={"team": "red"}),
    "its name": selecting(matchLabels={"kubernetes.io/metadata.name": "models"}),
    "an empty selector": selecting(),
    "in": requirement("In", "red", "blue"),
    "not in": requirement("NotIn", "blue"),
    "exists": requirement("Exists"),
    "https": allowing(**{"from": "All"}) | {"protocol": "HTTPS"},
    "kinds with HTTPRoute": {
        "allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}
    },
}
REFUSED = {
    "nothing said": {},
    "same": allowing(**{"from": "Same"}),
    "none": allowing(**{"from": "None"}),
    "other labels": selecting(matchLabels={"team": "blue"}),
    "a missing label": selecting(matchLabels={"stage": "red"}),
    "in others": requirement("In", "blue"),
    "not in its own": requirement("NotIn", "red"),
    "does not exist": requirement("DoesNotExist"),
    "tcp": allowing(**{"from": "All"}) | {"protocol": "TCP"},
    "other kinds": {"allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}},
}


@pytest.mark.parametrize("name", ADMITTED)
def test_a_namespace_that_is_admitted_keeps_its_routes(name: str) -> None:
    assert placement(gateway(ADMITTED[name]), "edge", "models", {"team": "red"}) is Placement.LOCAL


@pytest.mark.parametrize("name", REFUSED)
def test_routes_of_a_namespace_that_is_not_admitted_go_beside_the_gateway(name: str) -> None:
    assert placement(gateway(REFUSED[name]), "edge", "models", {"team": "red"}) is Placement.CROSS


def test_one_listener_that_admits_is_enough() -> None:
    assert placement(gateway(REFUSED["same"], ADMITTED["all"]), "edge", "models") is Placement.LOCAL


def test_the_gateways_own_namespace_is_admitted_unless_it_is_said_otherwise() -> None:
    assert placement(gateway({}), "edge", "edge") is Placement.LOCAL
    assert placement(gateway(REFUSED["none"]), "edge", "edge") is Placement.CROSS
