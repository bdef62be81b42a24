"""A model's pod behind its sidecar, on a node: when it is ready, what it survives, and that no token is lost."""

import pytest

from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import eventually
from tests.node.conftest import Start
from tests.node.product import SERVER, SIDECAR, scale, usage

pytestmark = pytest.mark.xdist_group("node")


def test_a_pod_is_ready_only_when_the_model_answers_through_the_sidecar(predictor: Start) -> None:
    model = predictor(WAIT="for /tmp/loaded")
    eventually(lambda: bool(model.container(SERVER).get("started")))
    assert model.container(SIDECAR)["started"]  # the sidecar first: it is a native one
    assert not model.container(SIDECAR)["ready"]
    assert not model.ready
    where = f"--namespace={model.namespace}"
    model.cluster.kubectl(
        "exec", model.pod["metadata"]["name"], where, f"--container={SERVER}", "--", "touch", "/tmp/loaded"
    )
    eventually(lambda: model.ready)
    with model.reached() as port:
        status, answer = model.ask(port, model.key)
        assert (status, b'"total_tokens": 8' in answer) == (200, True)
        assert model.ask(port, "another key")[0] == 401
    eventually(lambda: usage(model.cluster, model.namespace).get("total_tokens") == 8)


def test_a_key_that_comes_late_is_waited_for_without_a_restart(
    predictor: Start, installed: NodeCluster
) -> None:
    scale(installed, "token-meter-gateway", 0)
    try:
        model = predictor()
        eventually(lambda: model.ready)
        before = model.identity()
        with model.reached() as port:
            assert model.ask(port, "any")[0] == 503
    finally:
        scale(installed, "token-meter-gateway", 2)
    with model.reached() as port:
        eventually(lambda: model.ask(port, "any")[0] == 401)
        assert model.ask(port, model.key)[0] == 200
    assert model.identity() == before


def test_a_killed_sidecar_is_restarted_alone_and_sends_what_it_had_not(
    predictor: Start, installed: NodeCluster
) -> None:
    model = predictor()
    eventually(lambda: model.ready)
    uid, _ = model.identity()
    scale(installed, "token-meter-ledger", 0)
    try:
        with model.reached() as port:
            assert [model.ask(port, model.key)[0] for _ in range(3)] == [200] * 3
        installed.kill(model.container(SIDECAR)["containerID"])
        eventually(lambda: model.identity() == (uid, {SIDECAR: 1, SERVER: 0}))
        eventually(lambda: model.ready)
    finally:
        scale(installed, "token-meter-ledger", 1)
    with model.reached() as port:
        assert model.ask(port, model.key)[0] == 200
    eventually(lambda: usage(installed, model.namespace).get("total_tokens") == 4 * 8)
    assert usage(installed, model.namespace)["requests"] == 4
    assert model.identity() == (uid, {SIDECAR: 1, SERVER: 0})
