"""The webhook is down: what is stored, what is refused, and that it comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.conftest import Namespace
from tests.cluster.installation import MANIFESTS, Installation, eventually
from tests.cluster.load import Load
from tests.cluster.owner import Owner
from tests.cluster.shapes import inference_service, sidecars

pytestmark = crds.needed
IN_A_ROW = 20
"""Answers by which one knows that the API server goes to one of two endpoints no more."""
POLICY = MANIFESTS / "components" / "closed" / "policy.yaml"


@pytest.fixture
def down(installed: Installation) -> Iterator[None]:
    """No replica runs during the test."""
    installed.stop()
    yield
    installed.start(1)


@pytest.fixture
def closed(installed: Installation) -> Iterator[Path]:
    """The closed component's policy stands, and is enforced."""
    plane = installed.plane
    plane.kubectl("apply", "-f", str(POLICY))
    yield POLICY
    plane.kubectl("delete", "-f", str(POLICY))
    eventually(installed.accepts_without_sidecar)


def test_an_inference_service_is_stored_without_a_sidecar(
    installed: Installation, namespace: Namespace, down: None
) -> None:
    owner = Owner(installed, inference_service("guide", namespace()))
    owner.file("apply")
    assert sidecars(owner.stored()) == []


def test_the_closed_component_refuses_it_and_says_why(
    installed: Installation, namespace: Namespace, closed: Path, down: None
) -> None:
    eventually(lambda: not installed.accepts_without_sidecar())
    owner = Owner(installed, inference_service("guide", namespace()))
    with pytest.raises(KubectlError, match=r"without the token-meter sidecar.*webhook is down"):
        owner.file("apply")
    predictive = inference_service("guide", owner.manifest["metadata"]["namespace"])
    predictive["spec"]["predictor"] = {"model": {"modelFormat": {"name": "sklearn"}}}
    Owner(installed, predictive).file("apply")


def test_the_closed_component_lets_through_who_has_the_sidecar(
    installed: Installation, namespace: Namespace, closed: Path
) -> None:
    owner = Owner(installed, inference_service("guide", namespace()))
    owner.file("apply")
    owner.add_argument()
    owner.file("apply")
    assert len(sidecars(owner.stored())) == 1


def test_a_killed_replica_costs_nobody_an_admission_and_no_sidecar_once_its_endpoint_is_gone(
    installed: Installation,
) -> None:
    """Until the API server has seen the endpoint go it may ask the dead one: that is stored without a sidecar."""
    installed.start(1)
    with Load(installed.create_probe) as during:
        eventually(lambda: during.count >= IN_A_ROW)
        assert during.bare == []
        installed.replicas.pop(0).kill()
        eventually(lambda: all(installed.probe() for _ in range(IN_A_ROW)))
    assert during.refused == []
    with Load(installed.create_probe) as after:
        eventually(lambda: after.count >= 100)
    assert after.refused == after.bare == []
