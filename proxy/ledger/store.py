"""Where rows are kept until an exporter drains them: what every store does, and how Redis does it.

In Redis, for a tenant T, all in one cluster slot:

    tollway:1:{T}:ledger               stream: one entry a row, its id position-0
    tollway:1:{T}:ledger-positions     sorted set: run id → position, for appending once
    tollway:1:{T}:ledger-last          the last position given
    tollway:1:@:ledger-tenants         set of T, written before a tenant's first row
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from proxy.adapters.redis import Argument, RedisDoor, Script, shared_name, tenant_name
from proxy.ledger.entry import SealedRow

ROWS_PER_CALL_MAX = 500  # of one tenant: a script holds all of Redis up while it runs
READ_LIMIT_MAX = 10_000

_TENANTS = shared_name("ledger-tenants")
_NOT_ANNOUNCED = -1


class LedgerStore(Protocol):
    """Keeps rows by tenant, in order of arrival. Every method raises StateUnavailable where the
    store does not answer in time; an append may then have happened, and is safe to repeat."""

    async def append(self, rows: Sequence[SealedRow]) -> None:
        """Add rows. One whose tenant and run id are known already is passed over, whatever its
        bytes. A tenant's rows stay in order; a failure may leave the first ones added."""
        ...

    async def read(self, tenant_id: str, after: int = 0, limit: int = 1_000) -> Sequence[tuple[int, bytes]]:
        """A tenant's rows in order of arrival, as (position, bytes), from beyond the position
        `after` on; at most `limit`, which is at most 10,000. Positions grow, with gaps."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Every tenant that has rows, sorted; perhaps some that have none yet."""
        ...

    async def ping(self) -> None:
        """Ask whether the store is there."""
        ...


class RedisLedgerStore:
    """Rows in Redis."""

    __slots__ = ("_append", "_door")

    def __init__(self, door: RedisDoor) -> None:
        """Reads its script: blocks on the disk for a moment."""
        self._door = door
        self._append = Script.beside(__file__, "append.lua")

    async def append(self, rows: Sequence[SealedRow]) -> None:
        # One script call a tenant and round: calls of one round do not depend on each other.
        waiting = _by_tenant(rows)
        while waiting:
            await self._append_round({tenant_id: own[:ROWS_PER_CALL_MAX] for tenant_id, own in waiting.items()})
            waiting = {tenant_id: rest for tenant_id, own in waiting.items() if (rest := own[ROWS_PER_CALL_MAX:])}

    async def read(self, tenant_id: str, after: int = 0, limit: int = 1_000) -> Sequence[tuple[int, bytes]]:
        assert after >= 0
        assert 0 < limit <= READ_LIMIT_MAX
        rows = tenant_name(tenant_id, "ledger")
        entries = await self._door.call("XRANGE", rows, f"{after + 1}-0", "+", "COUNT", limit)
        assert isinstance(entries, list)
        found = []
        for entry in entries:
            assert isinstance(entry, list)
            stream_id, fields = entry
            assert isinstance(stream_id, bytes)
            assert isinstance(fields, list)
            data = fields[1]
            assert isinstance(data, bytes)
            found.append((int(stream_id.partition(b"-")[0]), data))
        return found

    async def tenants(self) -> Sequence[str]:
        members = await self._door.call("SMEMBERS", _TENANTS)
        assert isinstance(members, list)
        return sorted(member.decode() for member in members if isinstance(member, bytes))

    async def ping(self) -> None:
        await self._door.ping()

    async def _append_round(self, rows: Mapping[str, Sequence[SealedRow]]) -> None:
        if len(rows) == 1:
            ((tenant_id, own),) = rows.items()
            added = [await self._door.run(self._append, *_arguments(tenant_id, own, announced=False))]
        else:
            calls = [_arguments(tenant_id, own, announced=False) for tenant_id, own in rows.items()]
            added = await self._door.run_many(self._append, calls)
        new = [tenant_id for tenant_id, count in zip(rows, added, strict=True) if count == _NOT_ANNOUNCED]
        if new:
            await self._door.call("SADD", _TENANTS, *new)
            calls = [_arguments(tenant_id, rows[tenant_id], announced=True) for tenant_id in new]
            await self._door.run_many(self._append, calls)


def _by_tenant(rows: Sequence[SealedRow]) -> dict[str, list[SealedRow]]:
    grouped: dict[str, list[SealedRow]] = {}
    for row in rows:
        grouped.setdefault(row.tenant_id, []).append(row)
    return grouped


def _arguments(tenant_id: str, rows: Sequence[SealedRow], *, announced: bool) -> tuple[list[str], list[Argument]]:
    names = [tenant_name(tenant_id, rest) for rest in ("ledger", "ledger-positions", "ledger-last")]
    args: list[Argument] = ["1" if announced else "0"]
    for row in rows:
        args += (row.run_id, row.data)
    return names, args
