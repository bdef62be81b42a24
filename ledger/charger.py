"""Charging the gateway for what it has missed: a loop over the events that wait.

An event is claimed (committed) before the call and settled after it. A call that may have arrived is never made
again; one that has not is, for as long as its window lasts.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from ledger.charges import backlog, claim, give_up, miss, pending, settle
from ledger.charging import Due, Miss, Take, decide
from ledger.cluster import Unreachable
from ledger.gateway import Source
from ledger.metrics import Metrics
from ledger.ratelimit import RateLimitService, Unavailable
from ledger.tables import Charge
from ledger.writer import Writer

_LOG = logging.getLogger(__name__)
_PAGE = 256
_MOST_AT_ONCE = 32
"""Calls in flight: as many are `uncertain` after a kill."""
_IDLE_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
Job = tuple[Due, Take]


class Charger:
    """Charges what waits, until it is stopped. Without `dial` nothing can be charged, and each event is missed."""

    def __init__(
        self,
        writer: Writer,
        source: Source | None,
        dial: Callable[[], Awaitable[RateLimitService]] | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`dial` connects to the rate limit service, with its CA as it is now; raises Unreachable, Unavailable, or
        OSError."""
        self._writer = writer
        self._source = source
        self._dial = dial
        self._metrics = metrics
        self._clock = clock
        self._service: RateLimitService | None = None
        self._at_once = 1
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to charge."""
        self._woken.set()

    def stop(self) -> None:
        """End after the calls that are being made."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Until it is stopped. A service or database that is away is asked again, less and less often."""
        wait, begun = _FIRST_WAIT, False
        while not self._stopping.is_set():
            self._woken.clear()
            done = False
            try:
                if not begun:
                    self._count(Charge.UNCERTAIN, await self._writer.run(give_up))
                    begun = True
                done = await self._round()
                self._metrics.waiting(*await self._writer.run(backlog), self._clock())
            except (SQLAlchemyError, Unreachable, Unavailable, OSError) as error:
                _LOG.warning("charging waits: %s", str(error).partition("\n")[0])
            except Exception:  # noqa: BLE001 whatever it is, it must not end the charging
                _LOG.exception("charging waits")
            if done:
                wait = _FIRST_WAIT
                await _within(self._woken, _IDLE_SECONDS)
            else:
                # A claim whose commit was not answered is nobody's.
                begun = False
                await self._hang_up()
                wait = min(wait * 2, _LONGEST_WAIT)
                await _within(self._stopping, wait * random.uniform(0.5, 1))  # noqa: S311 jitter
        await self._hang_up()

    async def _round(self) -> bool:
        """Look once at each that waits; whether none of them has to be tried again."""
        after, done = 0, True
        while not self._stopping.is_set() and (
            page := await self._writer.run(partial(pending, after=after, most=_PAGE))
        ):
            after = page[-1].seq
            done &= await self._page(page)
        return done

    async def _page(self, page: Sequence[Due]) -> bool:
        jobs: list[Job] = []
        lost: dict[int, Miss] = {}
        objects = await self._source.read() if self._source and self._dial else None
        for due in page:
            end = decide(due, objects, self._clock()) if objects else Miss("off")
            if isinstance(end, Take):
                jobs.append((due, end))
            else:
                lost[due.seq] = end
        if lost:
            await self._lose([due for due in page if due.seq in lost], lost)
        done = True
        while jobs and not self._stopping.is_set():
            chunk, jobs = jobs[: self._at_once], jobs[self._at_once :]
            done &= await self._charge(chunk)
        return done

    async def _lose(self, page: Sequence[Due], lost: dict[int, Miss]) -> None:
        mine = await self._writer.run(partial(miss, seqs=lost.keys()))
        for due in page:
            if due.seq in mine:
                self._count(Charge.MISSED, [due.tokens])
                self._metrics.misses.labels(lost[due.seq].reason).inc()

    async def _charge(self, jobs: Sequence[Job]) -> bool:
        """Make the calls of these; raises Unavailable where one was not answered, after all are settled."""
        if self._service is None and self._dial:
            self._service = await self._dial()
        mine = await self._writer.run(partial(claim, seqs=[due.seq for due, _ in jobs]))
        jobs = [job for job in jobs if job[0].seq in mine]
        ends = await asyncio.gather(*(self._call(*job) for job in jobs))
        await self._settle([(due.seq, end) for (due, _), (end, _) in zip(jobs, ends, strict=True)])
        for (due, _), (end, _) in zip(jobs, ends, strict=True):
            if end is not Charge.PENDING:
                self._count(end, [due.tokens])
        if errors := [error for _, error in ends if error]:
            # One at a time until it answers again: a call that fails may be lost for good.
            self._at_once = 1
            raise errors[0]
        self._at_once = min(self._at_once * 2, _MOST_AT_ONCE)
        return all(end is not Charge.PENDING for end, _ in ends)

    async def _call(self, due: Due, take: Take) -> tuple[Charge, Unavailable | None]:
        assert self._service
        left = take.until - self._clock()
        if left <= 0:
            return Charge.PENDING, None
        try:
            answer = await self._service.take_all(take.buckets, due.tokens, within=left)
        except Unavailable as error:
            return Charge.UNCERTAIN if error.sent else Charge.PENDING, error
        # A service that has just started may not know its buckets yet; of those it takes nothing.
        return Charge.CHARGED if any(one is not None for one in answer) else Charge.PENDING, None

    async def _settle(self, ends: Sequence[tuple[int, Charge]]) -> None:
        """What is known of a call must not be lost with a database that is away for a while."""
        wait = _FIRST_WAIT
        while True:
            try:
                return await self._writer.run(partial(settle, ends=ends))
            except SQLAlchemyError as error:
                if self._stopping.is_set():
                    raise
                _LOG.warning("charges are not written yet: %s", str(error).partition("\n")[0])
                await _within(self._stopping, wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    def _count(self, charge: Charge, tokens: Sequence[int]) -> None:
        self._metrics.charges.labels(charge.value).inc(len(tokens))
        self._metrics.charged_tokens.labels(charge.value).inc(sum(tokens))

    async def _hang_up(self) -> None:
        """The next call connects anew, with the CA as it is then."""
        if service := self._service:
            self._service = None
            await service.close()


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for it, or so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
