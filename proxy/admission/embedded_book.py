"""What the embedded store keeps of one tenant's admissions, read and written within one transaction."""

import sqlite3
from collections.abc import Iterable

from proxy.adapters import sqlite_ledger
from proxy.admission import ending
from proxy.admission.answers import State
from proxy.admission.book import Amounts, Change, Reservation, Scopes, ScopeState
from proxy.admission.encoding import refusal_from, refusal_text, touched_of
from proxy.admission.terms import RunStep, touched_json

_RUN = """
    SELECT state, held_nusd, cost_nusd, expected_tokens, touched, row, refusal, lease_until_ms, forget_at_ms
    FROM admission_runs WHERE tenant_id = ? AND run_id = ? AND step = ? AND (forget_at_ms IS NULL OR forget_at_ms > ?)
"""
_SCOPE = """
    SELECT requests_tat_us, tokens_tat_us, pending, forget_at_ms FROM admission_scopes
    WHERE tenant_id = ? AND scope = ?
"""
_PUT_RUN = """
    INSERT INTO admission_runs (tenant_id, run_id, step, state, held_nusd, cost_nusd, expected_tokens, touched, row,
        refusal, lease_until_ms, forget_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, run_id, step) DO UPDATE SET state = excluded.state, held_nusd = excluded.held_nusd,
        cost_nusd = excluded.cost_nusd, expected_tokens = excluded.expected_tokens, touched = excluded.touched,
        row = excluded.row, refusal = excluded.refusal, lease_until_ms = excluded.lease_until_ms,
        forget_at_ms = excluded.forget_at_ms
"""
_PUT_SCOPE = """
    INSERT INTO admission_scopes (tenant_id, scope, requests_tat_us, tokens_tat_us, pending, forget_at_ms)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, scope) DO UPDATE SET requests_tat_us = excluded.requests_tat_us,
        tokens_tat_us = excluded.tokens_tat_us, pending = excluded.pending, forget_at_ms = excluded.forget_at_ms
"""
_PERIODS = "SELECT period, spent_nusd, held_nusd FROM admission_periods WHERE tenant_id = ? AND scope = ?"
_PUT_PERIOD = """
    INSERT INTO admission_periods (tenant_id, scope, period, spent_nusd, held_nusd) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, scope, period) DO UPDATE SET spent_nusd = excluded.spent_nusd,
        held_nusd = excluded.held_nusd
"""
_DROP_PERIOD = "DELETE FROM admission_periods WHERE tenant_id = ? AND scope = ? AND period = ?"


class Book:
    """What is kept of one tenant, at one moment, within one transaction; where that writes, it ends with `close`."""

    __slots__ = ("_stored_periods", "connection", "now_us", "rows", "tenant_id")

    def __init__(self, connection: sqlite3.Connection, tenant_id: str, now_us: int) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.now_us = now_us
        self.rows: dict[str, bytes] = {}  # by name, to be added together: that is cheaper
        self._stored_periods: dict[str, dict[str, Amounts]] = {}

    def reservation(self, run_step: RunStep) -> Reservation | None:
        """What is kept of a run's step; None where nothing is, or no longer."""
        found = self.connection.execute(_RUN, (*run_step, self.now_us // 1_000)).fetchone()
        if found is None:
            return None
        state, held_nusd, cost_nusd, tokens, touched, row, refusal, lease_until_ms, forget_at_ms = found
        return Reservation(
            state=State(state),
            held_nusd=held_nusd,
            cost_nusd=cost_nusd,
            expected_tokens=tokens,
            touched=touched_of(touched),
            row=row,
            refusal=None if refusal is None else refusal_from(refusal),
            lease_until_ms=lease_until_ms,
            forget_at_ms=forget_at_ms,
        )

    def scopes(self, names: Iterable[str]) -> Scopes:
        """What these scopes have used."""
        return {name: self._scope(name) for name in names}

    def touched_scopes(self, kept: Reservation | None) -> Scopes:
        """Likewise, of those that a reservation touches."""
        return self.scopes(entry.scope for entry in kept.touched) if kept is not None else {}

    def has_row(self, row_id: str) -> bool:
        """Whether a run has a row, or had one that was exported lately."""
        return row_id in self.rows or sqlite_ledger.has_row(self.connection, self.tenant_id, row_id)

    def due(self, query: str, values: tuple[object, ...]) -> list[RunStep]:
        """The steps that a query names."""
        return [RunStep(*found) for found in self.connection.execute(query, values).fetchall()]

    def expire(self, run_step: RunStep) -> None:
        """End a reservation whose lease has run out."""
        kept = self.reservation(run_step)
        assert kept is not None
        scopes = self.touched_scopes(kept)
        self.write(run_step, ending.expire(kept, scopes, row_id=run_step.row_id, now_us=self.now_us))

    def write(self, run_step: RunStep, change: Change | None) -> None:
        """Write what is to become of a run's step, if anything is."""
        if change is None:
            return
        if change.row is not None:
            self.rows.setdefault(*change.row)
        self.write_scopes(change.scopes)
        kept = change.reservation
        values = (
            kept.held_nusd,
            kept.cost_nusd,
            kept.expected_tokens,
            touched_json(kept.touched),
            kept.row,
            None if kept.refusal is None else refusal_text(kept.refusal),
            kept.lease_until_ms,
            kept.forget_at_ms,
        )
        self.connection.execute(_PUT_RUN, (*run_step, kept.state, *values))

    def close(self) -> None:
        """Add the rows of what was written."""
        if self.rows:
            sqlite_ledger.add_rows(self.connection, self.tenant_id, [*self.rows.items()])

    def write_scopes(self, scopes: Scopes) -> None:
        """Write what these scopes have used."""
        for name, scope in scopes.items():
            self._write_scope(name, scope)

    def _scope(self, name: str) -> ScopeState:
        of = (self.tenant_id, name)
        periods = {
            period: Amounts(spent_nusd, held_nusd)
            for period, spent_nusd, held_nusd in self.connection.execute(_PERIODS, of).fetchall()
        }
        self._stored_periods[name] = periods
        found = self.connection.execute(_SCOPE, of).fetchone()
        if found is None:
            return ScopeState()
        requests_tat_us, tokens_tat_us, pending, forget_at_ms = found
        if forget_at_ms is not None and forget_at_ms <= self.now_us // 1_000:
            return ScopeState()
        return ScopeState(requests_tat_us, tokens_tat_us, pending, periods, forget_at_ms)

    def _write_scope(self, name: str, scope: ScopeState) -> None:
        of, stored = (self.tenant_id, name), self._stored_periods[name]
        tats_us = (scope.requests_tat_us, scope.tokens_tat_us)
        self.connection.execute(_PUT_SCOPE, (*of, *tats_us, scope.pending, scope.forget_at_ms))
        changed = [
            (*of, period, *amounts) for period, amounts in scope.periods.items() if stored.get(period) != amounts
        ]
        self.connection.executemany(_PUT_PERIOD, changed)
        self.connection.executemany(_DROP_PERIOD, [(*of, period) for period in stored.keys() - scope.periods.keys()])
