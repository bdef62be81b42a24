"""The tables' history, run by Alembic when the ledger starts."""
