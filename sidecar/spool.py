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
STEP = 32
"""Requests that are looked at in one go, while all others wait: a millisecond."""


@dataclass(slots=True)
class _Open:
    """A request under way, its last record with the tokens and the time of that, and when to look at it again."""

    record: Record
    frame: bytes = b""
    tokens: int = 0
    written: float = 0.0
    look_at: float = 0.0


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

    def sweep(self) -> Iterator[None]:
        """Write the counts that have moved on: each second, or each 256 tokens. To be run each SWEEP_SECONDS, a step
        at a time."""
        every = list(self._open.values())
        for start in range(0, len(every), STEP):
            now = monotonic()
            # Who has ended since is not written again: after its last word there must be no other.
            there = (one for one in every[start : start + STEP] if one.record.event_id in self._open)
            versions = [self._version(one, now) for one in there if _has_moved_on(one, now)]
            if versions:
                self.journal.write(b"".join(versions))
            yield
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
        opened.frame = segments.frame(segments.OPEN, opened.record.event_id.encode(), event)
        return opened.frame

    def _carry(self) -> bytes:
        return b"".join([opened.frame for opened in self._open.values()])


def _has_moved_on(opened: _Open, now: float) -> bool:
    """Whether a new record is due. Reading a count takes time, so it is done no sooner than 256 tokens more can be
    there at the pace so far."""
    if opened.record.so_far is None or now < opened.look_at:
        return False
    tokens = opened.record.so_far()[0].total
    more, since = tokens - opened.tokens, now - opened.written
    due = more >= _CHECKPOINT_TOKENS or (more > 0 and since >= _CHECKPOINT_SECONDS)
    if due:
        opened.tokens = tokens
    tokens_left = _CHECKPOINT_TOKENS - (0 if due else more)
    seconds_left = _CHECKPOINT_SECONDS - (0.0 if due else since)
    opened.look_at = now + min(tokens_left * since / more, seconds_left) if more > 0 else now
    return due
