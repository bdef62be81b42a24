"""Injection: nothing of the user's is lost, once is enough, and a change of the user's is followed."""

import contextlib
import copy
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from isvc import Malformed, Mode
from tests.webhook.services import SERVICES
from webhook.injection import run
from webhook.plan import Facts, Inject, SidecarSettings
from webhook.remove import remove

NEWER = Facts(sidecar=SidecarSettings(image="token-meter/sidecar:9.9.9"))


def _guide(**metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "llama", "namespace": "models", **metadata},
        "spec": {
            "predictor": {"model": {"modelFormat": {"name": "huggingface"}, "args": ["--model_id=a/b"]}}
        },
    }


def _custom(*args: str, **fields: Any) -> dict[str, Any]:
    obj = _guide()
    container = {"name": "kserve-container", "image": "vllm/vllm-openai:v1", "args": list(args), **fields}
    obj["spec"]["predictor"] = {"containers": [container]}
    return obj


def _sidecar(obj: dict[str, Any]) -> dict[str, Any]:
    predictor = obj["spec"]["predictor"]
    containers = [*predictor.get("initContainers", []), *predictor.get("containers", [])]
    (sidecar,) = [c for c in containers if c["name"] == "token-meter"]
    return dict(sidecar)


def _env(obj: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _sidecar(obj)["env"]}


def _typed_round_trip(value: Any) -> Any:
    """What a client with Go types makes of an object: no empty strings, keys in another order."""
    if isinstance(value, dict):
        return {k: _typed_round_trip(v) for k, v in sorted(value.items()) if v != "" and v is not None}
    return [_typed_round_trip(item) for item in value] if isinstance(value, list) else value


def _assert_kept(before: Any, after: Any, path: str = "") -> None:
    """Every field of `before` is in `after`, in its order; only what has to change for the traffic differs."""
    if isinstance(before, dict):
        assert [key for key in after if key in before] == list(before), path
        for key, value in before.items():
            _assert_kept(value, after[key], f"{path}/{key}")
    elif isinstance(before, list):
        for i, item in enumerate(before):
            _assert_kept(item, after[i], f"{path}/{i}")
    elif before != after:
        taken_port = path.endswith("/containerPort") and after == 9180
        numbered_probe = path.endswith("Get/port") and isinstance(before, str)
        renamed = path == "/spec/predictor/containers/0/name" and after == "kserve-container"
        assert taken_port or numbered_probe or renamed, path


@given(SERVICES)
def test_everything_of_the_user_stays_in_its_order(obj: dict[str, Any]) -> None:
    result = run(obj)
    assert isinstance(result.decision, Inject)
    _assert_kept(obj, result.obj)


@given(SERVICES)
def test_patch_makes_the_injected_object_and_the_input_is_not_changed(obj: dict[str, Any]) -> None:
    before = copy.deepcopy(obj)
    result = run(obj)
    assert obj == before
    assert jsonpatch.apply_patch(before, result.patch) == result.obj


@given(SERVICES)
def test_injecting_an_injected_object_gives_no_operation(obj: dict[str, Any]) -> None:
    once = run(obj).obj
    assert run(once).patch == []


@given(SERVICES)
def test_injecting_after_a_typed_round_trip_gives_no_operation(obj: dict[str, Any]) -> None:
    assert run(_typed_round_trip(run(obj).obj)).patch == []


@given(SERVICES)
def test_newer_image_does_not_touch_a_sidecar_that_is_there(obj: dict[str, Any]) -> None:
    assert run(run(obj).obj, NEWER).patch == []


@given(SERVICES)
def test_traffic_goes_to_the_sidecar_and_from_there_to_the_server(obj: dict[str, Any]) -> None:
    result = run(obj)
    predictor = result.obj["spec"]["predictor"]
    server = predictor.get("model") or predictor.get("huggingface") or predictor["containers"][0]
    assert [port["containerPort"] for port in server["ports"]] == [9180]
    assert _env(result.obj)["TOKEN_METER_UPSTREAM"] == f"http://127.0.0.1:{result.service.port}"
    assert result.service.port not in (9180, 9181)


@given(SERVICES)
def test_reapplying_the_users_own_file_gives_the_same_object(obj: dict[str, Any]) -> None:
    """A plain replace sends the object without the sidecar: the result is what is stored already."""
    assert run(copy.deepcopy(obj)).obj == run(obj).obj


_KEYS = (
    "name image model containers initContainers args env ports containerPort readinessProbe tcpSocket port"
    " volumes volumeMounts value"
)
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(0, 9999),
        st.sampled_from(["token-meter", "kserve-container", "vllm"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON, SERVICES)
def test_any_object_is_injected_skipped_or_refused_as_malformed(junk: Any, obj: dict[str, Any]) -> None:
    predictor = obj["spec"]["predictor"]
    server = predictor.get("model", predictor.get("huggingface")) or predictor.get("containers", [{}])[0]
    for target in (obj["spec"], predictor, server):
        for key in _KEYS.split():
            broken = copy.deepcopy(target.get(key))
            target[key] = junk
            with contextlib.suppress(Malformed):
                result = run(obj)
                assert run(result.obj).patch == []
            target[key] = broken


def test_user_port_put_back_by_server_side_apply_is_taken_again() -> None:
    stored = run(_custom("--port=8000", ports=[{"containerPort": 8000, "protocol": "TCP"}])).obj
    again = copy.deepcopy(stored)
    again["spec"]["predictor"]["containers"][0]["ports"].append({"containerPort": 8000, "protocol": "TCP"})
    assert run(again).obj == stored


def test_declared_port_is_remembered_by_the_sidecar() -> None:
    obj = _custom(ports=[{"containerPort": 8123}])
    injected = run(obj).obj
    assert _env(injected)["TOKEN_METER_UPSTREAM"] == "http://127.0.0.1:8123"
    assert run(injected).service.port == 8123


def test_lost_prefix_variable_is_put_back() -> None:
    injected = run(_guide()).obj
    del injected["spec"]["predictor"]["model"]["env"]
    assert run(injected).patch == [
        {
            "op": "add",
            "path": "/spec/predictor/model/env",
            "value": [{"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": ""}],
        }
    ]


def test_server_port_that_moves_takes_upstream_and_our_probe_with_it() -> None:
    injected = run(_guide()).obj
    injected["spec"]["predictor"]["model"]["args"].append("--http_port=8001")
    after = run(injected).obj
    assert _env(after)["TOKEN_METER_UPSTREAM"] == "http://127.0.0.1:8001"
    assert after["spec"]["predictor"]["model"]["readinessProbe"] == {"tcpSocket": {"port": 8001}}


def test_new_served_name_reaches_the_sidecar_and_its_image_stays() -> None:
    injected = run(_guide()).obj
    injected["spec"]["predictor"]["model"]["args"].append("--model_name=new")
    after = run(injected, NEWER).obj
    assert _env(after)["TOKEN_METER_MODELS"] == "new"
    assert _sidecar(after)["image"] == "token-meter/sidecar:0.1.0"


def test_open_access_takes_the_key_away_and_gateway_access_brings_it_back() -> None:
    closed = run(_guide()).obj
    opened = copy.deepcopy(closed)
    opened["metadata"]["annotations"] = {"token-meter.dev/access": "open"}
    opened = run(opened).obj
    assert "TOKEN_METER_API_KEY_FILE" not in _env(opened)
    assert "volumes" not in opened["spec"]["predictor"]
    assert "volumeMounts" not in _sidecar(opened)
    opened["metadata"]["annotations"] = {"token-meter.dev/access": "gateway"}
    back = run(opened).obj
    assert _env(back)["TOKEN_METER_API_KEY_FILE"] == "/etc/token-meter/key/apiKey"
    assert back["spec"]["predictor"]["volumes"] == closed["spec"]["predictor"]["volumes"]


def test_namespace_default_that_changes_does_not_restart_injected_pods() -> None:
    injected = run(_guide()).obj
    facts = Facts(
        namespace_annotations={"token-meter.dev/access": "open", "token-meter.dev/limit-by": "x-team"}
    )
    assert run(injected, facts).patch == []


def test_prefix_of_the_user_is_respected() -> None:
    obj = _guide()
    obj["spec"]["predictor"]["model"]["env"] = [{"name": "KSERVE_OPENAI_ROUTE_PREFIX", "value": "/custom"}]
    after = run(obj).obj
    assert after["spec"]["predictor"]["model"]["env"] == obj["spec"]["predictor"]["model"]["env"]
    assert _env(after)["TOKEN_METER_BASE_PATH"] == "/custom/v1"


def test_prefix_from_a_secret_leaves_the_base_path_to_the_sidecar() -> None:
    obj = _guide()
    entry = {
        "name": "KSERVE_OPENAI_ROUTE_PREFIX",
        "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}},
    }
    obj["spec"]["predictor"]["model"]["env"] = [entry]
    assert "TOKEN_METER_BASE_PATH" not in _env(run(obj).obj)


def test_environment_is_the_contract_with_the_sidecar() -> None:
    facts = Facts(namespace_annotations={"token-meter.dev/gateway": "gateways/ai"}, default_mode=Mode.KNATIVE)
    assert _env(run(_guide(), facts).obj) == {
        "TOKEN_METER_PORT": "9180",
        "TOKEN_METER_ADMIN_PORT": "9181",
        "TOKEN_METER_UPSTREAM": "http://127.0.0.1:8080",
        "TOKEN_METER_BASE_PATH": "/v1",
        "TOKEN_METER_SERVER": "huggingface",
        "TOKEN_METER_NAMESPACE": "models",
        "TOKEN_METER_INFERENCE_SERVICE": "llama",
        "TOKEN_METER_MODELS": "llama",
        "TOKEN_METER_API_KEY_FILE": "/etc/token-meter/key/apiKey",
        "TOKEN_METER_USER_HEADER": "x-user-id",
        "TOKEN_METER_WAIT_FOR_MODEL": "true",
        "TOKEN_METER_GATEWAY": "gateways/ai",
    }


def test_key_is_mounted_in_the_sidecar_alone() -> None:
    after = run(_guide()).obj["spec"]["predictor"]
    assert after["volumes"][0]["secret"] == {"secretName": "token-meter-llama-key", "optional": True}
    assert after["initContainers"][0]["volumeMounts"] == [
        {"name": "token-meter-key", "mountPath": "/etc/token-meter/key", "readOnly": True}
    ]
    assert "volumeMounts" not in after["model"]


def test_settings_of_the_sidecar_are_written() -> None:
    obj = _guide(annotations={"token-meter.dev/sidecar-cpu": "250m", "token-meter.dev/sidecar-memory": "1Gi"})
    facts = Facts(sidecar=SidecarSettings(image="mirror/sidecar:1", port=9280, admin_port=9281))
    after = run(obj, facts).obj
    sidecar = _sidecar(after)
    assert sidecar["image"] == "mirror/sidecar:1"
    assert sidecar["resources"] == {"requests": {"cpu": "250m", "memory": "1Gi"}}
    assert after["spec"]["predictor"]["model"]["ports"][0]["containerPort"] == 9280
    assert run(after).patch == []


def _revised(obj: dict[str, Any], revision: str) -> dict[str, Any]:
    changed = copy.deepcopy(obj)
    changed["metadata"]["annotations"] = {"token-meter.dev/revision": revision}
    return changed


def test_new_revision_makes_the_sidecar_anew_and_the_same_one_does_not() -> None:
    injected = run(_guide()).obj
    renewed = run(_revised(injected, "2"), NEWER).obj
    assert _sidecar(renewed)["image"] == "token-meter/sidecar:9.9.9"
    even_newer = Facts(sidecar=SidecarSettings(image="token-meter/sidecar:10.0.0"))
    assert run(renewed, even_newer).patch == []
    assert _sidecar(run(_revised(renewed, "3"), even_newer).obj)["image"] == "token-meter/sidecar:10.0.0"


def test_new_revision_changes_nothing_but_the_sidecar_and_keeps_what_it_noted() -> None:
    injected = run(_custom(ports=[{"name": "http", "containerPort": 8000}])).obj
    renewed = run(_revised(injected, "2"), NEWER).obj
    assert renewed["spec"]["predictor"]["containers"] == injected["spec"]["predictor"]["containers"]
    assert remove(renewed)["spec"] == _custom(ports=[{"name": "http", "containerPort": 8000}])["spec"]


def test_revision_that_is_taken_away_does_not_restart_the_pod() -> None:
    renewed = run(_revised(_guide(), "2")).obj
    renewed["metadata"]["annotations"] = {}
    assert run(renewed, NEWER).patch == []


def test_sidecar_is_no_root_where_the_pod_is() -> None:
    obj = _guide()
    obj["spec"]["predictor"]["securityContext"] = {"runAsUser": 0}
    assert _sidecar(run(obj).obj)["securityContext"]["runAsUser"] == 65532
    assert "runAsUser" not in _sidecar(run(_guide()).obj)["securityContext"]


def test_port_that_server_side_apply_puts_back_is_taken_over_again() -> None:
    injected = run(
        _custom(ports=[{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 9400}])
    ).obj
    server = injected["spec"]["predictor"]["containers"][0]
    server["ports"].insert(0, {"name": "http", "containerPort": 8001})
    after = run(injected).obj
    ports = after["spec"]["predictor"]["containers"][0]["ports"]
    assert [port["containerPort"] for port in ports] == [9180, 9400]
    assert _env(after)["TOKEN_METER_UPSTREAM"] == "http://127.0.0.1:8001"
    assert remove(after)["spec"]["predictor"]["containers"][0]["ports"][0]["containerPort"] == 8001


def test_further_port_that_the_user_adds_is_not_taken_for_the_servers() -> None:
    injected = run(_guide()).obj
    injected["spec"]["predictor"]["model"]["ports"].append({"name": "metrics", "containerPort": 9400})
    assert run(injected).patch == []


def test_server_whose_arguments_are_applied_again_is_moved_again() -> None:
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v1",
        "args": ["--port=8080"],
        "ports": [{"containerPort": 8080}],
    }
    runtime = {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": "r"},
        "spec": {"containers": [container], "supportedModelFormats": []},
    }
    facts = Facts(serving_runtimes=[runtime])
    obj = _guide()
    obj["spec"]["predictor"]["model"] = {"modelFormat": {"name": "vLLM"}, "runtime": "r", "args": ["--x"]}
    injected = run(obj, facts).obj
    assert injected["spec"]["predictor"]["model"]["args"] == ["--x", "--port=9182"]
    assert run(injected, facts).patch == []
    injected["spec"]["predictor"]["model"]["args"] = ["--y"]
    assert run(injected, facts).obj["spec"]["predictor"]["model"]["args"] == ["--y", "--port=9182"]


def test_new_canary_has_the_access_of_the_stable_predictor_that_is_there() -> None:
    stable = _guide(annotations={"serving.kserve.io/deploymentMode": "Standard"})
    injected = run(stable).obj
    injected["spec"]["canary"] = [
        {"trafficPercent": 10, "predictor": {"name": "next", "model": {"args": ["--model_id=a/c"]}}}
    ]
    facts = Facts(namespace_annotations={"token-meter.dev/access": "open"})
    (canary,) = run(injected, facts).obj["spec"]["canary"]
    variables = [entry["name"] for entry in canary["predictor"]["initContainers"][0]["env"]]
    assert "TOKEN_METER_API_KEY_FILE" in variables


def test_sidecar_whose_port_variable_was_taken_out_is_not_led_to_itself() -> None:
    """It listens on its default then; the port that the server declares is still the sidecar's."""
    injected = run(_guide()).obj
    env = injected["spec"]["predictor"]["initContainers"][0]["env"]
    env[:] = [entry for entry in env if entry["name"] != "TOKEN_METER_PORT"]
    again = run(injected)
    assert _env(again.obj)["TOKEN_METER_UPSTREAM"] == "http://127.0.0.1:8080"
    assert again.patch == []
