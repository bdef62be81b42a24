"""Databases: each test runs on SQLite and, where it is installed, on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.ledger import postgres
from tests.ledger.process import Ledger


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """The tests' PostgreSQL."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return server.create(f"t{uuid4().hex}")


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that runs, open to this machine."""
    with Ledger(database_url, tmp_path) as running:
        yield running
