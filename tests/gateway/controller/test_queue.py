"""The work queue: nothing is lost, nothing is done twice at once, failures come back."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from certs.watch import Backoff
from gateway.queue import WorkQueue


async def until_empty(queue: WorkQueue[str]) -> None:
    while len(queue):  # noqa: ASYNC110 turns of the loop, no time passes
        await asyncio.sleep(0)


async def test_a_key_that_waits_is_worked_on_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done: list[str] = []

    async def handle(key: str) -> bool:
        done.append(key)
        return True

    for key in "aabab":
        queue.add(key)
    worker = asyncio.ensure_future(queue.work(handle))
    await until_empty(queue)
    worker.cancel()
    assert done == ["a", "b"]


async def test_a_key_added_while_it_is_worked_on_is_worked_on_again_and_never_by_two() -> None:
    queue: WorkQueue[str] = WorkQueue()
    hold, working, most, done = asyncio.Event(), 0, 0, 0

    async def handle(key: str) -> bool:
        nonlocal working, most, done
        working += 1
        most = max(most, working)
        await hold.wait()
        working -= 1
        done += 1
        return True

    queue.add("a")
    workers = [asyncio.ensure_future(queue.work(handle)) for _ in range(3)]
    while not working:  # noqa: ASYNC110 turns of the loop, no time passes
        await asyncio.sleep(0)
    for _ in range(3):
        queue.add("a")
    hold.set()
    await until_empty(queue)
    for worker in workers:
        worker.cancel()
    assert (most, done) == (1, 2)


async def test_a_failure_is_tried_again_and_holds_up_nobody() -> None:
    queue: WorkQueue[str] = WorkQueue(lambda: Backoff(first=0.001, most=0.001))
    tries: Counter[str] = Counter()
    finished = asyncio.Event()

    async def handle(key: str) -> bool:
        tries[key] += 1
        if key == "broken" and tries[key] == 3:
            finished.set()
        return key != "broken" or tries[key] >= 3

    for key in ("broken", "well"):
        queue.add(key)
    worker = asyncio.ensure_future(queue.work(handle))
    await finished.wait()
    await until_empty(queue)
    worker.cancel()
    assert tries == {"broken": 3, "well": 1}
    assert queue.failing == 0


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4))
def test_every_key_that_was_added_is_worked_on(keys: list[str], count: int) -> None:
    async def scene() -> set[str]:
        queue: WorkQueue[str] = WorkQueue()
        done: set[str] = set()

        async def handle(key: str) -> bool:
            await asyncio.sleep(0)
            done.add(key)
            return True

        workers = [asyncio.ensure_future(queue.work(handle)) for _ in range(count)]
        for key in keys:
            queue.add(key)
            await asyncio.sleep(0)
        await until_empty(queue)
        for worker in workers:
            worker.cancel()
        return done

    assert asyncio.run(scene()) == set(keys)
