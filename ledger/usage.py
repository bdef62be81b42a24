"""`GET /api/v1/usage`: sums of tokens, grouped and filtered. What is asked for is read purely, then queried."""

import csv
import io
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, cast, func, select
from sqlalchemy.sql import ColumnElement

from ledger.problems import Problem
from ledger.store import TOKENS
from ledger.tables import HOUR_MS, hourly

DAY_MS = 24 * HOUR_MS
DIMENSIONS = ("user", "model", "namespace", "service", "endpoint", "channel", "outcome", "exact")
WINDOWS = {"hour": HOUR_MS, "day": DAY_MS}
SUMS = ("requests", *TOKENS)
MOST_ROWS = 10_000
MOST_TOKENS = 10**15
_RELATIVE = re.compile(r"(\d{1,9})([mhd])\Z")
_UNIT_MS = {"m": 60_000, "h": HOUR_MS, "d": DAY_MS}
_MOST_MS = 253_402_300_799_000  # the year 9999


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for. `start` and `end` are whole hours, in milliseconds; `end` is not included."""

    start: int
    end: int
    group_by: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user_contains: str = ""
    at_least: int = 0
    sort: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer: a row for each group up to the limit, the sums of all, and how many groups there are."""

    query: Query
    rows: Sequence[Mapping[str, Any]]
    total: Mapping[str, int]
    groups: int


def read_query(given: Sequence[tuple[str, str]], now: float | None = None) -> Query:
    """Read the URL's parameters; raises Problem (400), which names the parameter. A beginning or an end within an
    hour takes that whole hour in: sums are by the hour."""
    now_ms = int((time.time() if now is None else now) * 1000)
    known = {
        *("from", "to", "group_by", "sort", "limit", "format", "user_contains", "at_least"),
        *DIMENSIONS,
    }
    values: dict[str, list[str]] = {}
    for name, value in given:
        if name not in known:
            raise _wrong(name, f"there is no such parameter; there are {', '.join(sorted(known))}")
        if "\0" in value:  # PostgreSQL knows no such text
            raise _wrong(name, "has a NUL in it")
        values.setdefault(name, []).append(value)
    groups = tuple(
        dict.fromkeys(one for text in values.get("group_by", ()) for one in text.split(",") if one)
    )
    for group in groups:
        if group not in (*DIMENSIONS, *WINDOWS):
            raise _wrong("group_by", f"{group!r} is none of {', '.join((*DIMENSIONS, *WINDOWS))}")
    if "hour" in groups and "day" in groups:
        raise _wrong("group_by", "either hour or day")
    start = _moment("from", _single(values, "from") or "24h", now_ms) // HOUR_MS * HOUR_MS
    end = -(-_moment("to", _single(values, "to") or "0m", now_ms) // HOUR_MS) * HOUR_MS
    if end <= start:
        raise _wrong("to", "is not after `from`")
    for value in values.get("exact", ()):
        if value not in ("true", "false"):
            raise _wrong("exact", f"{value!r} is neither true nor false")
    where = {name: tuple(values[name]) for name in DIMENSIONS if name in values}
    return Query(
        start,
        end,
        groups,
        where,
        _single(values, "user_contains") or "",
        _number("at_least", _single(values, "at_least"), 0, range(MOST_TOKENS + 1)),
        _sort(_single(values, "sort"), groups),
        _number("limit", _single(values, "limit"), 1000, range(1, MOST_ROWS + 1)),
    )


def run(connection: Connection, query: Query, namespaces: Collection[str] | None) -> Usage:
    """Ask the database; only of these namespaces, where they are given."""
    conditions = list(_conditions(query, namespaces))
    # PostgreSQL sums bigints to a numeric.
    sums = [
        cast(func.coalesce(func.sum(hourly.c[name]), 0), hourly.c[name].type).label(name) for name in SUMS
    ]
    total = dict(connection.execute(select(*sums).where(*conditions)).one()._mapping)
    if not query.group_by:
        return Usage(query, [_readable(total)], total, 1)
    groups = [_group(name).label(name) for name in query.group_by]
    # Counted over the groups, before the limit.
    counted = func.count().over().label("groups")
    statement = select(*groups, *sums, counted).where(*conditions).group_by(*groups)
    if query.at_least:
        statement = statement.having(func.sum(hourly.c.total_tokens) >= query.at_least)
    columns = statement.selected_columns
    order = [columns[name].desc() if down else columns[name].asc() for name, down in _order(query)]
    rows = [dict(row._mapping) for row in connection.execute(statement.order_by(*order).limit(query.limit))]
    return Usage(query, [_readable(row) for row in rows], total, rows[0]["groups"] if rows else 0)


def as_json(usage: Usage) -> dict[str, Any]:
    """As the API answers."""
    return {
        "from": moment(usage.query.start),
        "to": moment(usage.query.end),
        "group_by": list(usage.query.group_by),
        "rows": list(usage.rows),
        "total": dict(usage.total),
        "groups": usage.groups,
        "truncated": usage.groups > len(usage.rows),
    }


def as_csv(usage: Usage) -> str:
    """As a spreadsheet takes it: a line of names, then the rows. A text that it would read as a formula is quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = (*usage.query.group_by, *SUMS)
    writer.writerow(names)
    for row in usage.rows:
        writer.writerow([_harmless(row[name]) for name in names])
    return out.getvalue()


def moment(milliseconds: int) -> str:
    """RFC 3339, UTC."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def _group(name: str) -> ColumnElement[Any]:
    if name in WINDOWS:
        step = WINDOWS[name]
        return hourly.c.hour if step == HOUR_MS else hourly.c.hour - hourly.c.hour % step
    return hourly.c[name]


def _conditions(query: Query, namespaces: Collection[str] | None) -> Iterator[ColumnElement[bool]]:
    yield hourly.c.hour >= query.start
    yield hourly.c.hour < query.end
    if namespaces is not None:
        yield hourly.c.namespace.in_(namespaces)
    for name, wanted in query.where.items():
        yield hourly.c[name].in_([one == "true" for one in wanted] if name == "exact" else wanted)
    if query.user_contains:
        yield hourly.c.user.icontains(query.user_contains, autoescape=True)


def _order(query: Query) -> Iterator[tuple[str, bool]]:
    """Columns to sort by, each with whether it goes down; the groups themselves decide between equals."""
    if query.sort:
        yield query.sort.lstrip("-"), query.sort.startswith("-")
    elif not set(query.group_by) & set(WINDOWS):
        yield "total_tokens", True
    yield from ((name, False) for name in query.group_by)


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: moment(value) if name in WINDOWS else value for name, value in row.items() if name != "groups"
    }


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _moment(name: str, text: str, now: int) -> int:
    """RFC 3339, or so long ago: 90m, 24h, 7d."""
    if relative := _RELATIVE.match(text):
        return max(now - int(relative.group(1)) * _UNIT_MS[relative.group(2)], 0)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(
            name, f"{text!r} is neither a time (2026-01-31T12:00:00Z) nor so long ago (90m, 24h, 7d)"
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return min(max(int(parsed.timestamp() * 1000), 0), _MOST_MS)


def _sort(text: str | None, groups: tuple[str, ...]) -> str:
    if not text:
        return ""
    if text.lstrip("-") not in (*SUMS, *groups):
        raise _wrong(
            "sort",
            f"{text!r} is none of {', '.join((*SUMS, *groups))}, with a - before it for the most first",
        )
    return text


def _number(name: str, text: str | None, default: int, among: range) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) not in among:
        raise _wrong(name, f"{text!r} is no number from {among[0]} to {among[-1]}")
    return int(text)


def _single(values: Mapping[str, list[str]], name: str) -> str | None:
    given = values.get(name, ())
    if len(given) > 1:
        raise _wrong(name, "is given more than once")
    return given[0] if given else None


def _wrong(name: str, why: str) -> Problem:
    return Problem(400, "invalid_parameter", f"{name}: {why}.")
