"""The leader's CA, its publication, and a replica's leaf, through everything that happens to them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from certs import authority, bundle, keys
from certs.api import ApiError
from certs.authority import CONFIGURATIONS, Authority
from certs.serving import Minted
from tests.certs.api_server import ApiServer, running, until
from tests.certs.clock import Clock

SECRET = "/api/v1/namespaces/ns/secrets/ca"
CONFIGURATION = f"{CONFIGURATIONS}/meter"
WEBHOOKS = [{"name": f"{name}.test", "clientConfig": {"service": {"path": f"/{name}"}}} for name in "ab"]


class World:
    """A cluster with a leader and a replica, moved on by hand."""

    def __init__(self, server: ApiServer, leader: Authority, clock: Clock) -> None:
        self.server = server
        self.leader = leader
        self.clock = clock
        self.replica = Minted(
            ["meter.ns.svc"],
            secret=lambda: server.objects.get(SECRET),
            bundles=self.bundles,
            settle=timedelta(seconds=10),
            clock=clock,
        )

    def bundles(self) -> list[bytes]:
        configuration = self.server.objects.get(CONFIGURATION) or {}
        return [authority.bundle_of(webhook) for webhook in configuration.get("webhooks", [])]

    @property
    def ca(self) -> x509.Certificate:
        return bundle.read_ca(self.server.objects[SECRET]["data"], self.clock()).certificate

    @property
    def issuer(self) -> x509.Name:
        assert self.replica._leaf
        return self.replica._leaf.certificate.issuer

    def ready(self) -> bool:
        return self.replica.ready

    async def step(self) -> None:
        await self.leader.step()
        self.replica.step()

    def verifiable(self) -> bool:
        """Whether API servers accept what the replica serves, by each webhook's bundle."""
        return all(
            self.issuer in [ca.subject for ca in bundle.split(text)] for text in self.bundles()
        ) and bool(self.replica._leaf and keys.valid(self.replica._leaf.certificate, self.clock()))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as (server, api):
        clock = Clock()
        server.put(SECRET, {"metadata": {"name": "ca", "namespace": "ns"}})
        server.put(CONFIGURATION, {"metadata": {"name": "meter"}, "webhooks": WEBHOOKS})
        leader = Authority(api, namespace="ns", secret="ca", configuration="meter", clock=clock)
        yield World(server, leader, clock)


def damage(server: ApiServer, **data: Any) -> None:
    server.put(SECRET, {**server.objects[SECRET], "data": data})


async def test_an_empty_secret_is_filled_and_published(world: World) -> None:
    await world.step()
    assert world.ready()
    assert world.bundles() == [keys.pem(world.ca)] * 2
    assert set(world.server.managers) == {"token-meter-certs"}


async def test_publishing_touches_nothing_but_the_bundles(world: World) -> None:
    await world.step()
    for webhook, before in zip(world.server.objects[CONFIGURATION]["webhooks"], WEBHOOKS, strict=True):
        webhook["clientConfig"].pop("caBundle")
        assert webhook == before


async def test_looking_again_writes_nothing(world: World) -> None:
    await world.step()
    version = world.server.version
    await world.step()
    assert world.server.version == version


@pytest.mark.parametrize("how", ["deleted", "emptied", "garbage", "another key"])
async def test_a_lost_ca_is_replaced_while_the_old_leaf_stays_verifiable(world: World, how: str) -> None:
    await world.step()
    old = world.ca
    match how:
        case "deleted":
            world.server.delete(SECRET)
        case "emptied":
            damage(world.server)
        case "garbage":
            damage(world.server, **dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), "Z2FyYmFnZQ=="))
        case _:
            key = base64.b64encode(keys.make_ca(world.clock()).key_pem).decode()
            damage(world.server, **{**world.server.objects[SECRET]["data"], "tls.key": key})
    world.replica.step()
    assert world.verifiable()
    await world.step()
    assert world.ca != old
    assert world.issuer == old.subject
    assert world.verifiable()
    world.clock.forward(seconds=10)
    await world.step()
    assert world.issuer == world.ca.subject
    assert world.verifiable()


async def test_the_secret_itself_remembers_the_ca_before(world: World) -> None:
    await world.step()
    old = world.ca
    world.server.delete(SECRET)
    await world.leader.step()
    stored = bundle.decode(world.server.objects[SECRET]["data"]["ca.crt"])
    assert bundle.split(stored) == [world.ca, old]


async def test_a_secret_restored_from_a_backup_does_not_unpublish_the_ca_in_use(world: World) -> None:
    await world.step()
    old = world.ca
    backup = keys.make_ca(world.clock())
    damage(world.server, **bundle.write_ca(backup, backup.certificate_pem))
    successor = Authority(
        world.leader._api, namespace="ns", secret="ca", configuration="meter", clock=world.clock
    )
    await successor.step()
    assert all(bundle.holds(text, old) and bundle.holds(text, world.ca) for text in world.bundles())
    world.replica.step()
    assert world.verifiable()


async def test_a_new_leader_keeps_the_old_ca_that_only_the_configuration_knows(world: World) -> None:
    await world.step()
    old = world.ca
    world.server.delete(SECRET)
    successor = Authority(
        world.leader._api, namespace="ns", secret="ca", configuration="meter", clock=world.clock
    )
    await successor.step()
    assert all(bundle.holds(text, old) and bundle.holds(text, world.ca) for text in world.bundles())


async def test_a_new_ca_is_not_served_before_every_webhook_knows_it(world: World) -> None:
    await world.step()
    old = world.ca
    world.server.delete(SECRET)
    await world.leader.step()
    configuration = world.server.objects[CONFIGURATION]
    configuration["webhooks"][1]["clientConfig"]["caBundle"] = base64.b64encode(keys.pem(old)).decode()
    for _ in range(3):
        world.replica.step()
        world.clock.forward(minutes=1)
    assert world.issuer == old.subject
    await world.step()
    world.clock.forward(seconds=9)
    world.replica.step()
    assert world.issuer == old.subject
    world.clock.forward(seconds=1)
    world.replica.step()
    assert world.issuer == world.ca.subject


async def test_a_leaf_whose_ca_is_in_no_bundle_is_changed_at_once(world: World) -> None:
    await world.step()
    world.server.delete(SECRET)
    for webhook in world.server.objects[CONFIGURATION]["webhooks"]:
        webhook["clientConfig"]["caBundle"] = ""
    successor = Authority(
        world.leader._api, namespace="ns", secret="ca", configuration="meter", clock=world.clock
    )
    await successor.step()
    world.replica.step()
    assert world.issuer == world.ca.subject
    assert world.ready()


async def test_an_overwritten_bundle_is_put_back(world: World) -> None:
    await world.step()
    before = world.bundles()
    for value in ("", base64.b64encode(keys.make_ca(world.clock()).certificate_pem).decode()):
        configuration = world.server.objects[CONFIGURATION]
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = value
        await world.leader.step()
        assert bundle.holds(world.bundles()[0], world.ca)
    assert before[0] in world.bundles()[0]


async def test_a_deleted_configuration_is_not_made_anew(world: World) -> None:
    await world.step()
    world.server.delete(CONFIGURATION)
    await world.step()
    assert CONFIGURATION not in world.server.objects


async def test_a_configuration_deleted_while_publishing_is_not_made_anew(world: World) -> None:
    seen = world.server.objects[CONFIGURATION]
    world.server.delete(CONFIGURATION)
    with pytest.raises(ApiError, match="409"):
        await world.leader._publish(seen, b"bundle")
    assert CONFIGURATION not in world.server.objects


async def test_three_years_pass_without_a_moment_unverifiable(world: World) -> None:
    await world.step()
    cas, leaves = set(), set()
    for _ in range(3 * 365):
        for hours in (0, 0.01, 23.99):
            world.clock.forward(hours=hours)
            assert world.verifiable()
            await world.step()
            assert world.verifiable()
        cas.add(world.ca)
        assert world.replica._leaf
        leaves.add(world.replica._leaf.certificate.serial_number)
    assert 4 <= len(cas) <= 6
    assert 1095 / 7 * 1.4 < len(leaves) < 1095 / 7 * 2


async def test_a_ca_that_expired_while_nobody_looked_heals(world: World) -> None:
    await world.step()
    world.clock.forward(days=400)
    assert not world.ready()
    await world.step()
    assert world.ready()
    assert world.verifiable()


async def test_the_leader_looks_again_when_the_stored_ca_is_due_however_long_its_own_would_live(
    world: World,
) -> None:
    short = keys.make_ca(world.clock(), timedelta(seconds=30))
    damage(world.server, **bundle.write_ca(short, short.certificate_pem))
    wait = await world.leader.step()
    world.replica.step()
    assert world.ca == short.certificate
    world.clock.forward(seconds=wait)
    assert world.verifiable()
    assert await world.leader.step() == authority.TICK
    assert world.ca != short.certificate
    world.replica.step()
    assert world.verifiable()


async def test_run_renews_a_ca_that_ends_soon_without_being_told(world: World) -> None:
    short = keys.make_ca(world.clock(), timedelta(seconds=1))
    damage(world.server, **bundle.write_ca(short, short.certificate_pem))
    task = asyncio.ensure_future(world.leader.run())
    try:
        await until(lambda: any(bundle.holds(text, short.certificate) for text in world.bundles()))
        world.clock.forward(seconds=0.7)
        await until(lambda: world.ca != short.certificate)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_leaders_at_once_end_with_one_ca(world: World) -> None:
    other = Authority(
        world.leader._api, namespace="ns", secret="ca", configuration="meter", clock=world.clock
    )
    await asyncio.gather(world.leader.step(), other.step(), return_exceptions=True)
    await world.leader.step()
    await other.step()
    version = world.server.version
    await world.leader.step()
    await other.step()
    assert world.server.version == version
    assert all(bundle.holds(text, world.ca) for text in world.bundles())


async def test_a_replica_without_a_configuration_is_ready(world: World) -> None:
    await world.leader.step()
    world.server.delete(CONFIGURATION)
    world.replica.step()
    assert world.ready()


async def test_run_follows_a_poke_and_survives_an_api_server_that_fails(world: World) -> None:
    task = asyncio.ensure_future(world.leader.run())
    try:
        await until(lambda: world.bundles()[0])
        world.server.fail["GET"] = 500
        world.leader.poke()
        before = len(world.server.log)
        await until(lambda: len(world.server.log) >= before + 2)
        world.server.fail.clear()
        world.server.delete(SECRET)
        await until(lambda: SECRET in world.server.objects)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
