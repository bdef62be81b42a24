"""Tokens are taken from the real rate limit service's bucket, over TLS."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from certs import keys
from demo.processes import free_ports
from ledger.buckets import Bucket, buckets
from ledger.ratelimit import RateLimitService, Unavailable
from tests.gateway.scenes import llm, one, planned
from tests.ledger.limits import Limits
from tests.ledger.test_buckets import MODEL, USER, gateway

PLAN = planned(llm(args=["--model_name=m"], annotations={"limit": "100/hour"}))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limits]:
    """ratelimit and valkey with the limits of one InferenceService."""
    with Limits(tmp_path_factory.mktemp("ratelimit"), gateway(), PLAN.objects) as running:
        yield running


def bucket(user: str) -> Bucket:
    (found,) = buckets(
        gateway(),
        one(PLAN, "AIGatewayRoute"),
        one(PLAN, "BackendTrafficPolicy"),
        {MODEL: "m", USER: user},
    )
    return found


async def test_what_is_taken_is_missing_from_the_users_bucket(service: Limits) -> None:
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(bucket("alice"), 37) == 63
        assert await limits.take(bucket("alice"), 3) == 60
        assert await limits.take(bucket("bob"), 1) == 99


async def test_a_bucket_may_be_overdrawn(service: Limits) -> None:
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(bucket("carol"), 250) == 0


async def test_a_bucket_that_the_service_does_not_know_is_said(service: Limits) -> None:
    known = bucket("dave")
    async with RateLimitService(service.target, ca=service.ca) as limits:
        assert await limits.take(Bucket("default/other/http", known.entries), 1) is None
        assert await limits.take(Bucket(known.domain, known.entries[:1]), 1) is None


async def test_another_ca_is_refused_before_anything_is_sent(service: Limits) -> None:
    other = keys.make_ca(datetime.now(UTC)).certificate_pem
    async with RateLimitService(service.target, ca=other) as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("erin"), 1)
    assert not refused.value.sent
    async with RateLimitService(service.target, ca=service.ca, server_name="other") as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("erin"), 1)
    assert not refused.value.sent


async def test_greeting_takes_nothing_and_says_why_nobody_answers(service: Limits) -> None:
    async with RateLimitService(service.target, ca=service.ca) as limits:
        await limits.greet()
    other = keys.make_ca(datetime.now(UTC)).certificate_pem
    async with RateLimitService(service.target, ca=other) as limits:
        with pytest.raises(Unavailable, match=r"(?i)handshake|certificate") as refused:
            await limits.greet()
    assert not refused.value.sent


async def test_a_service_that_is_away_has_taken_nothing() -> None:
    (port,) = free_ports(1)
    async with RateLimitService(f"127.0.0.1:{port}", ca=None) as limits:
        with pytest.raises(Unavailable) as refused:
            await limits.take(bucket("alice"), 1)
    assert not refused.value.sent
