"""What the tables hold, for any events in any order."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from ledger.database import DatabaseError, migrate, open_database
from ledger.event import read_event
from ledger.store import KEY, TOKENS, forget, row, store
from ledger.tables import HOUR_MS, Charge, events, hourly, metadata
from tests.ledger.process import event

COLUMNS = ("requests", *TOKENS)


def opened(url: str) -> Engine:
    writing, reading = open_database(url)
    migrate(writing)
    reading.dispose()
    return writing


def test_migrations_make_the_tables_that_the_code_names(database_url: str) -> None:
    engine = opened(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrate(engine)  # once more changes nothing
    engine.dispose()


def test_a_database_of_a_newer_release_is_refused_by_name(database_url: str) -> None:
    engine = opened(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="newer release"):
        migrate(engine)
    engine.dispose()


small = st.integers(0, 3)
any_event = st.builds(
    lambda i, user, model, tokens, exact, hour: event(
        f"e{i}",
        user=user,
        model=model,
        input_tokens=tokens,
        exact=exact,
        time=f"2026-11-23T{hour:02}:59:59.999Z",
    ),
    st.integers(0, 12),
    st.sampled_from([None, "alice", "bøb"]),
    st.sampled_from(["m", "n"]),
    small,
    st.booleans(),
    st.sampled_from([0, 1, 23]),
)


@given(batches=st.lists(st.lists(any_event, max_size=8), max_size=6))
def test_sums_are_those_of_the_first_of_each_id_whatever_is_repeated(batches: list[list[Any]]) -> None:
    engine = opened("sqlite://")
    first: dict[str, Any] = {}
    for batch in batches:
        rows = [row(read_event(one), received=0, charge_running=False) for one in batch]
        with engine.begin() as connection:
            stored = store(connection, rows)
        before = len(first)
        for one in rows:
            first.setdefault(one["id"], one)
        assert stored.new == len(first) - before
        assert stored.duplicates == len(rows) - stored.new
    expected: Counter[tuple[Any, ...]] = Counter()
    for one in first.values():
        key = (one["time"] // HOUR_MS * HOUR_MS, *(one[name] for name in KEY[1:]))
        expected[(*key, "requests")] += 1
        for name in TOKENS:
            expected[(*key, name)] += one[name]
    with engine.connect() as connection:
        found = {
            (*(got[name] for name in KEY), column): got[column]
            for got in (line._mapping for line in connection.execute(select(hourly)))
            for column in COLUMNS
        }
    engine.dispose()
    assert found == dict(expected)


@pytest.mark.parametrize(
    ("data", "running", "charge"),
    [
        ({}, False, Charge.NONE),
        ({"gateway_saw": "nothing", "charged_by_gateway": False}, False, Charge.PENDING),
        ({"gateway_saw": "running_usage", "charged_by_gateway": False}, False, Charge.NONE),
        ({"gateway_saw": "running_usage", "charged_by_gateway": False}, True, Charge.PENDING),
        ({"gateway_saw": "nothing", "charged_by_gateway": False, "channel": "direct"}, True, Charge.NONE),
        ({"gateway_saw": "nothing", "charged_by_gateway": False, "gateway_model": None}, True, Charge.NONE),
        (
            {"gateway_saw": "nothing", "charged_by_gateway": False, "input_tokens": 0, "output_tokens": 0},
            True,
            Charge.NONE,
        ),
        ({"gateway_saw": "final_usage", "charged_by_gateway": False}, True, Charge.NONE),
    ],
)
def test_only_what_the_gateway_missed_is_to_be_charged(data: Any, running: bool, charge: Charge) -> None:
    assert row(read_event(event(**data)), received=0, charge_running=running)["charge"] is charge


def test_old_events_go_a_few_at_a_time_their_sums_stay_and_a_charge_that_waits_stays(
    database_url: str,
) -> None:
    engine = opened(database_url)
    waiting = event(gateway_saw="nothing", charged_by_gateway=False)
    given_events = [event() for _ in range(5)] + [waiting]
    with engine.begin() as connection:
        store(connection, [row(read_event(one), received=0, charge_running=False) for one in given_events])
        assert forget(connection, 2**60, 3) == 3
        assert forget(connection, 2**60, 3) == 2
        assert forget(connection, 2**60, 3) == 0
        assert connection.execute(select(events.c.charge)).scalars().all() == [Charge.PENDING]
        assert connection.execute(select(hourly.c.requests)).scalars().all() == [6]
    engine.dispose()


def test_a_path_that_is_not_absolute_is_refused_at_start(tmp_path: Path) -> None:
    from ledger.settings import SettingsError, read_settings

    with pytest.raises(
        SettingsError, match="TOKEN_METER_LEDGER_DATABASE_URL: SQLite's file needs an absolute path"
    ):
        read_settings({"TOKEN_METER_LEDGER_DATABASE_URL": "sqlite:///ledger.db"})
