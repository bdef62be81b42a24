"""Events, each once, and their sums by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TOKENS = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("source", "id")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("time", "received")),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in (
                "namespace",
                "service",
                "pod",
                "user",
                "model",
                "gateway_model",
                "endpoint",
                "channel",
            )
        ),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TOKENS),
        sa.Column("counted_by", sa.Text, nullable=False),
        sa.Column("exact", sa.Boolean, nullable=False),
        sa.Column("gateway_saw", sa.Text, nullable=False),
        sa.Column("charged_by_gateway", sa.Boolean, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("ttft_ms", sa.Float),
        sa.Column("charge", sa.Text, nullable=False),
        sa.UniqueConstraint("source", "id", name="events_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_time", "events", ["time"])
    waiting = sa.text("charge IN ('pending', 'charging')")
    op.create_index("events_to_charge", "events", ["seq"], postgresql_where=waiting, sqlite_where=waiting)
    op.create_table(
        "hourly",
        sa.Column("hour", sa.BigInteger, primary_key=True),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("namespace", "service", "user", "model", "endpoint", "channel", "outcome")
        ),
        sa.Column("exact", sa.Boolean, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("requests", *_TOKENS)),
    )
