"""Storing events: each once, and their sums in the same transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Column, Connection, Table, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger.event import Event
from ledger.tables import HOUR_MS, NOBODY, Charge, events, hourly

TOKENS = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")
KEY = ("hour", "namespace", "service", "user", "model", "endpoint", "channel", "outcome", "exact")
_FINISHED = (Charge.NONE, Charge.CHARGED, Charge.UNCERTAIN, Charge.MISSED)
_GIVEN = [column for column in events.c if column.name != "seq"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """How many of a batch were new, and how many had been stored before."""

    new: int
    duplicates: int


def row(event: Event, *, received: int, charge_running: bool) -> Row:
    """An event as the table has it; `received` in milliseconds. `charge_running`: the gateway charges nothing for
    a stream that did not end, whatever usage it saw on the way."""
    namespace, service, pod = event.place
    data = event.data
    return {
        "source": event.source,
        "id": event.id,
        "time": event.moment,
        "received": received,
        "namespace": namespace,
        "service": service,
        "pod": pod,
        "user": event.subject or NOBODY,
        **data.model_dump(exclude={"gateway_model"}),
        "gateway_model": data.gateway_model or "",
        "charge": _charge(event, charge_running),
    }


def _charge(event: Event, charge_running: bool) -> Charge:
    """Without the model's name at the gateway nobody vouches for the user: nothing is charged."""
    data = event.data
    through = data.channel == "gateway" and bool(data.gateway_model)
    if not through or data.charged_by_gateway or data.gateway_saw == "final_usage" or not data.total_tokens:
        return Charge.NONE
    if data.gateway_saw == "running_usage" and not charge_running:
        return Charge.NONE
    return Charge.PENDING


def store(connection: Connection, rows: Sequence[Row]) -> Stored:
    """Store those that are not there yet, and add them to their hours' sums."""
    first: dict[tuple[str, str], Row] = {}
    for one in rows:
        first.setdefault((one["source"], one["id"]), one)
    if not first:
        return Stored(0, 0)
    statement, parameters = _from(connection, events, _GIVEN, list(first.values()))
    once = statement.on_conflict_do_nothing().returning(events.c.source, events.c.id)
    new = [first[source, event_id] for source, event_id in connection.execute(once, parameters)]
    _add(connection, new)
    return Stored(len(new), len(rows) - len(new))


def _add(connection: Connection, new: Iterable[Row]) -> None:
    sums: dict[tuple[Any, ...], Row] = {}
    for one in new:
        key = (one["time"] // HOUR_MS * HOUR_MS, *(one[name] for name in KEY[1:]))
        total = sums.setdefault(
            key, dict(zip(KEY, key, strict=True)) | dict.fromkeys(("requests", *TOKENS), 0)
        )
        total["requests"] += 1
        for name in TOKENS:
            total[name] += one[name]
    if not sums:
        return
    # In one order, so that two ledgers never wait for each other.
    statement, parameters = _from(connection, hourly, list(hourly.c), [sums[key] for key in sorted(sums)])
    added = {name: hourly.c[name] + statement.excluded[name] for name in ("requests", *TOKENS)}
    connection.execute(statement.on_conflict_do_update(index_elements=list(KEY), set_=added), parameters)


def _from(
    connection: Connection, table: Table, columns: Sequence[Column[Any]], rows: Sequence[Row]
) -> tuple[Any, Any]:
    """An INSERT of these rows, and its parameters."""
    if connection.dialect.name != "postgresql":
        return sqlite.insert(table), list(rows)
    # An array for each column: few parameters whatever the batch, at half the cost of one for each value.
    names = [column.name for column in columns]
    arrays = select(*(func.unnest(bindparam(c.name, type_=ARRAY(c.type))) for c in columns))
    return postgresql.insert(table).from_select(names, arrays), {
        name: [one[name] for one in rows] for name in names
    }


def forget(connection: Connection, before: int, most: int) -> int:
    """Delete up to so many single events from before that moment whose charge is settled; returns how many."""
    old = select(events.c.seq).where(events.c.time < before, events.c.charge.in_(_FINISHED)).limit(most)
    return connection.execute(delete(events).where(events.c.seq.in_(old))).rowcount
