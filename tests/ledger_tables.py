"""The embedded ledger's tables, as the tests look into them and empty them."""

import sqlite3

TABLES = ("ledger_names", "ledger_batches", "ledger_exported", "ledger_backlog", "ledger_cursors")


def empty_ledger(connection: sqlite3.Connection) -> None:
    """As a file that was lost leaves it: positions begin anew."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")
