"""Envoy and the rate limit service are configured from the gateway objects: what these say, they do."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import parts
from demo import envoy, ratelimit
from demo.objects import read
from demo.values import UnsupportedError, bytes_of, seconds
from tests.demo.conftest import Objects

GOLDEN = Path(__file__).parent / "golden"


def rendered(gateway: dict[str, Any], objects: Objects) -> dict[str, Any]:
    found = read(gateway, objects)
    return envoy.bootstrap(
        found, port=10080, admin_port=19000, ratelimit_port=8081, resolve=lambda backend: 9180
    )


def route(gateway: dict[str, Any], objects: Objects) -> Any:
    listener = rendered(gateway, objects)["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["routes"][0]


def golden(name: str, value: dict[str, Any]) -> None:
    path = GOLDEN / name
    text = json.dumps(value, indent=1) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{name} is missing: run make golden"
    assert text == path.read_text(), f"{name} is stale: run make golden and look at the difference"


def test_golden_envoy(gateway: dict[str, Any], objects: Objects) -> None:
    golden("envoy.json", rendered(gateway, objects))


def test_golden_ratelimit(gateway: dict[str, Any], objects: Objects) -> None:
    golden("ratelimit.json", ratelimit.configuration(read(gateway, objects)))


def test_envoy_itself_accepts_the_configuration() -> None:
    command = [
        str(parts.path("envoy")),
        "--mode",
        "validate",
        "-c",
        str(GOLDEN / "envoy.json"),
        "--disable-hot-restart",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_limit_follows_the_traffic_policy(gateway: dict[str, Any], objects: Objects) -> None:
    rules = objects.spec("BackendTrafficPolicy")["rateLimit"]["global"]["rules"]
    rules[0]["limit"] = {"requests": 7, "unit": "Day"}
    rules[0]["clientSelectors"][0]["headers"][0]["name"] = "x-tenant-id"
    tree = ratelimit.configuration(read(gateway, objects))["descriptors"][0]["descriptors"]
    assert tree[0]["descriptors"][0]["rate_limit"] == {"unit": "day", "requests_per_unit": 7}
    check, charge, *_ = limits(route(gateway, objects))
    assert check["actions"][1] == {
        "request_headers": {"header_name": "x-tenant-id", "descriptor_key": "rule-0-match-0"}
    }
    assert charge["actions"] == check["actions"]


def limits(rendered_route: Any) -> Any:
    return rendered_route["typed_per_filter_config"]["envoy.filters.http.ratelimit"]["rate_limits"]


def test_a_request_is_checked_at_no_cost_and_charged_when_its_answer_has_ended(
    gateway: dict[str, Any], objects: Objects
) -> None:
    check, charge, *_ = limits(route(gateway, objects))
    assert check["hits_addend"] == {"number": 0}
    assert "apply_on_stream_done" not in check
    assert charge["hits_addend"] == {"format": "%DYNAMIC_METADATA(io.envoy.ai_gateway:llm_total_token)%"}
    assert charge["apply_on_stream_done"] is True


def test_without_a_limit_no_request_is_counted(gateway: dict[str, Any], objects: Objects) -> None:
    del objects.spec("BackendTrafficPolicy")["rateLimit"]
    assert "typed_per_filter_config" not in route(gateway, objects)
    assert ratelimit.configuration(read(gateway, objects))["descriptors"] == []


@pytest.mark.parametrize("field", ["stringData", "data"])
def test_the_gateway_presents_the_key_of_the_secret(
    field: str, gateway: dict[str, Any], objects: Objects
) -> None:
    secret = objects["Secret"]
    secret.pop("stringData")
    secret[field] = {"apiKey": "k1" if field == "stringData" else base64.b64encode(b"k1").decode()}
    (added,) = route(gateway, objects)["request_headers_to_add"]
    assert added["header"] == {"key": "authorization", "value": "Bearer k1"}
    assert added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"


def test_without_a_security_policy_the_clients_own_key_goes_on(
    gateway: dict[str, Any], objects: Objects
) -> None:
    objects.remove(objects["BackendSecurityPolicy"])
    assert "request_headers_to_add" not in route(gateway, objects)


def test_times_follow_the_route(gateway: dict[str, Any], objects: Objects) -> None:
    rule = objects.spec("AIGatewayRoute")["rules"][0]
    rule["timeouts"] = {"request": "90s"}
    rule["streamIdleTimeout"] = "1m30s"
    action = route(gateway, objects)["route"]
    assert (action["timeout"], action["idle_timeout"]) == ("90.000s", "90.000s")
    # AI Gateway's own 60 s cut a long stream: the demo must show that too.
    del rule["timeouts"]
    assert route(gateway, objects)["route"]["timeout"] == "60.000s"


def test_the_buffer_follows_the_client_traffic_policy(gateway: dict[str, Any], objects: Objects) -> None:
    def buffer() -> int:
        listener = rendered(gateway, objects)["static_resources"]["listeners"][0]
        return int(listener["per_connection_buffer_limit_bytes"])

    assert buffer() == 50 * 1024 * 1024
    objects.remove(objects["ClientTrafficPolicy"])
    assert buffer() == 32 * 1024


def test_the_model_of_the_route_chooses_it(gateway: dict[str, Any], objects: Objects) -> None:
    header = objects.spec("AIGatewayRoute")["rules"][0]["matches"][0]["headers"][0]
    header["value"] = "another"
    assert route(gateway, objects)["match"]["headers"] == [
        {"name": "x-ai-eg-model", "string_match": {"exact": "another"}}
    ]


def test_a_schema_prefix_becomes_the_servers_path(gateway: dict[str, Any], objects: Objects) -> None:
    objects.spec("AIServiceBackend")["schema"]["prefix"] = "/openai/v1"
    assert route(gateway, objects)["route"]["regex_rewrite"]["substitution"] == "/openai/v1/"


def test_a_route_of_another_gateway_is_not_played(gateway: dict[str, Any], objects: Objects) -> None:
    objects.spec("AIGatewayRoute")["parentRefs"][0]["name"] = "another"
    assert read(gateway, objects).routes == ()


def override(objects: Objects) -> None:
    objects.spec("AIGatewayRoute")["rules"][0]["backendRefs"][0]["modelNameOverride"] = "served"


def cel(objects: Objects) -> None:
    objects.spec("AIGatewayRoute")["llmRequestCosts"][0] = {"metadataKey": "x", "type": "CEL", "cel": "1u"}


def shared(objects: Objects) -> None:
    objects.spec("BackendTrafficPolicy")["rateLimit"]["global"]["rules"][0]["shared"] = True


def local(objects: Objects) -> None:
    objects.spec("BackendTrafficPolicy")["rateLimit"]["type"] = "Local"


def balancer(objects: Objects) -> None:
    objects.spec("BackendTrafficPolicy")["loadBalancer"] = {"type": "RoundRobin"}


def mutation(objects: Objects) -> None:
    objects.spec("AIGatewayRoute")["rules"][0]["backendRefs"][0]["headerMutation"] = {"remove": ["x"]}


def early_headers(objects: Objects) -> None:
    objects.spec("ClientTrafficPolicy")["headers"] = {"earlyRequestHeaders": {"remove": ["x-user-id"]}}


def encrypted(objects: Objects) -> None:
    objects.append(
        {"kind": "BackendTLSPolicy", "metadata": {"name": "t", "namespace": "kserve-test"}, "spec": {}}
    )


def lost_backend(objects: Objects) -> None:
    objects.remove(objects["Backend"])


def lost_secret(objects: Objects) -> None:
    objects.remove(objects["Secret"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (override, r"modelNameOverride \(served\): AI Gateway writes it into the request's body"),
        (cel, "llmRequestCosts of type CEL"),
        (shared, "shared: true"),
        (local, "a rate limit of type Local"),
        (balancer, "BackendTrafficPolicy: loadBalancer"),
        (mutation, "a backendRef of AIGatewayRoute: headerMutation"),
        (early_headers, "ClientTrafficPolicy: headers"),
        (encrypted, "TLS to the backend"),
        (
            lost_backend,
            "Backend kserve-test/token-meter-llama3-1b is named by another object and is not there",
        ),
        (lost_secret, "Secret kserve-test/token-meter-llama3-1b-key is named"),
    ],
)
def test_what_envoys_filters_cannot_do_is_said(
    change: Any, message: str, gateway: dict[str, Any], objects: Objects
) -> None:
    change(objects)
    with pytest.raises(UnsupportedError, match=message):
        read(gateway, objects)


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("50Mi", 50 * 1024 * 1024),
        ("1M", 1_000_000),
        ("2k", 2000),
        ("32Ki", 32768),
        (7, 7),
        ("7", 7),
        ("1Gi", 1 << 30),
    ],
)
def test_quantities_are_read_in_bytes(quantity: str | int, size: int) -> None:
    assert bytes_of(quantity) == size


@pytest.mark.parametrize(
    ("duration", "expected"), [("1h", 3600), ("5m30s", 330), ("600s", 600), ("250ms", 0.25)]
)
def test_durations_are_read_in_seconds(duration: str, expected: float) -> None:
    assert seconds(duration) == expected


@pytest.mark.parametrize("wrong", ["", "5", "1d", "s", "-1s", "1.5h"])
def test_a_wrong_duration_is_refused(wrong: str) -> None:
    with pytest.raises(UnsupportedError):
        seconds(wrong)
