"""What Alembic runs: the steps, on the connection that ledger/database.py has opened and locked."""

from alembic import context

from ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
