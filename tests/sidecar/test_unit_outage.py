"""The ledger is away for an hour, in time-lapse: a loop whose clock runs ahead whenever it would only wait."""

import asyncio
import json
import os
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.endpoints import Endpoint
from sidecar.event import Source
from sidecar.log import Log
from sidecar.post import Answer
from sidecar.record import Record
from sidecar.sender import Destination, Sender, Unavailable
from sidecar.spool import Spool

HOUR = 3600


class _Skipping(selectors.DefaultSelector):
    """Waits for no time: it only adds it up."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not (ready := super().select(0)) and timeout:
            self.skipped += timeout
        return ready


class _TimeLapse(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return super().time() + self._skipping.skipped


@dataclass(frozen=True, slots=True)
class _Away(Destination):
    """A ledger that is there from a time on; it stands for the network between, which cannot be away for an hour."""

    until: float = 0.0
    now: Callable[[], float] = float
    tries: list[float] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)

    async def send(self, events: list[bytes]) -> Answer:
        self.tries.append(self.now())
        if self.now() < self.until:
            raise Unavailable("nobody listens")
        self.stored.extend(json.loads(event)["id"] for event in events)
        return Answer(200, {}, b"")


def test_an_hour_without_the_ledger_loses_no_event_and_asks_it_less_and_less_often(tmp_path: Path) -> None:
    async def hour() -> tuple[list[str], _Away, Spool]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        log = Log(loop, os.open(os.devnull, os.O_WRONLY))
        spool = Spool(tmp_path, Source("s"), log, max_bytes=64 * 1024 * 1024)
        ledger = _Away("http://ledger", until=HOUR, now=lambda: loop.time() - start)
        sending = asyncio.create_task(Sender(spool.journal, ledger, log).run())
        made = []
        for _ in range(HOUR):
            record = Record(Endpoint.CHAT_COMPLETIONS, 0.0, "r")
            spool.admit(record)
            spool.close(record)
            made.append(record.event_id)
            await asyncio.sleep(1)
        await asyncio.sleep(70)
        sending.cancel()
        spool.journal.close()
        log.close()
        return made, ledger, spool

    with asyncio.Runner(loop_factory=_TimeLapse) as runner:
        made, ledger, spool = runner.run(hour())
    assert ledger.stored == made
    assert spool.journal.lost.total() == spool.journal.waiting == 0
    waits = [after - before for before, after in zip(ledger.tries, ledger.tries[1:], strict=False)]
    during = [wait for wait, at in zip(waits, ledger.tries, strict=False) if at < HOUR]
    assert max(during) <= 60.1
    assert HOUR / 60 < len(during) < HOUR / 30 + 10
