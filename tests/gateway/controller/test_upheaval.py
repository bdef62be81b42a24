"""What a cluster does to a controller: leaders that freeze, an API server that restarts, APIs that come and change."""

import os
import signal
from collections.abc import Iterator

import pytest

from gateway.facts import Capabilities
from gateway.resources import PLURALS, api_version
from tests import crds
from tests.cluster import official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import Run
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import Start
from tests.gateway.controller.scene import Scene
from tests.gateway.controller.test_controller import CROSS, counted

pytestmark = crds.needed


def leads(run: Run) -> bool:
    try:
        return counted(run.port, "token_meter_gateway_leader") == 1
    except OSError:  # it does not listen yet
        return False


def writes(run: Run) -> float:
    return counted(run.port, "token_meter_gateway_writes")


def test_a_leader_that_froze_writes_nothing_when_it_thaws(start: Start, scene: Scene) -> None:
    """The other one takes over meanwhile; never do two lead."""
    first = start()
    scene.serve("a")
    eventually(lambda: leads(first) and "a" in str(scene.made()))
    second = start()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        eventually(lambda: leads(second))
        scene.serve("b", model="other")
        eventually(lambda: scene.routed() == ["llama", "other"])
    finally:
        os.kill(first.pid, signal.SIGCONT)
    before = writes(first)
    scene.serve("c", model="third")
    eventually(lambda: scene.routed() == ["llama", "other", "third"])
    eventually(lambda: not leads(first))
    assert leads(second)
    assert writes(first) == before


def test_a_leader_that_is_killed_is_followed_and_one_that_ends_hands_over(start: Start, scene: Scene) -> None:
    first = start()
    eventually(lambda: leads(first))
    second = start()
    first.kill()
    scene.serve("a")
    eventually(lambda: leads(second) and scene.routed() == ["llama"])
    third = start()
    second.stop()
    eventually(lambda: leads(third))


def test_an_api_server_that_restarts_is_followed_again(start: Start, scene: Scene) -> None:
    run = start(RESYNC_SECONDS="300")
    scene.serve("a")
    eventually(lambda: scene.routed() == ["llama"])
    scene.plane.restart_api_server()
    scene.serve("b", model="other")
    eventually(lambda: scene.routed() == ["llama", "other"])
    scene.run("delete", "isvc", "a")
    eventually(lambda: scene.routed() == ["other"])
    assert run.running


def test_a_place_that_etcd_has_compacted_away_means_listing_again(start: Start, scene: Scene) -> None:
    """The controller sleeps through changes and a compaction: its watches' places are gone."""
    run = start(RESYNC_SECONDS="300")
    scene.serve("a")
    eventually(lambda: scene.routed() == ["llama"])
    os.kill(run.pid, signal.SIGSTOP)
    try:
        scene.serve("b", model="other")
        scene.run("delete", "isvc", "a")
        scene.plane.compact()
        scene.plane.restart_api_server()  # its own memory of the past goes too
    finally:
        os.kill(run.pid, signal.SIGCONT)
    eventually(lambda: scene.routed() == ["other"])


def test_what_goes_by_another_hand_leaves_nothing_at_the_gateway(start: Start, scene: Scene) -> None:
    """As where the garbage collector is faster than the controller, which then has nothing to delete itself.

    The collector may take longer than the Lease holds, after which all is looked at anyway: the test does its part.
    """
    run = start(RESYNC_SECONDS="300")
    scene.serve()
    eventually(lambda: ("ClientTrafficPolicy", "infra") in scene.kinds())
    os.kill(run.pid, signal.SIGSTOP)
    try:
        scene.run("delete", "isvc", "m", "--wait=false")
        kinds = ",".join(plural_and_group(kind) for kind in PLURALS if kind != "ClientTrafficPolicy")
        scene.run("delete", kinds, "--selector=app.kubernetes.io/managed-by=token-meter", "--wait=false")
        eventually(lambda: scene.kinds() == {("ClientTrafficPolicy", "infra")})
    finally:
        os.kill(run.pid, signal.SIGCONT)
    scene.nothing_is_left()


def plural_and_group(kind: str) -> str:
    """As kubectl takes it without doubt."""
    group, _, version = api_version(kind, Capabilities()).rpartition("/")
    return f"{PLURALS[kind]}.{version}.{group}" if group else PLURALS[kind]


def test_an_inferenceservice_as_large_as_the_api_takes_holds_up_nobody(start: Start, scene: Scene) -> None:
    start()
    scene.serve("large", model="large")
    env = {"name": "BULK", "value": "x" * 1_300_000}
    model = {"modelFormat": {"name": "huggingface"}, "name": "", "env": [env]}
    body = {"spec": {"predictor": {"model": model}}}
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{scene.models}/inferenceservices/large"
    answer = scene.plane.client.request("PATCH", path, body, "application/merge-patch+json")
    assert answer.status == 200, str(answer.body)[:300]
    scene.serve("small", model="small")
    eventually(lambda: "small" in scene.routed() and len(scene.routed()) == 2)


@pytest.fixture
def no_ai_gateway(plane: ControlPlane) -> Iterator[None]:
    """AI Gateway is not installed; afterwards the newest is."""
    official.remove_ai_gateway(plane.client)
    yield
    official.replace_ai_gateway(plane.client, official.newest_ai_gateway())


@pytest.mark.usefixtures("no_ai_gateway")
def test_ai_gateway_may_come_after_it_and_be_upgraded_under_it(start: Start, scene: Scene) -> None:
    """From none to 0.3, which cannot name a backend's namespace, to the newest; the model is beside no Gateway."""
    scene.listen("Same")
    start()
    scene.serve()
    official.install_ai_gateway(scene.plane.client, "v0.3.0")
    eventually(lambda: ("AIGatewayRoute", "infra") in scene.kinds("v1alpha1"))
    eventually(lambda: ("AIServiceBackend", "infra") in scene.kinds("v1alpha1"))
    official.upgrade_ai_gateway(scene.plane, official.newest_ai_gateway())
    eventually(lambda: scene.kinds() == CROSS)
    scene.run("delete", "isvc", "m")
    scene.nothing_is_left()
