"""The events of this pod until the ledger has them.

A record is written when a request is admitted, when its count has moved on, and when it has ended; each is the whole
event as it is to be sent if nothing comes after it. So what a killed sidecar has left needs no understanding: its next
start closes every open event as its last record has it, `outcome: meter_restarted`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sidecar import segments
from sidecar.event import Source, closed_event, open_event
from sidecar.journal import Journal
from sidecar.log import Log
from sidecar.record import Record

SWEEP_SECONDS = 0.25
_CHECKPOINT_SECONDS = 1.0
_CHECKPOINT_TOKENS = 256


@dataclass(slots=True)
class _Open:
    """A request under way, and what its last record said."""

    record: Record
    tokens: int = 0
    written: float = 0.0


class Spool:
    """Writes the records of requests into its journal, from which the sender takes them."""

    def __init__(self, folder: Path | None, source: Source, log: Log, *, max_bytes: int) -> None:
        self._source = source
        self._open: dict[str, _Open] = {}
        self.journal = Journal(folder, log, max_bytes=max_bytes, carry=self._carry)
        left = self.journal.start()
        self._recovered = len(left)
        if left:
            closing = [segments.frame(segments.CLOSED, event_id, event) for event_id, event in left.items()]
            self.journal.write(b"".join(closing), closed=len(left))
            log.line("recovered", {"requests": len(left)})

    def admit(self, record: Record) -> None:
        """A request begins: a kill does not hide that it was there."""
        opened = self._open[record.event_id] = _Open(record)
        self.journal.write(self._version(opened, monotonic()))

    def close(self, record: Record) -> None:
        """A request has ended: when this returns its event is written."""
        self._open.pop(record.event_id, None)
        event = orjson.dumps(closed_event(record, self._source))
        self.journal.write(segments.frame(segments.CLOSED, record.event_id.encode(), event), closed=1)

    def sweep(self) -> None:
        """Write the counts that have moved on: each second, or each 256 tokens. Called every SWEEP_SECONDS."""
        now = monotonic()
        versions = []
        for opened in self._open.values():
            if opened.record.so_far is None:
                continue
            tokens = opened.record.so_far()[0].total
            more = tokens - opened.tokens
            if more >= _CHECKPOINT_TOKENS or (more and now - opened.written >= _CHECKPOINT_SECONDS):
                opened.tokens = tokens
                versions.append(self._version(opened, now))
        if versions:
            self.journal.write(b"".join(versions))
        self.journal.retry()

    def collect(self) -> Iterator[Metric]:
        """The spool's metrics."""
        journal = self.journal
        yield GaugeMetricFamily(
            "token_meter_spool_events", "Events that wait for the ledger.", journal.waiting
        )
        size = GaugeMetricFamily("token_meter_spool_bytes", "What the spool holds.", labels=("where",))
        size.add_metric(("disk",), journal.bytes_on_disk)
        size.add_metric(("memory",), journal.bytes_in_memory)
        yield size
        yield GaugeMetricFamily(
            "token_meter_spool_in_memory",
            "1 while the spool's volume is not written to, so that a kill would lose events.",
            int(journal.in_memory),
        )
        lost = CounterMetricFamily(
            "token_meter_spool_lost_events", "Events that the ledger will never get.", labels=("reason",)
        )
        for reason in ("full", "unreadable"):
            lost.add_metric((reason,), journal.lost[reason])
        yield lost
        failures = CounterMetricFamily(
            "token_meter_spool_failures",
            "Times that the spool's volume failed or was slow.",
            labels=("what",),
        )
        for what in ("open", "read", "write", "delete", "slow"):
            failures.add_metric((what,), journal.failures[what])
        yield failures
        yield CounterMetricFamily(
            "token_meter_spool_recovered_events",
            "Requests that were open when the sidecar was killed, closed by its next start.",
            self._recovered,
        )

    def _version(self, opened: _Open, now: float) -> bytes:
        opened.written = now
        event = orjson.dumps(open_event(opened.record, self._source, now))
        return segments.frame(segments.OPEN, opened.record.event_id.encode(), event)

    def _carry(self) -> bytes:
        now = monotonic()
        return b"".join([self._version(opened, now) for opened in self._open.values()])
