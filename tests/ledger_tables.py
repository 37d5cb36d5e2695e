"""Empties the embedded ledger's tables."""

import sqlite3

_TABLES = ("ledger_run_ids", "ledger_batches", "ledger_exported", "ledger_backlog", "ledger_cursors")


def empty_ledger(connection: sqlite3.Connection) -> None:
    """As a file that was lost leaves it: positions begin anew."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")
