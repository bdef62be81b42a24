"""The work queue: each key at most once in it and never in two hands, failures again after a jittered back-off."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from certs.watch import Backoff

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to be worked on. A key added while it is worked on is worked on again afterwards."""

    def __init__(self, backoff: Callable[[], Backoff] = Backoff) -> None:
        self._new_backoff = backoff
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Keys that wait or are worked on; those that wait for their back-off are not among them."""
        return len(self._waiting) + len(self._working)

    @property
    def failing(self) -> int:
        """Keys whose last attempt failed."""
        return len(self._backoffs)

    def add(self, key: K) -> None:
        """Work on it soon."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    async def work(self, handle: Callable[[K], Awaitable[bool]]) -> None:
        """One worker, until cancelled. `handle` says whether it went well; where not, it is asked again later."""
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                well = await handle(key)
            finally:
                self._working.discard(key)
            if well:
                self._backoffs.pop(key, None)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif not well:
                self._later(key)

    def _later(self, key: K) -> None:
        delay = self._backoffs.setdefault(key, self._new_backoff()).next()
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self.add, key)

    def close(self) -> None:
        """Forget what waits for its back-off."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
