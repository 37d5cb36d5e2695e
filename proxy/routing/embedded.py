"""Switches in the embedded store: one row each."""

import sqlite3
from collections.abc import Sequence

from proxy.adapters.sqlite import SqliteDoor
from proxy.routing.switches import Switch, SwitchKind, decode_all, encode

_READ = "SELECT kind, name, record FROM switches"
_PUT = """
    INSERT INTO switches (kind, name, record) VALUES (?, ?, ?)
    ON CONFLICT (kind, name) DO UPDATE SET record = excluded.record
"""
_REMOVE = "DELETE FROM switches WHERE kind = ? AND name = ?"


class EmbeddedSwitchStore:
    """Switches in SQLite."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def read(self) -> Sequence[Switch]:
        def step(connection: sqlite3.Connection) -> list[Switch]:
            return decode_all(connection.execute(_READ))

        return await self._door.read(step)

    async def put(self, switch: Switch) -> None:
        row = (str(switch.kind), switch.name, encode(switch))
        await self._door.run(lambda connection: connection.execute(_PUT, row).rowcount)

    async def remove(self, kind: SwitchKind, name: str) -> bool:
        return await self._door.run(lambda connection: connection.execute(_REMOVE, (str(kind), name)).rowcount == 1)
