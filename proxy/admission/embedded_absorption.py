"""What the operator bears of dearer fallbacks, in the embedded store: a row for each hold and for each day.

Rows of days that are more than three days past go with the next settlement.
"""

import sqlite3

from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.absorption import AbsorptionFigures, require_amount

_SUMS = """
    SELECT (SELECT COALESCE(SUM(held_nusd), 0) FROM absorption_holds WHERE day = ?1),
           (SELECT COALESCE(SUM(spent_nusd), 0) FROM absorption_days WHERE day = ?1)
"""
_HELD = "SELECT held_nusd FROM absorption_holds WHERE day = ? AND run_id = ?"
_HOLD = """
    INSERT INTO absorption_holds (day, run_id, held_nusd) VALUES (?, ?, ?)
    ON CONFLICT (day, run_id) DO UPDATE SET held_nusd = excluded.held_nusd
"""
_LET_GO = "DELETE FROM absorption_holds WHERE day = ? AND run_id = ?"
_SPEND = """
    INSERT INTO absorption_days (day, spent_nusd) VALUES (?, ?)
    ON CONFLICT (day) DO UPDATE SET spent_nusd = spent_nusd + excluded.spent_nusd
"""
_FORGET = (
    "DELETE FROM absorption_days WHERE day < date(?, '-3 days')",
    "DELETE FROM absorption_holds WHERE day < date(?, '-3 days')",
)


class EmbeddedAbsorptionStore:
    """The sums in SQLite: each step one transaction, so that no other writer comes between its look and its write."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        require_amount(nusd)
        require_amount(cap_nusd)

        def step(connection: sqlite3.Connection) -> bool:
            held_nusd, spent_nusd = connection.execute(_SUMS, (day,)).fetchone()
            before = connection.execute(_HELD, (day, run_id)).fetchone()
            more_nusd = nusd - (0 if before is None else before[0])
            if more_nusd > 0 and spent_nusd + held_nusd + more_nusd > cap_nusd:
                return False
            connection.execute(_HOLD, (day, run_id, nusd))
            return True

        return await self._door.run(step)

    async def settle(self, run_id: str, day: str, nusd: int) -> None:
        require_amount(nusd)

        def step(connection: sqlite3.Connection) -> None:
            if connection.execute(_LET_GO, (day, run_id)).rowcount:
                connection.execute(_SPEND, (day, nusd))
                for forget in _FORGET:
                    connection.execute(forget, (day,))

        await self._door.run(step)

    async def figures(self, day: str) -> AbsorptionFigures:
        def step(connection: sqlite3.Connection) -> AbsorptionFigures:
            return AbsorptionFigures(*connection.execute(_SUMS, (day,)).fetchone())

        return await self._door.read(step)
