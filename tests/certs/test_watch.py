"""List and watch: the copy is right whatever the API server does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from certs.api import Api
from certs.watch import Backoff, Watch
from tests.certs.api_server import ApiServer, running, until

PATH = "/api/v1/configmaps"


def named(name: str, value: str = "x") -> dict[str, object]:
    return {"metadata": {"name": name}, "data": {"key": value}}


def names(watch: Watch) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in watch)


@asynccontextmanager
async def following(api: Api, **options: Any) -> AsyncIterator[Watch]:
    watch = Watch(api, PATH, absent_period=0.05, **options)
    task = asyncio.ensure_future(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def parts() -> AsyncIterator[tuple[ApiServer, Api]]:
    async with running() as (server, api):
        yield server, api


async def test_it_lists_all_pages_and_follows_changes(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    for name in "abcde":
        server.put(f"{PATH}/{name}", named(name))
    async with following(api) as watch:
        await until(watch.synced.is_set)
        assert names(watch) == list("abcde")
        await until(lambda: server.watching)
        server.put(f"{PATH}/f", named("f"))
        server.put(f"{PATH}/a", named("a", "y"))
        server.delete(f"{PATH}/b")
        await until(lambda: names(watch) == list("acdef"))
        assert (watch.get("a") or {})["data"] == {"key": "y"}


async def test_objects_longer_than_any_buffer_arrive(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    async with following(api) as watch:
        await until(lambda: server.watching)
        server.put(f"{PATH}/big", named("big", "x" * 5_000_000))
        await until(lambda: names(watch) == ["big"])


async def test_a_forgotten_place_means_listing_again(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    async with following(api) as watch:
        await until(lambda: server.watching)
        server.objects[f"{PATH}/missed"] = named("missed")
        server.end_watches({"code": 410, "reason": "Expired", "message": "too old"})
        await until(lambda: names(watch) == ["missed"])


async def test_what_was_deleted_unseen_goes_with_the_resync(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    server.put(f"{PATH}/a", named("a"))
    async with following(api, resync=1) as watch:
        await until(lambda: server.watching)
        del server.objects[f"{PATH}/a"]
        server.end_watches()
        await until(lambda: names(watch) == [])


async def test_a_resource_that_is_not_served_counts_as_known_and_is_found_when_it_comes(
    parts: tuple[ApiServer, Api],
) -> None:
    server, api = parts
    server.absent.add(PATH)
    async with following(api) as watch:
        await until(watch.synced.is_set)
        assert not watch.served
        server.put(f"{PATH}/a", named("a"))
        server.absent.clear()
        await until(lambda: names(watch) == ["a"])
        assert watch.served


async def test_it_is_told_when_a_resource_is_served_again_though_it_has_no_objects(
    parts: tuple[ApiServer, Api],
) -> None:
    server, api = parts
    server.absent.add(PATH)
    told: list[str] = []
    async with following(api, changed=lambda: told.append("changed")) as watch:
        await until(watch.synced.is_set)
        server.absent.clear()
        await until(lambda: watch.served)
        assert told == ["changed", "changed"]


async def test_the_copy_outlives_an_api_server_that_fails(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    server.put(f"{PATH}/a", named("a"))
    async with following(api) as watch:
        await until(lambda: server.watching)
        server.fail["GET"] = 500
        server.end_watches()
        before = len(server.log)
        await until(lambda: len(server.log) > before + 1)
        assert names(watch) == ["a"]
        server.fail.clear()
        server.put(f"{PATH}/b", named("b"))
        await until(lambda: names(watch) == ["a", "b"])


async def test_a_refresh_lists_at_once(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    watch = Watch(api, PATH)
    server.put(f"{PATH}/a", named("a"))
    await watch.refresh()
    assert names(watch) == ["a"]


def test_delays_grow_to_a_limit_and_begin_again() -> None:
    backoff = Backoff(first=1.0, most=8.0)
    delays = [backoff.next() for _ in range(100)]
    for delay, most in zip(delays, [1, 2, 4, *[8] * 97], strict=True):
        assert most / 2 <= delay <= most
    backoff.reset()
    assert backoff.next() <= 1.0
