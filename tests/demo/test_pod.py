"""The sidecar runs as its injected container says, and counts come from the programs' own pages."""

import base64
from pathlib import Path
from typing import Any

import pytest

from demo import pod
from demo.counters import charged_events, model_is_idle, model_tokens, sidecar_tokens
from demo.processes import DemoError
from demo.ratelimit import charged
from demo.traffic import Backend
from demo.values import UnsupportedError
from tests.demo.conftest import Objects

ENV = {
    "TOKEN_METER_PORT": "9180",
    "TOKEN_METER_ADMIN_PORT": "9181",
    "TOKEN_METER_API_KEY_FILE": "/etc/token-meter/key/apiKey",
    "OTHER": "/etc/token-meter/keys",
}


def injected(place: str = "initContainers", **changes: Any) -> dict[str, Any]:
    container = {
        "name": "token-meter",
        "env": [{"name": name, "value": value} for name, value in ENV.items()],
        "volumeMounts": [{"name": "token-meter-key", "mountPath": "/etc/token-meter/key"}],
        **changes,
    }
    volume = {"name": "token-meter-key", "secret": {"secretName": "token-meter-m-key", "optional": True}}
    return {"spec": {"predictor": {place: [{"name": "other"}, container], "volumes": [volume]}}}


@pytest.mark.parametrize("place", ["initContainers", "containers"])
def test_the_container_is_found_wherever_it_was_injected(place: str) -> None:
    found = pod.sidecar_of(injected(place))
    assert (found.port, found.admin_port, dict(found.env)) == (9180, 9181, ENV)
    assert found.secrets == {"/etc/token-meter/key": "token-meter-m-key"}


def test_an_object_without_the_container_is_refused() -> None:
    with pytest.raises(DemoError, match="no container called token-meter"):
        pod.sidecar_of(injected(name="something-else"))


def test_a_value_from_the_cluster_is_refused_by_name() -> None:
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    with pytest.raises(DemoError, match="the sidecar's POD comes from the cluster"):
        pod.sidecar_of(injected(env=env))


@pytest.mark.parametrize(
    "content", [{"stringData": {"apiKey": "k1"}}, {"data": {"apiKey": base64.b64encode(b"k1").decode()}}]
)
def test_the_secret_is_mounted_where_the_environment_says(content: dict[str, Any], tmp_path: Path) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "token-meter-m-key"}, **content}
    env = pod.mount(pod.sidecar_of(injected()), [secret], tmp_path)
    assert Path(env["TOKEN_METER_API_KEY_FILE"]).read_text() == "k1"
    assert env["OTHER"] == "/etc/token-meter/keys"
    assert {name for name in env if env[name] != ENV[name]} == {"TOKEN_METER_API_KEY_FILE"}


def test_without_the_optional_secret_the_folder_is_empty(tmp_path: Path) -> None:
    env = pod.mount(pod.sidecar_of(injected()), [], tmp_path)
    key = Path(env["TOKEN_METER_API_KEY_FILE"])
    assert key.parent.is_dir()
    assert not key.exists()


def test_a_backend_leads_to_the_target_port_of_its_service(objects: Objects) -> None:
    service = objects["Service"]
    service["spec"]["ports"][0]["targetPort"] = 23456
    endpoint = objects.spec("Backend")["endpoints"][0]["fqdn"]
    assert pod.target_port(Backend(endpoint["hostname"], endpoint["port"]), objects) == 23456
    with pytest.raises(UnsupportedError, match="no Service among the objects is elsewhere:80"):
        pod.target_port(Backend("elsewhere", 80), objects)


def test_the_models_count_has_cached_prompt_tokens_in_it() -> None:
    page = """
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 100
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 20
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 3.5
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 3
"""
    assert model_tokens(page) == 123


def test_the_model_is_idle_when_it_has_no_request() -> None:
    page = "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing {}\n"
    assert model_is_idle(page.format(0))
    assert not model_is_idle(page.format(1))


def test_what_became_of_charges_is_read_by_its_result() -> None:
    page = """
# TYPE token_meter_ledger_charges_total counter
token_meter_ledger_charges_total{result="charged"} 2.0
token_meter_ledger_charges_total{result="missed"} 1.0
# TYPE token_meter_ledger_charged_tokens_total counter
token_meter_ledger_charged_tokens_total{result="charged"} 70.0
"""
    assert charged_events(page) == {"charged": 2, "missed": 1}


def test_the_sidecars_count_is_input_and_output_over_all_labels() -> None:
    page = """
# TYPE token_meter_tokens_total counter
token_meter_tokens_total{model="a,b\\"",endpoint="chat",direction="input",outcome="completed"} 7.0
token_meter_tokens_total{direction="output",model="a",outcome="client_disconnect"} 5.0
token_meter_tokens_total{direction="cached_input",model="a",outcome="completed"} 1000.0
# TYPE token_meter_requests_total counter
token_meter_requests_total{direction="input"} 1000.0
"""
    assert sidecar_tokens(page) == 12


def test_only_the_buckets_of_the_domain_are_summed() -> None:
    buckets = {
        "ns/gw/http_route_a_1": 5,
        "ns/gw/http_route_b_2": 6,
        "ns/gw/https_route_a_1": 100,
        "other": 100,
    }
    assert charged(buckets, "ns/gw/http") == 11
