"""Tokens are taken from the real rate limit service's bucket, over TLS."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

import parts
from certs import keys
from demo import objects, ratelimit
from demo.processes import Processes, free_ports, listening
from demo.stack import answers
from ledger.buckets import Bucket, buckets
from ledger.ratelimit import RateLimitService, Unavailable
from tests.gateway.scenes import llm, one, planned
from tests.ledger.test_buckets import MODEL, USER, gateway

SECONDS = 60.0
PLAN = planned(llm(args=["--model_name=m"], annotations={"limit": "100/hour"}))


@dataclass(frozen=True, slots=True)
class Service:
    target: str
    ca: bytes


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """ratelimit and valkey with the limits of one InferenceService, and a certificate like Envoy Gateway's."""
    folder = tmp_path_factory.mktemp("ratelimit")
    now = datetime.now(UTC)
    ca = keys.make_ca(now)
    leaf = keys.mint_leaf(ca, ["*.envoy-gateway-system"], now)
    (folder / "tls.crt").write_bytes(leaf.certificate_pem)
    (folder / "tls.key").write_bytes(leaf.key_pem)
    valkey_port, grpc_port, http_port, debug_port = free_ports(4)
    (folder / "config").mkdir()
    found = objects.read(gateway(), PLAN.objects)
    (folder / "config" / "limits.yaml").write_text(json.dumps(ratelimit.configuration(found)))
    processes = Processes(folder)
    try:
        valkey = ["--port", str(valkey_port), "--bind", "127.0.0.1", "--save", ""]
        child = processes.start("valkey", [parts.path("valkey"), *valkey])
        processes.wait(child, lambda: listening(valkey_port), SECONDS)
        environment = ratelimit.environment(str(folder), valkey_port, grpc_port, http_port, debug_port) | {
            "GRPC_SERVER_USE_TLS": "true",
            "GRPC_SERVER_TLS_CERT": str(folder / "tls.crt"),
            "GRPC_SERVER_TLS_KEY": str(folder / "tls.key"),
        }
        limits = processes.start("ratelimit", [parts.path("ratelimit")], environment)
        processes.wait(limits, lambda: answers(http_port, "/healthcheck"), SECONDS)
        yield Service(f"127.0.0.1:{grpc_port}", ca.certificate_pem)
    finally:
        processes.stop()


def bucket(user: str) -> Bucket:
    (found,) = buckets(
        gateway(),
        one(PLAN, "AIGatewayRoute"),
        one(PLAN, "BackendTrafficPolicy"),
        {MODEL: "m", USER: user},
    )
    return found


async def test_what_is_taken_is_missing_from_the_users_bucket(service: Service) -> None:
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(bucket("alice"), 37) == 63
        assert await limits.take(bucket("alice"), 3) == 60
        assert await limits.take(bucket("bob"), 1) == 99


async def test_a_bucket_may_be_overdrawn(service: Service) -> None:
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(bucket("carol"), 250) == 0


async def test_a_bucket_that_the_service_does_not_know_is_said(service: Service) -> None:
    known = bucket("dave")
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(Bucket("default/other/http", known.entries), 1) is None
        assert await limits.take(Bucket(known.domain, known.entries[:1]), 1) is None


async def test_another_ca_is_refused_before_anything_is_sent(service: Service) -> None:
    other = keys.make_ca(datetime.now(UTC)).certificate_pem
    async with RateLimitService(service.target, ca=other) as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("erin"), 1)
    assert not refused.value.sent
    async with RateLimitService(service.target, ca=service.ca, server_name="other") as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("erin"), 1)
    assert not refused.value.sent


async def test_a_service_that_is_away_has_taken_nothing() -> None:
    (port,) = free_ports(1)
    async with RateLimitService(f"127.0.0.1:{port}", ca=None) as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("alice"), 1)
    assert not refused.value.sent
