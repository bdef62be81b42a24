"""The controller on a real API server, as its ServiceAccount: what it makes, keeps right and takes away."""

import json
from typing import Any

import pytest

from tests import crds
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import Start
from tests.gateway.controller.scene import Scene
from tests.gateway.scenes import llm

pytestmark = crds.needed
BESIDE_MODEL = {
    ("Secret", "models"),
    ("Service", "models"),
    ("Backend", "models"),
    ("AIServiceBackend", "models"),
    ("BackendSecurityPolicy", "models"),
}
LOCAL = {
    *BESIDE_MODEL,
    ("AIGatewayRoute", "models"),
    ("BackendTrafficPolicy", "models"),
    ("ClientTrafficPolicy", "infra"),
}
CROSS = {
    *BESIDE_MODEL,
    ("ReferenceGrant", "models"),
    ("AIGatewayRoute", "infra"),
    ("BackendTrafficPolicy", "infra"),
    ("ClientTrafficPolicy", "infra"),
}
PLACEMENTS = pytest.mark.parametrize(("origin", "kinds"), [("All", LOCAL), ("Same", CROSS)])


@PLACEMENTS
def test_a_ready_one_gets_its_objects_and_leaves_none_behind(
    origin: str, kinds: set[tuple[str, str]], start: Start, scene: Scene
) -> None:
    scene.listen(origin)
    start()
    scene.serve(ready=False)
    eventually(lambda: scene.kinds() == {("Secret", "models")})
    (early,) = scene.made().values()

    scene.ready()
    eventually(lambda: scene.kinds() == kinds)
    secret = scene.made()["Secret", "models", "token-meter-m-key"]
    assert secret["data"] == early["data"]
    eventually(lambda: "GatewayObjectsApplied" in scene.told())

    scene.ready(status="False")  # pods that are away for a while take no route along
    scene.run("annotate", "isvc", "m", "team=a")
    scene.run("delete", "isvc", "m")
    scene.nothing_is_left()


@PLACEMENTS
def test_nothing_is_written_where_nothing_changes(
    origin: str, kinds: set[tuple[str, str]], start: Start, scene: Scene
) -> None:
    scene.listen(origin)
    run = start(RESYNC_SECONDS="0.3")
    scene.serve()
    eventually(lambda: scene.kinds() == kinds)
    before, writes = versions(scene), counted(run.port, "token_meter_gateway_writes")
    reconciles = counted(run.port, "token_meter_gateway_reconcile_seconds_count")
    eventually(lambda: counted(run.port, "token_meter_gateway_reconcile_seconds_count") > reconciles + 20)
    assert versions(scene) == before
    assert counted(run.port, "token_meter_gateway_writes") == writes


def versions(scene: Scene) -> dict[tuple[str, str, str], str]:
    return {name: obj["metadata"]["resourceVersion"] for name, obj in scene.made().items()}


def counted(port: int, metric: str) -> float:
    """The sum of a metric's samples."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{metric} ", f"{metric}{{")))


@PLACEMENTS
def test_a_namespace_that_opts_out_loses_all_but_the_key_of_a_sidecar_that_asks_for_it(
    origin: str, kinds: set[tuple[str, str]], start: Start, scene: Scene
) -> None:
    scene.listen(origin)
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == kinds)
    scene.plane.kubectl("label", "namespace", scene.models, "token-meter.dev/injection-")
    eventually(lambda: scene.kinds() == {("Secret", "models")})


def test_the_route_moves_where_the_listener_admits_it(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == LOCAL)
    scene.listen("Same")
    eventually(lambda: scene.kinds() == CROSS)
    scene.listen("All")
    eventually(lambda: scene.kinds() == LOCAL)


def test_the_limit_follows_the_annotation(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: limit(scene) == 1000)
    scene.run("annotate", "isvc", "m", "token-meter.dev/limit=5/minute")
    eventually(lambda: limit(scene) == 5)
    scene.run("annotate", "isvc", "m", "token-meter.dev/limit=off", "--overwrite")
    eventually(lambda: "rateLimit" not in policy(scene)["spec"])


def policy(scene: Scene) -> dict[str, Any]:
    return scene.made().get(("BackendTrafficPolicy", "models", "token-meter-m"), {"spec": {}})


def limit(scene: Scene) -> int | None:
    rules = policy(scene)["spec"].get("rateLimit", {}).get("global", {}).get("rules")
    return rules[0]["limit"]["requests"] if rules else None


def test_a_stopped_one_keeps_only_its_key_and_is_served_again_when_it_is_started(
    start: Start, scene: Scene
) -> None:
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == LOCAL)
    scene.run("annotate", "isvc", "m", "serving.kserve.io/stop=true")
    eventually(lambda: scene.kinds() == {("Secret", "models")})
    scene.run("annotate", "isvc", "m", "serving.kserve.io/stop-")
    eventually(lambda: scene.kinds() == LOCAL)


def test_another_served_name_and_another_predictors_name_are_followed(start: Start, scene: Scene) -> None:
    """The route asks for the new name; the Service finds the pods that KServe names anew."""
    start()
    scene.serve(model="before")
    eventually(lambda: scene.routed() == ["before"] and selector(scene) == {"app": "isvc.m-predictor"})
    scene.serve(model="after")
    eventually(lambda: scene.routed() == ["after"])
    renamed = llm("m", scene.models, args=["--model_name=after"])
    renamed["spec"]["predictor"]["name"] = "blue"
    scene.store(renamed)
    eventually(lambda: selector(scene) == {"app": "isvc.m-blue-predictor"})
    assert scene.routed() == ["after"]


def selector(scene: Scene) -> dict[str, str]:
    """By what our Service finds the pods."""
    found = scene.made().get(("Service", "models", "token-meter-m"), {})
    return dict(found.get("spec", {}).get("selector") or {})


def test_an_edit_is_taken_back_and_a_deleted_object_made_again(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: limit(scene) == 1000)
    name = "backendtrafficpolicy/token-meter-m"
    rules = policy(scene)["spec"]["rateLimit"]["global"]["rules"]
    rules[0]["limit"]["requests"] = 9
    patch = {"spec": {"rateLimit": {"global": {"rules": rules}}}}
    scene.run("patch", name, "--type=merge", f"-p={json.dumps(patch)}")
    eventually(lambda: limit(scene) == 1000)
    uid = policy(scene)["metadata"]["uid"]
    scene.run("delete", name)
    eventually(lambda: policy(scene).get("metadata", {}).get("uid", uid) != uid)


def test_another_managers_apply_is_reported_and_not_fought(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == LOCAL)
    theirs = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "token-meter-m", "namespace": scene.models},
        "spec": {"retry": {"numRetries": 7}},
    }
    scene.apply(theirs)
    eventually(lambda: "FieldConflict" in scene.told())
    assert policy(scene)["spec"]["retry"]["numRetries"] == 7


def test_ones_own_policy_on_the_route_takes_the_place_of_ours(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == LOCAL)
    ref = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "token-meter-m"}
    own = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "own", "namespace": scene.models},
        "spec": {"targetRefs": [ref]},
    }
    scene.apply(own)
    eventually(lambda: scene.kinds() == LOCAL - {("BackendTrafficPolicy", "models")})
    scene.run("delete", "backendtrafficpolicy", "own")
    eventually(lambda: scene.kinds() == LOCAL)


def test_of_two_with_one_model_name_the_older_keeps_it_until_it_goes(start: Start, scene: Scene) -> None:
    start()
    scene.serve("a")
    eventually(lambda: scene.routed() == ["llama"])
    scene.serve("b")
    eventually(lambda: scene.routed() == ["llama", f"{scene.models}/llama"])
    eventually(lambda: "ModelNameTaken" in scene.told())
    scene.run("delete", "isvc", "a")
    eventually(lambda: scene.routed() == ["llama"])


def test_where_there_are_several_gateways_it_asks_and_moves_nobody(start: Start, scene: Scene) -> None:
    start()
    scene.serve("a")
    eventually(lambda: scene.routed() == ["llama"])
    before = versions(scene)
    other = json.loads(json.dumps(scene.gateway))
    other["metadata"]["name"] = "other"
    other["spec"]["listeners"] = [{"name": "http", "port": 81, "protocol": "HTTP"}]
    scene.apply(other)
    eventually(lambda: "SeveralGateways" in scene.told())
    assert versions(scene) == before
    scene.serve("b", gateway=f"{scene.infra}/other")
    eventually(lambda: ("AIGatewayRoute", "infra") in scene.kinds())


def test_a_gateway_that_goes_and_comes_back_takes_the_route_along(start: Start, scene: Scene) -> None:
    start()
    scene.serve()
    eventually(lambda: scene.kinds() == LOCAL)
    scene.plane.kubectl("delete", "gateways.gateway.networking.k8s.io", "gw", f"--namespace={scene.infra}")
    eventually(lambda: scene.kinds() == {("Secret", "models")})
    eventually(lambda: "NoGateway" in scene.told())
    scene.listen("All")
    eventually(lambda: scene.kinds() == LOCAL)


def test_a_controller_that_is_killed_in_between_is_carried_on_from_where_it_stood(
    start: Start, scene: Scene
) -> None:
    scene.listen("Same")
    first = start()
    names = [f"m{number}" for number in range(20)]
    for name in names:
        scene.serve(name)
    eventually(lambda: ("Secret", "models") in scene.kinds())
    first.kill()
    secrets = {name: obj["data"] for name, obj in scene.made().items() if name[0] == "Secret"}
    start()  # takes the Lease once it has not been renewed for as long as it holds
    eventually(lambda: len(scene.routed()) == 20)
    made = scene.made()
    assert {name: made[name]["data"] for name in secrets} == secrets
    assert len(set(scene.routed())) == 20
    scene.run("delete", "isvc", "--all")
    scene.nothing_is_left()


def test_one_that_cannot_be_read_keeps_what_it_has_and_holds_up_nobody(start: Start, scene: Scene) -> None:
    start()
    scene.serve("a")
    eventually(lambda: scene.kinds() == LOCAL)
    before = versions(scene)
    scene.run("annotate", "isvc", "a", "token-meter.dev/limit=many")
    scene.serve("b", model="another")
    eventually(lambda: scene.routed() == ["another", "llama"])
    assert before.items() <= versions(scene).items()


def test_who_was_there_before_the_label_is_told(start: Start, scene: Scene) -> None:
    start()
    obj = llm("old", scene.models)
    del obj["metadata"]["uid"]
    scene.apply(obj)
    eventually(lambda: "NotInjected" in scene.told())
    assert not scene.made()


def test_a_name_too_long_for_kserves_label_is_told(start: Start, scene: Scene) -> None:
    start()
    for name in ("b" * 48, "a" * 49):
        scene.serve(name, ready=False)
        scene.ready(name, "False")  # KServe says the mode at once, and that no pod comes
    eventually(lambda: "NameTooLong" in scene.told())
    assert f"isvc.{'b' * 48}" not in scene.told()
