"""Where rows are kept until an exporter drains them: what every store does, and how Redis does it.

In Redis, for a tenant T, all in one cluster slot:

    tollway:1:{T}:ledger               stream: one entry a row, its id position-0
    tollway:1:{T}:ledger-positions     sorted set: run id → position, for appending once
    tollway:1:{T}:ledger-last          the last position given
    tollway:1:{T}:ledger-cursor        hash: how far rows were exported, and who may go on
    tollway:1:@:ledger-tenants         set of T, written before a tenant's first row
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from proxy.adapters.redis import RedisDoor, Script, shared_name, tenant_name
from proxy.adapters.redis_wire import Argument, Reply
from proxy.ledger.cursor import Backlog, Claim, Cursor
from proxy.ledger.entry import SealedRow

ROWS_PER_CALL_MAX = 500  # of one tenant: a script holds all of Redis up while it runs
READ_LIMIT_MAX = 10_000
REMEMBER_MS = 600_000  # how long an exported run's id is known at least: beyond any repeat of its append
FORGET_MAX = 20_000  # run ids a call; above the largest page, so that forgetting keeps up
TENANTS_PER_CALL = 100  # some 0.5 ms of the event loop

_TENANTS = shared_name("ledger-tenants")
_NOT_ANNOUNCED = -1
_PLACE = ("position", "pages", "hash", "series")


class LedgerStore(Protocol):
    """Keeps rows by tenant, in order of arrival. Every method raises StateUnavailable where the
    store does not answer in time; a change may then have happened, and is safe to repeat."""

    async def append(self, rows: Sequence[SealedRow]) -> None:
        """Add rows. One whose tenant and run id are known already is passed over, whatever its
        bytes. A tenant's rows stay in order; a failure may leave the first ones added."""
        ...

    async def read(self, tenant_id: str, after: int = 0, limit: int = 1_000) -> Sequence[tuple[int, bytes]]:
        """A tenant's rows in order of arrival, as (position, bytes), from beyond the position
        `after` on; at most `limit`, which is at most 10,000. Positions grow, with gaps."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Every tenant that has or had rows, sorted; perhaps some that have none yet."""
        ...

    async def cursor(self, tenant_id: str) -> Cursor:
        """How far a tenant's rows were exported."""
        ...

    async def claim(self, tenant_id: str, holder: str, lease_ms: int) -> Claim | None:
        """Take the right to export a tenant's rows, or keep it for longer. None while another holder has it."""
        ...

    async def advance(self, claim: Claim, cursor: Cursor, last_row: bytes | None, lease_ms: int) -> bool:
        """Move a claim's cursor, let the rows up to its position go, and keep the claim for longer:
        one step. `last_row` is the row at that position, None where no row goes. False, and nothing is
        changed, where the claim has passed to another holder, or another row stands there: the store
        has lost some since they were read, and took others in their places."""
        ...

    async def let_go(self, claim: Claim) -> None:
        """Give the right back before it runs out."""
        ...

    async def backlog(self) -> Sequence[Backlog]:
        """What waits to be exported, of each tenant that has rows."""
        ...

    async def unexported_bytes(self) -> int:
        """Roughly what all rows that wait to be exported take up in the store."""
        ...

    async def ping(self) -> None:
        """Ask whether the store is there."""
        ...


class RedisLedgerStore:
    """Rows in Redis."""

    __slots__ = ("_advance", "_append", "_claim", "_door", "_let_go", "_remember_ms")

    def __init__(self, door: RedisDoor, remember_ms: int = REMEMBER_MS) -> None:
        """Reads its scripts: blocks on the disk for a moment."""
        self._door = door
        self._remember_ms = remember_ms
        self._append = Script.beside(__file__, "append.lua")
        self._claim = Script.beside(__file__, "claim.lua")
        self._advance = Script.beside(__file__, "advance.lua")
        self._let_go = Script.beside(__file__, "let_go.lua")

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

    async def cursor(self, tenant_id: str) -> Cursor:
        place = await self._door.call("HMGET", tenant_name(tenant_id, "ledger-cursor"), *_PLACE)
        assert isinstance(place, list)
        return _cursor(place)

    async def claim(self, tenant_id: str, holder: str, lease_ms: int) -> Claim | None:
        reply = await self._door.run(self._claim, [tenant_name(tenant_id, "ledger-cursor")], [holder, lease_ms])
        assert isinstance(reply, list)
        fence, *place = reply
        assert isinstance(fence, int)
        return Claim(tenant_id, fence, _cursor(place)) if fence else None

    async def advance(self, claim: Claim, cursor: Cursor, last_row: bytes | None, lease_ms: int) -> bool:
        names = [tenant_name(claim.tenant_id, rest) for rest in ("ledger-cursor", "ledger", "ledger-positions")]
        args: list[Argument] = [claim.fence, claim.cursor.pages, *cursor, f"{cursor.position + 1}-0"]
        args += (lease_ms, self._remember_ms, FORGET_MAX)
        if last_row is not None:
            args += (f"{cursor.position}-0", last_row)
        moved = await self._door.run(self._advance, names, args)
        return moved != 0

    async def let_go(self, claim: Claim) -> None:
        await self._door.run(self._let_go, [tenant_name(claim.tenant_id, "ledger-cursor")], [claim.fence])

    async def backlog(self) -> Sequence[Backlog]:
        tenant_ids = await self.tenants()
        found: list[Backlog] = []
        for start in range(0, len(tenant_ids), TENANTS_PER_CALL):
            some = tenant_ids[start : start + TENANTS_PER_CALL]
            lengths = await self._door.call_many([("XLEN", tenant_name(one, "ledger")) for one in some])
            waiting = [(one, rows) for one, rows in zip(some, lengths, strict=True) if isinstance(rows, int) and rows]
            sizes = await self._door.call_many(
                [("MEMORY", "USAGE", tenant_name(one, "ledger"), "SAMPLES", 5) for one, _ in waiting]
            )
            for (one, rows), size in zip(waiting, sizes, strict=True):
                found.append(Backlog(one, rows, size if isinstance(size, int) else 0))
            await asyncio.sleep(0)  # with many tenants this takes a while, and requests go first
        return found

    async def unexported_bytes(self) -> int:
        return sum(one.unexported_bytes for one in await self.backlog())

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


def _cursor(place: Sequence[Reply]) -> Cursor:
    position, pages, page_hash, series = place
    if not isinstance(position, bytes):  # nothing was exported yet
        return Cursor()
    assert isinstance(pages, bytes)
    assert isinstance(page_hash, bytes)
    assert isinstance(series, bytes)
    return Cursor(int(position), int(pages), page_hash.decode(), int(series))
