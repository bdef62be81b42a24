"""`POST /api/v1/events`: CloudEvents, one or a batch, as OpenMeter's ingest takes them.

Good events of a batch are stored, bad ones are answered one by one. The answer comes after the commit: who gets none
sends again, and nothing is stored twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, SQLAlchemyError

from ledger.event import BadEvent, Event, read_event
from ledger.problems import Problem
from ledger.store import Row, Stored, row, store
from ledger.tables import Charge
from ledger.writer import Writer

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"
_DAY_MS = 86_400_000
MOST_EVENTS = 10_000
"""In one batch."""
Permit = Callable[[Event], str | None]
"""Why the caller may not write this event, or None."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event of a batch that is not stored and never will be."""

    index: int
    id: str
    error: str


def decode(content_type: str, body: bytes) -> list[Any]:
    """The events of a request's body, as JSON has them. Raises Problem."""
    if content_type not in (SINGLE, BATCH, _JSON):
        raise Problem(415, "unsupported_media_type", f"Content-Type must be {BATCH} or {SINGLE}.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "invalid_json", f"The body is not JSON: {error}.") from None
    if content_type == SINGLE or (content_type == _JSON and not isinstance(value, list)):
        return [value]
    if not isinstance(value, list):
        raise Problem(400, "invalid_batch", "A batch is a JSON array of events.")
    if len(value) > MOST_EVENTS:
        raise Problem(413, "batch_too_large", f"A batch has {MOST_EVENTS} events at most.")
    return value


class Ingest:
    """Takes events in, and writes them."""

    def __init__(
        self, writer: Writer, *, retention_days: float, charge_running: bool, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when something to charge was stored."""
        self._writer = writer
        self._retention = int(retention_days * _DAY_MS)
        self._charge_running = charge_running
        self._wake = wake

    async def take(self, values: list[Any], permit: Permit) -> tuple[Stored, list[Rejected]]:
        """Store what is good of them; the rest is told. Raises Problem (503) where nothing can be stored now."""
        rows, rejected = self._read(values, permit)
        try:
            try:
                stored = await self._writer.run(
                    lambda connection: store(connection, [one for _, one in rows])
                )
            except DataError:
                # What the database itself cannot hold must not keep the others out for ever.
                stored, refused = await self._one_by_one(rows)
                rejected += refused
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise Problem(
                503,
                "database_unavailable",
                f"The database takes nothing now: {reason}. Send it again.",
                retry_after=5,
            ) from None
        if any(one["charge"] is Charge.PENDING for _, one in rows):
            self._wake()
        return stored, sorted(rejected, key=lambda one: one.index)

    def _read(self, values: list[Any], permit: Permit) -> tuple[list[tuple[int, Row]], list[Rejected]]:
        now = int(time.time() * 1000)
        rows: list[tuple[int, Row]] = []
        rejected: list[Rejected] = []
        for index, value in enumerate(values):
            try:
                event = read_event(value)
                self._judge(event, now, permit)
            except BadEvent as error:
                name = value.get("id") if isinstance(value, dict) else None
                rejected.append(Rejected(index, name if isinstance(name, str) else "", str(error)))
            else:
                rows.append((index, row(event, received=now, charge_running=self._charge_running)))
        return rows, rejected

    def _judge(self, event: Event, now: int, permit: Permit) -> None:
        if event.moment < now - self._retention:
            raise BadEvent(
                f"time: older than the {self._retention / _DAY_MS:g} days that single events are kept; it may have"
                " been counted before"
            )
        if (why := permit(event)) is not None:
            raise BadEvent(why)

    async def _one_by_one(self, rows: list[tuple[int, Row]]) -> tuple[Stored, list[Rejected]]:
        new = duplicates = 0
        refused: list[Rejected] = []
        for index, one in rows:

            def job(connection: Connection, one: Row = one) -> Stored:
                return store(connection, [one])

            try:
                stored = await self._writer.run(job)
            except DataError as error:
                refused.append(Rejected(index, one["id"], f"the database refuses it: {error.orig}"))
            else:
                new, duplicates = new + stored.new, duplicates + stored.duplicates
        return Stored(new, duplicates), refused


def answer(stored: Stored, rejected: list[Rejected]) -> web.Response:
    """What the sender is told."""
    body = {
        "stored": stored.new,
        "duplicates": stored.duplicates,
        "rejected": [{"index": one.index, "id": one.id, "error": one.error} for one in rejected],
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json")
