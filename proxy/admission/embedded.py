"""Admissions in the embedded store: the pure functions decide, SQLite keeps what they say.

Each call is one transaction, which writes its ledger row too. The clock is this process's.
What Redis forgets by itself is deleted here by the sweep; until then it counts as gone.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from proxy.adapters.sqlite import SqliteDoor
from proxy.adapters.sqlite_ledger import add_rows, has_row
from proxy.admission import ending, reserving
from proxy.admission.answers import Admission, Admitted, Growth, ReleaseCode, SettleCode, Settlement, State, WrongEpoch
from proxy.admission.book import Amounts, Change, Reservation, Scopes, ScopeState
from proxy.admission.encoding import refusal_from, refusal_text, touched_of
from proxy.admission.ending import Adjust, Bill
from proxy.admission.hits import HitAdmission, HitAdmitted, HitDemand, admit_hit, require_hit
from proxy.admission.store import SWEPT_MAX
from proxy.admission.terms import Demand, RunStep, Touched, require_demand, require_run_step, touched_json
from proxy.core.clock import Clock
from proxy.core.tenant import require_tenant_id

Result = TypeVar("Result")

SWEPT_FIRST_MAX = 8  # of its own tenant, by each admission
FORGOTTEN_MAX = 1_000  # of each kind, by one sweep
ROUNDS_MAX = 10_000  # transactions of one pass: a pass that does not end is a fault

_EPOCH = "SELECT epoch FROM admission_epoch"
_NEW_EPOCH = """
    INSERT INTO admission_epoch (one, epoch) VALUES (1, ?)
    ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch WHERE substr(epoch, 1, ?) != ?
"""
_KEYRING_EPOCH = "SELECT epoch FROM keyring_tenants WHERE id = ?"
_REVOKED = "SELECT 1 FROM virtual_keys WHERE id = ? AND tenant_id = ? AND revoked_at_ms IS NOT NULL"
_SHREDDED = "SELECT 1 FROM keyring_tenants WHERE id = ? AND shredded_at_ms IS NOT NULL"
_PURGED = "SELECT coalesce(max(before_ms), 0) FROM cache_purges WHERE tenant_id = ? AND alias IN ('', ?)"
_RUN = """
    SELECT state, held_nusd, cost_nusd, expected_tokens, touched, row, refusal, lease_until_ms, forget_at_ms
    FROM admission_runs WHERE tenant_id = ? AND run_id = ? AND step = ? AND (forget_at_ms IS NULL OR forget_at_ms > ?)
"""
_PUT_RUN = """
    INSERT INTO admission_runs (tenant_id, run_id, step, state, held_nusd, cost_nusd, expected_tokens, touched, row,
        refusal, lease_until_ms, forget_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, run_id, step) DO UPDATE SET state = excluded.state, held_nusd = excluded.held_nusd,
        cost_nusd = excluded.cost_nusd, expected_tokens = excluded.expected_tokens, touched = excluded.touched,
        row = excluded.row, refusal = excluded.refusal, lease_until_ms = excluded.lease_until_ms,
        forget_at_ms = excluded.forget_at_ms
"""
_SCOPE = """
    SELECT requests_tat_us, tokens_tat_us, pending, forget_at_ms FROM admission_scopes
    WHERE tenant_id = ? AND scope = ?
"""
_PERIODS = "SELECT period, spent_nusd, held_nusd FROM admission_periods WHERE tenant_id = ? AND scope = ?"
_PUT_SCOPE = """
    INSERT INTO admission_scopes (tenant_id, scope, requests_tat_us, tokens_tat_us, pending, forget_at_ms)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, scope) DO UPDATE SET requests_tat_us = excluded.requests_tat_us,
        tokens_tat_us = excluded.tokens_tat_us, pending = excluded.pending, forget_at_ms = excluded.forget_at_ms
"""
_PUT_PERIOD = """
    INSERT INTO admission_periods (tenant_id, scope, period, spent_nusd, held_nusd) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant_id, scope, period) DO UPDATE SET spent_nusd = excluded.spent_nusd,
        held_nusd = excluded.held_nusd
"""
_DROP_PERIOD = "DELETE FROM admission_periods WHERE tenant_id = ? AND scope = ? AND period = ?"
_DROP_PERIODS = "DELETE FROM admission_periods WHERE tenant_id = ? AND scope = ?"
_EXTEND = "UPDATE admission_runs SET lease_until_ms = ? WHERE tenant_id = ? AND run_id = ? AND step = ? AND state = ?"
_DUE = """
    SELECT tenant_id, run_id, step FROM admission_runs WHERE lease_until_ms <= ?
    ORDER BY lease_until_ms, run_id, step LIMIT ?
"""
_DUE_OF = """
    SELECT tenant_id, run_id, step FROM admission_runs
    WHERE tenant_id = ? AND lease_until_ms <= ? ORDER BY lease_until_ms, run_id, step LIMIT ?
"""
_PENDING = "SELECT count(*) FROM admission_runs WHERE tenant_id = ? AND lease_until_ms IS NOT NULL"
_ENDED = "SELECT tenant_id, run_id, step FROM admission_runs WHERE forget_at_ms <= ? LIMIT ?"
_DROP_RUN = "DELETE FROM admission_runs WHERE tenant_id = ? AND run_id = ? AND step = ?"
_IDLE = "SELECT tenant_id, scope FROM admission_scopes WHERE forget_at_ms <= ? LIMIT ?"
_DROP_SCOPE = "DELETE FROM admission_scopes WHERE tenant_id = ? AND scope = ?"


class EmbeddedAdmissionStore:
    """Admissions in SQLite."""

    __slots__ = ("_adjust", "_boot", "_clock", "_door")

    def __init__(self, door: SqliteDoor, clock: Clock, adjust: Adjust, boot_id: str = "") -> None:
        """`boot_id` names the time since the machine started (`sqlite.boot_id`); "" where it has no name."""
        self._door = door
        self._clock = clock
        self._adjust = adjust
        self._boot = f"{boot_id}." if boot_id else ""  # a process that cannot tell changes nothing

    async def epoch(self) -> str:
        # A power cut may take the file's last moments with it: what began before it is another epoch.
        fresh = f"{self._boot}{secrets.token_hex(8)}"

        def step(connection: sqlite3.Connection) -> str:
            connection.execute(_NEW_EPOCH, (fresh, len(self._boot), self._boot))
            return _epoch(connection)

        return await self._door.run(step)

    async def probe(self) -> None:
        await self.epoch()  # which writes, where there is anything to be written

    async def settle_in_ms(self, epoch: str) -> int:
        return 0  # whoever shares a file shares a folder of journals: nobody else has anything to post

    async def adopt(self, tenant_id: str, epoch: str) -> bool:
        require_tenant_id(tenant_id)  # nothing to note: a file is lost whole, or not at all
        return await self._door.read(lambda connection: _epoch(connection) == epoch)

    async def admit(self, demand: Demand, epoch: str) -> Admission:
        virtual_key = (demand.virtual_key_id, require_demand(demand).tenant_id)

        def step(book: "_Book") -> Admission:
            if _epoch(book.connection) != epoch:
                return WrongEpoch()
            for due in book.due(_DUE_OF, (demand.tenant_id, book.now_us // 1_000, SWEPT_FIRST_MAX)):
                book.expire(due)
            answer, change = reserving.admit(
                demand,
                book.reservation(demand.run_step),
                book.scopes(demand.outline.scope_names),
                now_us=book.now_us,
                is_revoked=book.connection.execute(_REVOKED, virtual_key).fetchone() is not None,
            )
            book.write(demand.run_step, change)
            if isinstance(answer, Admitted):
                found = book.connection.execute(_KEYRING_EPOCH, (demand.tenant_id,)).fetchone()
                answer = answer if found is None else answer._replace(keyring_epoch=found[0])
            return answer

        return await self._write(demand.tenant_id, step)

    async def admit_hit(self, demand: HitDemand) -> HitAdmission:
        tenant_id = require_hit(demand).tenant_id

        def step(book: "_Book") -> HitAdmission:
            ask = book.connection.execute
            (purged_before_ms,) = ask(_PURGED, (tenant_id, demand.alias)).fetchone()
            is_there = book.has_row(demand.run_id)
            answer, after = admit_hit(
                demand,
                book.scopes(scope.name for scope in demand.scopes),
                now_us=book.now_us,
                is_shredded=ask(_SHREDDED, (tenant_id,)).fetchone() is not None,
                is_revoked=ask(_REVOKED, (demand.virtual_key_id, tenant_id)).fetchone() is not None,
                purged_before_ms=purged_before_ms,
                has_row=is_there,
            )
            if isinstance(answer, HitAdmitted) and not is_there:
                add_rows(book.connection, tenant_id, [(demand.run_id, demand.row)])
            book.write_scopes(after)
            return answer

        return await self._write(tenant_id, step)

    async def restore(self, demand: Demand) -> Admission:
        run_step = require_demand(demand).run_step

        def step(book: "_Book") -> Admission:
            scopes = book.scopes(demand.outline.scope_names)
            answer, change = reserving.restore(demand, book.reservation(run_step), scopes, now_us=book.now_us)
            book.write(run_step, change)
            return answer

        return await self._write(demand.tenant_id, step)

    async def grow(self, demand: Demand, held_nusd: int, row: bytes) -> Growth:
        run_step = require_run_step(demand.run_step)

        def step(book: "_Book") -> Growth:
            scopes = book.scopes(demand.outline.scope_names)
            kept = book.reservation(run_step)
            answer, change = reserving.grow(demand, kept, scopes, held_nusd=held_nusd, row=row, now_us=book.now_us)
            book.write(run_step, change)
            return answer

        return await self._write(demand.tenant_id, step)

    async def extend(self, tenant_id: str, run_steps: Sequence[RunStep], lease_ms: int) -> Sequence[RunStep]:
        names = [require_run_step(each) for each in run_steps if each.tenant_id == tenant_id]

        def step(book: "_Book") -> list[RunStep]:
            lease_until_ms = book.now_us // 1_000 + lease_ms
            return [
                each
                for each in names
                if book.connection.execute(_EXTEND, (lease_until_ms, *each, State.PENDING)).rowcount == 0
            ]

        return await self._write(tenant_id, step)

    async def settle(self, run_step: RunStep, bill: Bill) -> Settlement:
        return await self._settle(run_step, bill, None)

    async def settle_all(self, ended: Sequence[tuple[RunStep, Bill]]) -> Sequence[Settlement]:
        """In one transaction: what it costs to write to the disk is paid once for all."""
        steps = [(run_step.tenant_id, self._settling(run_step, bill, None)) for run_step, bill in ended]

        def together(connection: sqlite3.Connection) -> list[Settlement]:
            now_us = self._clock.now_ms() * 1_000
            return [step(_Book(connection, tenant_id, now_us)) for tenant_id, step in steps]

        return await self._door.run(together)

    async def post(self, run_step: RunStep, touched: Sequence[Touched], bill: Bill) -> Settlement:
        return await self._settle(run_step, bill, tuple(touched))

    async def release(self, run_step: RunStep) -> ReleaseCode:
        require_run_step(run_step)

        def step(book: "_Book") -> ReleaseCode:
            kept = book.reservation(run_step)
            code, change = ending.release(kept, book.touched_scopes(kept), now_us=book.now_us)
            book.write(run_step, change)
            return code

        return await self._write(run_step.tenant_id, step)

    async def sweep(self) -> int:
        expired = 0
        for _ in range(ROUNDS_MAX):
            count, forgotten = await self._door.run(self._sweep)
            expired += count
            if count < SWEPT_MAX and forgotten < FORGOTTEN_MAX:
                return expired
        raise AssertionError("the leases do not end")

    async def pending(self, tenant_id: str) -> int:
        def step(connection: sqlite3.Connection) -> int:
            (count,) = connection.execute(_PENDING, (require_tenant_id(tenant_id),)).fetchone()
            assert isinstance(count, int)
            return count

        return await self._door.read(step)

    async def read(self, tenant_id: str, scope: str) -> ScopeState:
        return await self._door.read(
            lambda connection: _Book(connection, tenant_id, self._clock.now_ms() * 1_000).scopes([scope])[scope]
        )

    async def check(self) -> None:
        await self._door.ping()

    async def _settle(self, run_step: RunStep, bill: Bill, touched: tuple[Touched, ...] | None) -> Settlement:
        return await self._write(run_step.tenant_id, self._settling(run_step, bill, touched))

    def _settling(
        self, run_step: RunStep, bill: Bill, touched: tuple[Touched, ...] | None
    ) -> "Callable[[_Book], Settlement]":
        row_id = require_run_step(run_step).row_id

        def step(book: "_Book") -> Settlement:
            kept, now_us = book.reservation(run_step), book.now_us
            change: Change | None
            if kept is not None:
                answer, change = ending.settle(
                    bill, kept, book.touched_scopes(kept), self._adjust, row_id=row_id, now_us=now_us
                )
            elif book.has_row(row_id):
                return Settlement(SettleCode.ALREADY_SETTLED, None, None)
            elif touched is None:
                return Settlement(SettleCode.UNKNOWN, 0, 0)
            else:
                scopes = book.scopes(entry.scope for entry in touched)
                answer, change = ending.post(bill, touched, scopes, row_id=row_id, now_us=now_us)
            book.write(run_step, change)
            return answer

        return step

    async def _write(self, tenant_id: str, step: "Callable[[_Book], Result]") -> Result:
        return await self._door.run(lambda connection: step(_Book(connection, tenant_id, self._clock.now_ms() * 1_000)))

    def _sweep(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Expire what has run out, and delete what is over: a bounded part of both."""
        now_ms = self._clock.now_ms()
        due = connection.execute(_DUE, (now_ms, SWEPT_MAX)).fetchall()
        for tenant_id, run_id, number in due:
            _Book(connection, tenant_id, now_ms * 1_000).expire(RunStep(tenant_id, run_id, number))
        ended = connection.execute(_ENDED, (now_ms, FORGOTTEN_MAX)).fetchall()
        connection.executemany(_DROP_RUN, ended)
        idle = connection.execute(_IDLE, (now_ms, FORGOTTEN_MAX)).fetchall()
        connection.executemany(_DROP_PERIODS, idle)
        connection.executemany(_DROP_SCOPE, idle)
        return len(due), max(len(ended), len(idle))


class _Book:
    """What is kept of one tenant, at one moment, within one transaction."""

    __slots__ = ("_stored_periods", "connection", "now_us", "tenant_id")

    def __init__(self, connection: sqlite3.Connection, tenant_id: str, now_us: int) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.now_us = now_us
        self._stored_periods: dict[str, dict[str, Amounts]] = {}

    def reservation(self, run_step: RunStep) -> Reservation | None:
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
        return {name: self._scope(name) for name in names}

    def touched_scopes(self, kept: Reservation | None) -> Scopes:
        return self.scopes(entry.scope for entry in kept.touched) if kept is not None else {}

    def has_row(self, row_id: str) -> bool:
        """Also of a row that was exported lately."""
        return has_row(self.connection, self.tenant_id, row_id)

    def due(self, query: str, values: tuple[object, ...]) -> list[RunStep]:
        return [RunStep(*found) for found in self.connection.execute(query, values).fetchall()]

    def expire(self, run_step: RunStep) -> None:
        kept = self.reservation(run_step)
        assert kept is not None
        scopes = self.touched_scopes(kept)
        self.write(run_step, ending.expire(kept, scopes, row_id=run_step.row_id, now_us=self.now_us))

    def write(self, run_step: RunStep, change: Change | None) -> None:
        if change is None:
            return
        if change.row is not None:
            add_rows(self.connection, self.tenant_id, [change.row])
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

    def write_scopes(self, scopes: Scopes) -> None:
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


def _epoch(connection: sqlite3.Connection) -> str:
    found = connection.execute(_EPOCH).fetchone()
    return "" if found is None else str(found[0])
