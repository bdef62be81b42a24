"""Opening the database: SQLite or PostgreSQL, brought to the newest tables."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_BUSY_SECONDS = 10.0
_LOCK = 0x746F6B656E  # any number that only our migrations take


class DatabaseError(Exception):
    """The database cannot be used; the text says why and what to do."""


def open_database(url: str) -> tuple[Engine, Engine]:
    """Engines for the one writer and for readers. Nothing is asked of the database yet. Raises DatabaseError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError(
            "the database's URL cannot be read; as in postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, "BEGIN IMMEDIATE"), _sqlite(parsed, "BEGIN")
    parsed = parsed.set(drivername="postgresql+psycopg")
    writer = create_engine(parsed, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=_TIMEOUT)
    return writer, create_engine(
        parsed, pool_size=4, max_overflow=0, pool_pre_ping=True, connect_args=_TIMEOUT
    )


def migrate(engine: Engine) -> None:
    """Bring the tables to their newest form; several ledgers at once wait for each other. Raises DatabaseError
    where the database is of a newer release."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseError(
                f"the database is of a newer release than this ledger ({error}); install that release again"
            ) from None


_TIMEOUT = {"connect_timeout": 5}


def _sqlite(url: URL, begin: str) -> Engine:
    """As SQLAlchemy's documentation has it for real transactions: the driver begins none by itself."""
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # What was acknowledged outlives a power cut too; group commit pays for it.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
