"""The controller with the real Envoy Gateway and AI Gateway's stand-in: what it says and does of what they say."""

import base64
import json
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests import crds
from tests.cluster.ai_gateway_standin import Controller
from tests.cluster.cluster import KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.envoy_gateway import EnvoyGateway, unavailable
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import Start
from tests.gateway.controller.scene import Json, Scene
from tests.gateway.controller.test_controller import counted
from tests.gateway.scenes import llm, with_canary

pytestmark = [crds.needed, pytest.mark.xdist_group("envoy-gateway")]


@pytest.fixture(scope="module")
def envoy_gateway(plane: ControlPlane) -> Iterator[EnvoyGateway]:
    """Envoy Gateway with a rate limit backend, and AI Gateway's stand-in."""
    if reason := unavailable():
        pytest.skip(reason)
    with EnvoyGateway(plane) as running, Controller(plane.client):
        yield running


@pytest.mark.parametrize("origin", ["All", "Same"])
def test_one_that_is_accepted_is_said_to_be_ready_and_leaves_nothing_behind(
    origin: str, envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    scene.listen(origin)
    start()
    scene.serve()
    eventually(lambda: "GatewayReady" in scene.told())
    place = scene.models if origin == "All" else scene.infra
    eventually(lambda: any(f"httproute/{place}/" in name for name in envoy_gateway.limits()))
    scene.run("delete", "isvc", "m")
    scene.nothing_is_left()
    eventually(lambda: not any(f"httproute/{place}/" in name for name in envoy_gateway.limits()))


def test_what_others_say_is_counted_and_makes_nothing_written(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    run = start(RESYNC_SECONDS="0.3")
    scene.serve()
    eventually(lambda: "GatewayReady" in scene.told())
    eventually(lambda: counted(run.port, 'token_meter_gateway_inferenceservices{stage="ready"}') == 1)
    for kind in ("AIGatewayRoute", "HTTPRoute", "BackendTrafficPolicy"):
        name = f'token_meter_gateway_objects{{kind="{kind}",state="accepted"}}'
        assert counted(run.port, name) == 1
    writes = counted(run.port, "token_meter_gateway_writes")
    done = counted(run.port, "token_meter_gateway_reconcile_seconds_count")
    eventually(lambda: counted(run.port, "token_meter_gateway_reconcile_seconds_count") > done + 20)
    assert counted(run.port, "token_meter_gateway_writes") == writes
    assert scene.told().count("GatewayReady") == 1


def test_a_route_that_moves_is_there_all_the_time_and_accepted_again(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    start()
    scene.serve()
    eventually(lambda: accepted_route(scene, "models"))
    scene.listen("Same")

    def moved() -> bool:
        assert "llama" in scene.routed()
        return accepted_route(scene, "infra") and ("AIGatewayRoute", "models") not in scene.kinds()

    eventually(moved)


def accepted_route(scene: Scene, place: str) -> bool:
    """Whether Envoy Gateway has accepted the HTTPRoute there."""
    return any(
        condition["type"] == "Accepted" and condition["status"] == "True"
        for (kind, where, _), obj in scene.made().items()
        if (kind, where) == ("HTTPRoute", place)
        for parent in obj.get("status", {}).get("parents", ())
        for condition in parent["conditions"]
    )


def test_limits_go_with_the_rate_limit_backend_and_come_back_with_it(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    start()
    scene.serve()
    eventually(lambda: "GatewayReady" in scene.told() and "rateLimit" in policy(scene)["spec"])
    try:
        envoy_gateway.start(rate_limit=False)
        eventually(lambda: "RateLimitUnavailable" in scene.told())
        eventually(lambda: "rateLimit" not in policy(scene)["spec"] and said(policy(scene)) == ["Accepted"])
        assert {"circuitBreaker", "retry"} <= policy(scene)["spec"].keys()
        assert said(probe(scene)) == ["Invalid"]
        scene.serve("late", model="another")
        eventually(lambda: said(policy(scene, "late")) == ["Accepted"])
        assert "rateLimit" not in policy(scene, "late")["spec"]
    finally:
        envoy_gateway.start(rate_limit=True)
    for name in ("m", "late"):
        eventually(lambda name=name: "rateLimit" in policy(scene, name)["spec"])  # type: ignore[misc]
        eventually(lambda name=name: said(policy(scene, name)) == ["Accepted"])  # type: ignore[misc]
    eventually(lambda: not probe(scene))


def policy(scene: Scene, name: str = "m") -> Json:
    return scene.made().get(("BackendTrafficPolicy", "models", f"token-meter-{name}"), {"spec": {}})


def probe(scene: Scene) -> Json:
    return scene.made().get(("BackendTrafficPolicy", "infra", "token-meter-gw.0-probe"), {})


def said(obj: Json) -> list[str]:
    """The reasons that Envoy Gateway gives of the object as it now stands."""
    return [
        condition["reason"]
        for ancestor in obj.get("status", {}).get("ancestors", ())
        for condition in ancestor["conditions"]
        if condition["observedGeneration"] == obj["metadata"]["generation"]
    ]


def test_a_client_policy_with_a_small_buffer_is_told(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    start()
    scene.serve()
    eventually(lambda: "GatewayReady" in scene.told())
    target = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "gw",
        "sectionName": "http",
    }
    own = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": "own", "namespace": scene.infra},
        "spec": {"targetRefs": [target], "connection": {"bufferLimit": "32Ki"}},
    }
    scene.apply(own)
    eventually(lambda: "BufferTooSmall" in scene.told())
    assert f"{scene.infra}/own" in scene.told()


def test_a_namespace_goes_at_once_with_all_that_is_in_it(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    scene.listen("Same")
    start()
    scene.serve()
    eventually(lambda: accepted_route(scene, "infra"))
    scene.plane.kubectl("delete", "namespace", scene.models, "--wait=false")
    eventually(lambda: not there(scene) and not scene.made())


def there(scene: Scene) -> bool:
    try:
        scene.plane.kubectl("get", "namespace", scene.models)
    except KubectlError:
        return False
    return True


def test_a_canary_gets_its_share_and_the_gateways_take_it(
    envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    """From its first ready pod, through another share, to its promotion."""

    def shares() -> dict[str, int | None]:
        routes = [obj for (kind, _, _), obj in scene.made().items() if kind == "AIGatewayRoute"]
        refs = [ref for route in routes for ref in route["spec"]["rules"][0]["backendRefs"]]
        return {ref["name"]: ref.get("weight") for ref in refs}

    def reported(percent: int, *, ready: bool) -> None:
        status = {"name": "next", "ready": ready, "trafficPercent": percent}
        scene.ready(canaryStatuses=[status])

    stable = llm("m", scene.models)
    stable["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Standard"
    start()
    scene.store(with_canary(stable, 20))
    reported(20, ready=False)
    eventually(lambda: list(shares()) == ["token-meter-m"])
    reported(20, ready=True)
    eventually(lambda: shares() == {"token-meter-m": 80, "token-meter-m.next": 20})
    eventually(lambda: "GatewayReady" in scene.told())
    reported(60, ready=True)
    eventually(lambda: shares() == {"token-meter-m": 40, "token-meter-m.next": 60})
    scene.store(stable)
    eventually(lambda: list(shares()) == ["token-meter-m"])
    eventually(lambda: not [name for _, _, name in scene.made() if "next" in name])


@pytest.mark.parametrize("origin", ["All", "Same"])
def test_tls_to_the_sidecar_is_taken_by_envoy_gateway(
    origin: str, envoy_gateway: EnvoyGateway, start: Start, scene: Scene
) -> None:
    """The certificate is there before the pod is ready; nothing is written again; without the ISVC all is gone."""
    scene.listen(origin)
    run = start(RESYNC_SECONDS="0.3")
    scene.serve(ready=False, tls="true")
    eventually(lambda: ("Secret", "models") in scene.kinds())
    (secret,) = (obj for (kind, _, _), obj in scene.made().items() if kind == "Secret")
    assert set(secret["data"]) == {"apiKey", "tls.crt", "tls.key"}
    scene.ready()
    eventually(lambda: "GatewayReady" in scene.told())
    policy = scene.run("get", "backendtlspolicy", "token-meter-m", "-o=json")
    conditions = [c for one in json.loads(policy)["status"]["ancestors"] for c in one["conditions"]]
    assert ("Accepted", "True") in {(c["type"], c["status"]) for c in conditions}
    trusted = scene.run("get", "configmap", "token-meter-m", r"-o=jsonpath={.data.ca\.crt}")
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(trusted.encode()))

    writes = counted(run.port, "token_meter_gateway_writes")
    done = counted(run.port, "token_meter_gateway_reconcile_seconds_count")
    eventually(lambda: counted(run.port, "token_meter_gateway_reconcile_seconds_count") > done + 20)
    assert counted(run.port, "token_meter_gateway_writes") == writes

    scene.run("delete", "secret", secret["metadata"]["name"])
    eventually(lambda: ("Secret", "models") in scene.kinds())
    scene.run("delete", "isvc", "m")
    scene.nothing_is_left()
