"""The one writer: a thread that runs what is to be written, and commits all that waits in one go.

One commit costs a write to the disk, whatever is in it. Who waits hears after the commit.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

_LOG = logging.getLogger(__name__)
_MOST = 64
"""Jobs in one transaction."""
T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    run: Callable[[Connection], Any]
    future: "asyncio.Future[Any]"


class Writer:
    """Runs jobs one after another. A job may be run twice (after another one of its group failed): it must do
    nothing but read and write through its connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Connection], T]) -> T:
        """The job's result, after it is committed; raises what it or the commit raised, with nothing written."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(job, future))
        # Who gives up waiting leaves the job to be done.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """End when all that waits is done."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, last = [first], False
            while len(group) < _MOST:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    last = True
                    break
                group.append(job)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[_Job]) -> None:
        try:
            with self._engine.begin() as connection:
                results = [job.run(connection) for job in group]
        except Exception as error:  # noqa: BLE001 who waits gets it
            if len(group) > 1:
                for job in group:
                    self._commit([job])
            else:
                self._tell(group[0], None, error)
            return
        for job, result in zip(group, results, strict=True):
            self._tell(job, result, None)

    def _tell(self, job: _Job, result: Any, error: Exception | None) -> None:
        def tell() -> None:
            if job.future.done():
                return
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop has ended; nobody waits
            _LOG.debug("nobody waits for a write any more")
