"""Which Gateway an InferenceService goes behind."""

from typing import Any

from gateway.choice import CONTROLLER, choose
from gateway.notices import Reason
from isvc import GatewayRef, Settings

CLASSES = [
    {"metadata": {"name": "eg"}, "spec": {"controllerName": CONTROLLER}},
    {"metadata": {"name": "other"}, "spec": {"controllerName": "example.com/controller"}},
]


def gateway(name: str, class_name: str = "eg", **metadata: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "infra", "name": name, **metadata},
        "spec": {"gatewayClassName": class_name},
    }


def test_the_only_one_of_envoy_gateways_is_taken() -> None:
    found = choose(Settings(), [gateway("ours"), gateway("mesh", "other")], CLASSES, None)
    assert (found.gateway, found.notices) == (GatewayRef("infra", "ours"), ())


def test_a_named_one_is_taken_whatever_its_class() -> None:
    named = Settings(gateway=GatewayRef("infra", "mesh"))
    assert choose(named, [gateway("ours"), gateway("mesh", "other")], CLASSES, None).gateway == named.gateway


def test_where_there_is_none_it_says_so() -> None:
    named = Settings(gateway=GatewayRef("infra", "gone"))
    for settings, gateways in (
        (Settings(), [gateway("mesh", "other")]),
        (Settings(), [gateway("ours", deletionTimestamp="2026-01-01T00:00:00Z")]),
        (named, [gateway("ours")]),
    ):
        found = choose(settings, gateways, CLASSES, None)
        assert found.gateway is None
        assert [notice.reason for notice in found.notices] == [Reason.NO_GATEWAY]


def test_of_several_none_is_guessed_and_a_warning_names_them() -> None:
    found = choose(Settings(), [gateway("b"), gateway("a")], CLASSES, None)
    assert found.gateway is None
    (notice,) = found.notices
    assert (notice.reason, notice.detail) == (Reason.SEVERAL_GATEWAYS, "infra/a, infra/b")


def test_a_second_gateway_does_not_take_a_route_away() -> None:
    current = GatewayRef("infra", "a")
    found = choose(Settings(), [gateway("a"), gateway("b")], CLASSES, current)
    assert found.gateway == current
    assert [notice.reason for notice in found.notices] == [Reason.SEVERAL_GATEWAYS]
