"""The Lease: one leader at a time, and always one soon."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certs.api import Api
from certs.leader import Elector, Seen, Times
from tests.certs.api_server import ApiServer, running, until

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/meter"
QUICK = Times(life=1.0, deadline=0.5, retry=0.05)


class Worker:
    """An elector whose work says when it runs."""

    def __init__(self, api: Api, name: str, running: set[str]) -> None:
        self.elector = Elector(api, "ns", "meter", name, QUICK)
        self._name = name
        self._running = running
        self.fail = False

    async def work(self) -> None:
        self._running.add(self._name)
        try:
            assert len(self._running) == 1, "two work at once"
            if self.fail:
                raise ValueError("the work fails")
            await asyncio.Event().wait()
        finally:
            self._running.remove(self._name)

    @asynccontextmanager
    async def started(self) -> "AsyncIterator[asyncio.Task[None]]":
        task = asyncio.create_task(self.elector.run(self.work))
        try:
            yield task
        finally:
            await stop(task)


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def parts() -> AsyncIterator[tuple[ApiServer, Api]]:
    async with running() as (server, api):
        yield server, api


async def test_one_of_two_leads_and_hands_over_when_it_ends(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    active: set[str] = set()
    first, second = Worker(api, "first", active), Worker(api, "second", active)
    async with first.started() as task:
        await until(lambda: active == {"first"})
        async with second.started():
            await stop(task)
            await until(lambda: active == {"second"})
            assert server.objects[LEASE]["spec"]["holderIdentity"] == "second"
            assert not first.elector.leading
            assert second.elector.leading


async def test_a_leader_that_vanished_is_followed(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    gone = {"holderIdentity": "gone", "leaseDurationSeconds": 1, "leaseTransitions": 4}
    server.put(LEASE, {"metadata": {"name": "meter"}, "spec": gone})
    active: set[str] = set()
    async with Worker(api, "next", active).started():
        await until(lambda: active == {"next"})
    assert server.objects[LEASE]["spec"]["leaseTransitions"] == 5


async def test_a_leader_that_cannot_renew_stops_before_others_may_begin(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    active: set[str] = set()
    worker = Worker(api, "only", active)
    async with worker.started():
        await until(lambda: active == {"only"})
        renewed = server.objects[LEASE]["spec"]["renewTime"]
        server.fail["PUT"] = 500
        await until(lambda: not active)
        assert server.objects[LEASE]["spec"]["renewTime"] >= renewed
        server.fail.clear()
        await until(lambda: active == {"only"})


async def test_a_process_that_froze_knows_at_its_first_step_that_it_does_not_lead(
    parts: tuple[ApiServer, Api],
) -> None:
    """As after SIGSTOP nothing of the loop has run: whoever asks first is told."""
    said: list[bool] = []

    async def work() -> None:
        said.append(elector.leading)
        time.sleep(QUICK.deadline * 1.2)  # noqa: ASYNC251 the whole process stands still
        said.append(elector.leading)
        await asyncio.Event().wait()

    elector = Elector(parts[1], "ns", "meter", "only", QUICK)
    task = asyncio.create_task(elector.run(work))
    try:
        await until(lambda: len(said) >= 2)
    finally:
        await stop(task)
    assert said[:2] == [True, False]


async def test_a_lease_taken_by_force_ends_the_work(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    active: set[str] = set()
    async with Worker(api, "only", active).started():
        await until(lambda: active == {"only"})
        spec = {"holderIdentity": "force", "leaseDurationSeconds": 3600}
        server.put(LEASE, {"metadata": {"name": "meter"}, "spec": spec})
        await until(lambda: not active)
    assert server.objects[LEASE]["spec"]["holderIdentity"] == "force"


async def test_a_deleted_lease_is_made_again(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    active: set[str] = set()
    async with Worker(api, "only", active).started():
        await until(lambda: active == {"only"})
        server.delete(LEASE)
        await until(lambda: LEASE in server.objects and active == {"only"})


async def test_work_that_fails_is_begun_again(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    active: set[str] = set()
    worker = Worker(api, "only", active)
    worker.fail = True
    async with worker.started():
        await until(lambda: server.objects.get(LEASE, {}).get("spec", {}).get("holderIdentity") == "")
        worker.fail = False
        await until(lambda: active == {"only"})


def test_a_lease_is_free_when_its_holder_has_been_silent_for_its_life() -> None:
    seen = Seen()
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "a"}
    seen.note(spec, now=100.0)
    seen.note(dict(spec), now=110.0)
    assert not seen.free("me", now=114.9)
    assert seen.free("me", now=115.0)
    seen.note({**spec, "renewTime": "b"}, now=115.0)
    assert not seen.free("me", now=129.0)
    assert seen.free("other", now=116.0)


def test_times_that_let_two_lead_are_refused() -> None:
    with pytest.raises(ValueError, match="retry < deadline < life"):
        Times(life=10.0, deadline=10.0)
