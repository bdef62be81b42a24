"""Sends the spool's events to the ledger (or to OpenMeter), in batches, until each is acknowledged: at least once.

An event's (source, id) makes it once there. Nothing that a request does waits for this.
"""

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.core import CounterMetricFamily, Metric

from sidecar.journal import Journal
from sidecar.log import Log
from sidecar.post import Answer, PostError, post
from sidecar.segments import Contents

EVENTS_PATH = "/api/v1/events"
BATCH = "application/cloudevents-batch+json"
_MOST_EVENTS = 500
_SEND_SECONDS = 1.0
_TIMEOUT = 30.0
_FIRST_BACK_OFF, _LONGEST_BACK_OFF, _LONGEST_RETRY_AFTER = 0.5, 60.0, 600.0
_MOST_LOGGED = 10  # rejected events of one batch
# What a server says of the events; any other error is about the way to it, and passes.
_BAD_BATCH = frozenset({400, 413, 422})


class Unavailable(Exception):
    """The batch has to be sent again, not before `retry_after` seconds."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go: the ledger's base URL; the token and the CA are read again for each batch."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout: float = _TIMEOUT

    async def send(self, events: list[bytes]) -> Answer:
        """One batch. Raises Unavailable where there is no answer."""
        headers = {"Content-Type": BATCH, "User-Agent": "token-meter"}
        try:
            if self.token_file is not None:
                headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
            tls = self._tls()
        except (OSError, ValueError, ssl.SSLError) as error:
            raise Unavailable(f"cannot read the token or the CA: {error}") from None
        url = self.url.rstrip("/") + EVENTS_PATH
        body = b"[" + b",".join(events) + b"]"
        try:
            return await post(url, headers, body, tls=tls, seconds=self.timeout)
        except PostError as error:
            raise Unavailable(str(error)) from None

    def _tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https://"):
            return None
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else _system_tls()


class Sender:
    """Empties a journal, oldest segment first."""

    def __init__(self, journal: Journal, destination: Destination, log: Log) -> None:
        self._journal = journal
        self._destination = destination
        self._log = log
        self._attempts = 0
        self._longest = _LONGEST_BACK_OFF
        self.results: Counter[str] = Counter()
        self.failures = 0

    async def run(self) -> None:
        """Send what there is, each second, until cancelled."""
        while True:
            try:
                await self._empty()
            except Exception as error:  # noqa: BLE001 a fault of ours must not end it for good
                self._log.failure("sending_failed", error)
            await asyncio.sleep(_SEND_SECONDS)

    async def flush(self, seconds: float) -> int:
        """Send everything within so many seconds, retrying at short intervals; how many events are left. `run` must
        have ended."""
        self._longest, self._attempts = _FIRST_BACK_OFF, 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty()
        return self._journal.waiting

    def collect(self) -> Iterator[Metric]:
        """The sender's metrics."""
        events = CounterMetricFamily(
            "token_meter_events", "Events that the ledger has answered for.", labels=("result",)
        )
        for result in ("accepted", "rejected"):
            events.add_metric((result,), self.results[result])
        yield events
        yield CounterMetricFamily(
            "token_meter_ledger_failures", "Batches that have to be sent again.", self.failures
        )

    async def _empty(self) -> None:
        """Send what there is by now; what comes meanwhile is the next round's, or every few events were a batch."""
        self._journal.seal()
        while (segment := self._journal.oldest()) is not None:
            found = Contents()
            for _ in self._journal.events(segment, found):
                await asyncio.sleep(0)
            events = list(found.closed.values())
            for start in range(0, len(events), _MOST_EVENTS):
                await self._deliver(events[start : start + _MOST_EVENTS])
            self._journal.acknowledge(segment)

    async def _deliver(self, events: list[bytes]) -> None:
        """Send a batch until it is answered for."""
        while True:
            try:
                answer = await self._destination.send(events)
                if 200 <= answer.status < 300:
                    self._attempts = 0
                    self._accepted(events, answer)
                    return
                if not _is_about_events(answer):
                    raise Unavailable(
                        f"HTTP status {answer.status}: {_start_of(answer)}", _retry_after(answer)
                    )
            except Unavailable as error:
                self.failures += 1
                if self._attempts == 0:
                    self._log.line("ledger_unavailable", {"level": "warning", "error": str(error)})
                await asyncio.sleep(self._back_off(error.retry_after))
                continue
            # One that takes a batch whole or not at all: the bad ones are found by halving.
            if len(events) == 1:
                self._rejected(events[0], _start_of(answer))
                return
            half = len(events) // 2
            await self._deliver(events[:half])
            await self._deliver(events[half:])
            return

    def _accepted(self, events: list[bytes], answer: Answer) -> None:
        """Of a batch that was taken, the answer may name events that were not (the ledger's does)."""
        try:
            told = orjson.loads(answer.body) if answer.body else {}
        except orjson.JSONDecodeError:
            told = {}
        rejected = told.get("rejected") if isinstance(told, dict) else None
        entries = [one for one in rejected if isinstance(one, dict)] if isinstance(rejected, list) else []
        for entry in entries[:_MOST_LOGGED]:
            self._tell(entry.get("id"), entry.get("error"))
        self.results["rejected"] += len(entries)
        self.results["accepted"] += max(len(events) - len(entries), 0)

    def _rejected(self, event: bytes, why: str) -> None:
        self.results["rejected"] += 1
        self._tell(orjson.loads(event)["id"], why)

    def _tell(self, event_id: Any, why: Any) -> None:
        self._log.line(
            "event_rejected", {"level": "error", "id": str(event_id)[:128], "error": str(why)[:512]}
        )

    def _back_off(self, retry_after: float) -> float:
        """Seconds to wait: twice as long each time, with jitter, and not less than the server asks for."""
        longest = min(_FIRST_BACK_OFF * 2.0 ** min(self._attempts, 16), self._longest)
        self._attempts += 1
        return max(random.uniform(longest / 2, longest), retry_after)  # noqa: S311 no secret


@lru_cache(maxsize=1)
def _system_tls() -> ssl.SSLContext:
    """What the system trusts; reading it takes too long to do it for each batch."""
    return ssl.create_default_context()


def _is_about_events(answer: Answer) -> bool:
    """Whether the server has read the batch and refuses it: a 400 of a TLS port's or a proxy's is no JSON."""
    return answer.status in _BAD_BATCH and "json" in answer.headers.get("content-type", "")


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("retry-after", "")
    return min(float(value), _LONGEST_RETRY_AFTER) if value.isdecimal() else 0.0


def _start_of(answer: Answer) -> str:
    return answer.body[:256].decode("utf-8", "replace")
