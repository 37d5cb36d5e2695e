"""Admissions in the embedded store: the pure functions decide, SQLite keeps what they say.

Each call is one transaction, which writes its ledger row too. The clock is this process's.
What Redis forgets by itself is deleted here by the sweep; until then it counts as gone.
"""

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from proxy.adapters.sqlite import SqliteDoor
from proxy.admission import ending, reserving
from proxy.admission.answers import Admission, Admitted, Growth, ReleaseCode, SettleCode, Settlement, State, WrongEpoch
from proxy.admission.book import Change, ScopeState
from proxy.admission.embedded_book import Book
from proxy.admission.ending import Adjust, Bill
from proxy.admission.hits import HitAdmission, HitAdmitted, HitDemand, admit_hit, require_hit
from proxy.admission.store import SWEPT_MAX
from proxy.admission.terms import Demand, RunStep, Touched, require_demand, require_run_step
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

        def step(book: Book) -> Admission:
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

        def step(book: Book) -> HitAdmission:
            ask = book.connection.execute
            (purged_before_ms,) = ask(_PURGED, (tenant_id, demand.alias)).fetchone()
            has_row = book.has_row(demand.run_id)
            answer, after = admit_hit(
                demand,
                book.scopes(scope.name for scope in demand.scopes),
                now_us=book.now_us,
                is_shredded=ask(_SHREDDED, (tenant_id,)).fetchone() is not None,
                is_revoked=ask(_REVOKED, (demand.virtual_key_id, tenant_id)).fetchone() is not None,
                purged_before_ms=purged_before_ms,
                has_row=has_row,
            )
            if isinstance(answer, HitAdmitted) and not has_row:
                book.rows[demand.run_id] = demand.row
            book.write_scopes(after)
            return answer

        return await self._write(tenant_id, step)

    async def restore(self, demand: Demand) -> Admission:
        run_step = require_demand(demand).run_step

        def step(book: Book) -> Admission:
            scopes = book.scopes(demand.outline.scope_names)
            answer, change = reserving.restore(demand, book.reservation(run_step), scopes, now_us=book.now_us)
            book.write(run_step, change)
            return answer

        return await self._write(demand.tenant_id, step)

    async def grow(self, demand: Demand, held_nusd: int, row: bytes) -> Growth:
        run_step = require_run_step(demand.run_step)

        def step(book: Book) -> Growth:
            scopes = book.scopes(demand.outline.scope_names)
            kept = book.reservation(run_step)
            answer, change = reserving.grow(demand, kept, scopes, held_nusd=held_nusd, row=row, now_us=book.now_us)
            book.write(run_step, change)
            return answer

        return await self._write(demand.tenant_id, step)

    async def extend(self, tenant_id: str, run_steps: Sequence[RunStep], lease_ms: int) -> Sequence[RunStep]:
        names = [require_run_step(each) for each in run_steps if each.tenant_id == tenant_id]

        def step(book: Book) -> list[RunStep]:
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
            books = {tenant_id: Book(connection, tenant_id, now_us) for tenant_id, _ in steps}
            answers = [step(books[tenant_id]) for tenant_id, step in steps]
            for book in books.values():
                book.close()
            return answers

        return await self._door.run(together)

    async def post(self, run_step: RunStep, touched: Sequence[Touched], bill: Bill) -> Settlement:
        return await self._settle(run_step, bill, tuple(touched))

    async def release(self, run_step: RunStep) -> ReleaseCode:
        require_run_step(run_step)

        def step(book: Book) -> ReleaseCode:
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
            lambda connection: Book(connection, tenant_id, self._clock.now_ms() * 1_000).scopes([scope])[scope]
        )

    async def check(self) -> None:
        await self._door.ping()

    async def _settle(self, run_step: RunStep, bill: Bill, touched: tuple[Touched, ...] | None) -> Settlement:
        return await self._write(run_step.tenant_id, self._settling(run_step, bill, touched))

    def _settling(
        self, run_step: RunStep, bill: Bill, touched: tuple[Touched, ...] | None
    ) -> Callable[[Book], Settlement]:
        row_id = require_run_step(run_step).row_id

        def step(book: Book) -> Settlement:
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

    async def _write(self, tenant_id: str, step: Callable[[Book], Result]) -> Result:
        def alone(connection: sqlite3.Connection) -> Result:
            book = Book(connection, tenant_id, self._clock.now_ms() * 1_000)
            answer = step(book)
            book.close()
            return answer

        return await self._door.run(alone)

    def _sweep(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Expire what has run out, and delete what is over: a bounded part of both."""
        now_ms = self._clock.now_ms()
        due = connection.execute(_DUE, (now_ms, SWEPT_MAX)).fetchall()
        for tenant_id, run_id, number in due:
            book = Book(connection, tenant_id, now_ms * 1_000)
            book.expire(RunStep(tenant_id, run_id, number))
            book.close()
        ended = connection.execute(_ENDED, (now_ms, FORGOTTEN_MAX)).fetchall()
        connection.executemany(_DROP_RUN, ended)
        idle = connection.execute(_IDLE, (now_ms, FORGOTTEN_MAX)).fetchall()
        connection.executemany(_DROP_PERIODS, idle)
        connection.executemany(_DROP_SCOPE, idle)
        return len(due), max(len(ended), len(idle))


def _epoch(connection: sqlite3.Connection) -> str:
    found = connection.execute(_EPOCH).fetchone()
    return "" if found is None else str(found[0])
