"""The Gateway that the cluster's settings ask for: made where there is none, kept, never in anybody's way."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import creation
from gateway.choice import CONTROLLER
from isvc import GatewayRef
from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.controller import SYSTEM
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import Start
from tests.gateway.controller.scene import Scene
from tests.manifests.render import objects

REF = GatewayRef("infra", "made")


def a_class(name: str, controller: str = CONTROLLER) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"controllerName": controller}}


def a_gateway(name: str, class_name: str, namespace: str = "infra") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"gatewayClassName": class_name}}


def made(gateways: list[dict[str, Any]], classes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(obj["kind"], obj["metadata"]["name"]) for obj in creation.wanted(REF, gateways, classes)]


def test_where_there_is_nothing_both_are_made() -> None:
    assert made([], [a_class("istio", "istio.io/gateway")]) == [
        ("GatewayClass", "token-meter"),
        ("Gateway", "made"),
    ]


def test_envoy_gateways_class_is_taken_where_there_is_one() -> None:
    (gateway,) = creation.wanted(REF, [], [a_class("eg")])
    assert gateway["spec"]["gatewayClassName"] == "eg"


def test_what_was_made_stays_as_it_was_made() -> None:
    first = creation.wanted(REF, [], [])
    assert creation.wanted(REF, [first[1]], [first[0]]) == first
    assert creation.wanted(REF, [first[1]], [first[0], a_class("eg")]) == first


@pytest.mark.parametrize("theirs", [a_gateway("other", "eg", "edge"), a_gateway("made", "istio")])
def test_somebody_elses_gateway_is_left_alone_and_enough(theirs: dict[str, Any]) -> None:
    assert made([theirs], [a_class("eg")]) == []


@pytest.fixture
def asked(scene: Scene) -> Iterator[GatewayRef]:
    """No Gateway, and the setting."""
    ref = GatewayRef(scene.infra, "made")
    scene.plane.kubectl("delete", "gateways.gateway.networking.k8s.io", "--all", f"--namespace={scene.infra}")
    scene.plane.apply(
        obj for obj in objects("create-gateway") if obj["metadata"]["name"] == "token-meter-create-gateway"
    )
    setting(scene, str(ref))
    yield ref
    setting(scene, None)


def setting(scene: Scene, value: str | None) -> None:
    patch = json.dumps({"data": {creation.SETTING: value}})
    scene.plane.kubectl(
        "patch", "configmap", "token-meter", f"--namespace={SYSTEM}", "--type=merge", f"--patch={patch}"
    )


@crds.needed
def test_a_model_is_served_where_nobody_has_made_a_gateway(
    asked: GatewayRef, start: Start, scene: Scene
) -> None:
    """It is made, a model goes behind it; an edit is put right; without the setting it stays."""

    def listeners() -> list[dict[str, Any]]:
        try:
            gateway = scene.plane.get("gateways.gateway.networking.k8s.io", asked.name, asked.namespace)
        except KubectlError:
            return []
        found: list[dict[str, Any]] = gateway["spec"]["listeners"]
        return found

    start()
    scene.serve()
    eventually(lambda: ("AIGatewayRoute", "models") in scene.kinds())
    assert listeners()[0]["port"] == 80
    patch = json.dumps([{"op": "replace", "path": "/spec/listeners/0/port", "value": 81}])
    where = f"--namespace={asked.namespace}"
    scene.plane.kubectl(
        "patch", "gateways.gateway.networking.k8s.io", asked.name, where, "--type=json", f"--patch={patch}"
    )
    eventually(lambda: listeners()[0]["port"] == 80)
    setting(scene, None)
    scene.run("delete", "isvc", "m")
    scene.nothing_is_left()
    assert listeners()
