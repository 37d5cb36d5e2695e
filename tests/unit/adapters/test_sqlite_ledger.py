"""How rows lie in the embedded store: held against a few lines of Python, and looked at row by row."""

import sqlite3
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.adapters import sqlite_ledger as module
from proxy.adapters.sqlite_ledger import add_rows, forget, has_row, row_at, rows_after, trim
from proxy.adapters.sqlite_schema import MIGRATIONS

RUN_IDS = (*"abcdefgh", "", 'ü"\n')
ROWS = st.lists(st.tuples(st.sampled_from(RUN_IDS), st.binary(max_size=6)), max_size=9)
STEPS = st.one_of(
    st.tuples(st.just("add"), ROWS),
    st.tuples(st.just("go"), st.integers(0, 12)),
    st.tuples(st.just("read"), st.integers(0, 12), st.integers(1, 5)),
    st.tuples(st.just("forget")),
)


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (statement for statements in MIGRATIONS for statement in statements):
        connection.execute(statement)
    return connection


def waiting(connection: sqlite3.Connection, tenant_id: str = "acme") -> tuple[int, int]:
    """How many rows of a tenant wait, and how large they are."""
    found = connection.execute("SELECT rows, bytes FROM ledger_backlog WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return found or (0, 0)


def lengths(connection: sqlite3.Connection) -> list[int]:
    return [rows for (rows,) in connection.execute("SELECT rows FROM ledger_batches ORDER BY tenant_id, last_position")]


@pytest.fixture
def connection():
    connection = opened()
    yield connection
    connection.close()


@dataclass
class Model:
    rows: list[tuple[int, str, bytes]] = field(default_factory=list)
    pages: list[list[str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    last: int = 0

    def add(self, rows):
        for run_id, data in rows:
            if run_id not in self.names:
                self.names.add(run_id)
                self.last += 1
                self.rows.append((self.last, run_id, data))

    def go(self, position):
        gone = [run_id for at, run_id, _ in self.rows if at <= position]
        self.rows = [row for row in self.rows if row[0] > position]
        if gone:
            self.pages.append(gone)

    def forget(self):
        if self.pages:
            self.names -= set(self.pages.pop(0))


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_it_does_what_the_model_does(steps):
    """Of another tenant, which has rows of the same names, nothing changes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "BATCH_ROWS_MAX", 3)
        patched.setattr(module, "BATCH_BYTES_MAX", 10)
        connection, model = opened(), Model()
        others = [("a", b"1"), ("h", b"22")]
        add_rows(connection, "other", others)
        for now_ms, step in enumerate(steps, 1):
            match step:
                case ("add", rows):
                    add_rows(connection, "acme", rows)
                    model.add(rows)
                case ("go", position):
                    trim(connection, "acme", position, now_ms)
                    model.go(position)
                case ("read", after, limit):
                    expected = [(at, data) for at, _, data in model.rows if at > after][:limit]
                    assert rows_after(connection, "acme", after, limit) == expected
                    found = [data for at, _, data in model.rows if at == after]
                    assert row_at(connection, "acme", after) == (found[0] if found else None)
                case ("forget",):
                    forget(connection, now_ms, 1)
                    model.forget()
            assert rows_after(connection, "acme", 0, 1_000) == [(at, data) for at, _, data in model.rows]
            assert waiting(connection) == (len(model.rows), sum(len(data) for _, _, data in model.rows))
            shown = connection.execute(
                "SELECT position, run_id, data FROM ledger WHERE tenant_id = 'acme' ORDER BY position"
            ).fetchall()
            assert shown == model.rows
            for run_id in RUN_IDS:
                assert has_row(connection, "acme", run_id) == (run_id in model.names)
        assert rows_after(connection, "other", 0, 10) == [(1, b"1"), (2, b"22")]
        assert [has_row(connection, "other", run_id) for run_id in "ahb"] == [True, True, False]
        connection.close()


def test_many_rows_lie_in_few_batches_and_a_large_one_in_its_own(connection):
    add_rows(connection, "acme", [(f"run_{number}", b"x" * 600) for number in range(200)])
    assert lengths(connection) == [64, 64, 64, 8]
    add_rows(connection, "other", [("small", b"x"), ("large", b"x" * 70_000), ("next", b"x"), ("last", b"x")])
    assert lengths(connection) == [64, 64, 64, 8, 1, 1, 2]


def test_what_leaves_in_the_middle_of_a_batch_leaves_the_rest_of_it(connection):
    add_rows(connection, "acme", [(f"run_{number}", b"%03d" % number) for number in range(128)])
    trim(connection, "acme", 100, 1)
    assert lengths(connection) == [28]
    assert rows_after(connection, "acme", 0, 2) == [(101, b"100"), (102, b"101")]
    assert waiting(connection) == (28, 84)
    trim(connection, "acme", 100, 2)  # again: nothing is left to go
    assert connection.execute("SELECT exported_at_ms FROM ledger_exported").fetchall() == [(1,)]


def exported(connection: sqlite3.Connection, *pages: int) -> None:
    """Pages of so many rows each, exported at 1, 2, 3…: `run_PAGE_ROW`."""
    last = 0
    for page, rows in enumerate(pages, 1):
        add_rows(connection, "acme", [(f"run_{page}_{number}", b"") for number in range(rows)])
        trim(connection, "acme", last := last + rows, page)


def known(connection: sqlite3.Connection, pages: int) -> list[int]:
    """Of which pages the run ids are known."""
    return [page for page in range(1, pages + 1) if has_row(connection, "acme", f"run_{page}_0")]


def test_run_ids_are_forgotten_a_page_at_a_time_the_oldest_first(connection):
    exported(connection, 1, 1, 1, 1)
    connection.execute("UPDATE ledger_exported SET exported_at_ms = 10 - exported_at_ms")  # the clock was put back
    forget(connection, 9, 2)
    assert known(connection, 4) == [1, 2]
    forget(connection, 9, 2)
    assert known(connection, 4) == [1]  # not exported before, but at that instant
    assert connection.execute("SELECT count(*) FROM ledger_exported").fetchone() == (1,)


def test_no_more_run_ids_are_forgotten_at_once_than_may_be_but_for_one_page(connection):
    exported(connection, 5, 2, 1, 2)
    forget(connection, 10, 3)
    assert known(connection, 4) == [2, 3, 4]
    forget(connection, 10, 3)
    assert known(connection, 4) == [4]


def test_the_view_looks_at_one_batch_at_a_time(connection):
    """Sorted whole, a backlog of a hundred thousand rows would take gigabytes."""
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT data FROM ledger WHERE tenant_id = 'acme'").fetchall()
    assert plan
    assert not [step for *_, step in plan if "TEMP B-TREE" in step]


def test_a_run_that_was_forgotten_may_come_again_and_waits_like_any_other(connection):
    add_rows(connection, "acme", [("a", b"1")])
    trim(connection, "acme", 1, 1)
    forget(connection, 2, 1)
    add_rows(connection, "acme", [("a", b"2")])
    assert rows_after(connection, "acme", 0, 9) == [(2, b"2")]


def test_nothing_is_added_where_nothing_is_new(connection):
    add_rows(connection, "acme", [])
    assert connection.execute("SELECT count(*) FROM ledger_backlog").fetchone() == (0,)
    add_rows(connection, "acme", [("a", b"1"), ("b", b"2")])
    before = connection.total_changes
    add_rows(connection, "acme", [("a", b"3")])
    assert connection.total_changes == before
    assert lengths(connection) == [2]
