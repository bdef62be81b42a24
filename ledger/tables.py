"""What the ledger keeps: each event once, and sums of them by the hour. Times are milliseconds since 1970, UTC.

The same tables on SQLite and PostgreSQL; migrations/ makes them, and a test holds it to what is written here.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

HOUR_MS = 3_600_000
NOBODY = ""
"""The user of a request that had none: a key needs a value."""


class Charge(StrEnum):
    """Whether the gateway's rate limit service has been told of an event's tokens."""

    NONE = "none"
    """Nothing to tell: charged by the gateway, a direct call, or no tokens."""
    PENDING = "pending"
    """To be told; again and again while its window lasts."""
    CHARGING = "charging"
    """Being told; committed before the call."""
    CHARGED = "charged"
    UNCERTAIN = "uncertain"
    """The call may have arrived; not repeated, since a double charge is worse than a missed one."""
    MISSED = "missed"
    """The window ended, or there was no bucket to take from."""


metadata = MetaData()
# SQLite counts up only what is declared INTEGER.
_serial = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("seq", _serial, primary_key=True),
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("gateway_model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("counted_by", Text, nullable=False),
    Column("exact", Boolean, nullable=False),
    Column("gateway_saw", Text, nullable=False),
    Column("charged_by_gateway", Boolean, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("duration_ms", Float, nullable=False),
    Column("ttft_ms", Float),
    Column("charge", Text, nullable=False),
    UniqueConstraint("source", "id", name="events_once"),
    Index("events_time", "time"),
    sqlite_autoincrement=True,
)
Index(
    "events_to_charge",
    events.c.seq,
    postgresql_where=events.c.charge.in_([Charge.PENDING, Charge.CHARGING]),
    sqlite_where=events.c.charge.in_([Charge.PENDING, Charge.CHARGING]),
)

hourly = Table(
    "hourly",
    metadata,
    # The key: what usage can be grouped and filtered by.
    Column("hour", BigInteger, primary_key=True),
    Column("namespace", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("exact", Boolean, primary_key=True),
    # The sums.
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
)
