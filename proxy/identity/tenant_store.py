"""Where tenants that were put at run time are kept: what every store does, and how Redis does it.

In Redis, per tenant T:

    tollway:1:{T}:tenant      string: the record     what `find` reads
    tollway:1:@:tenants       set of T               whom a listing asks

The two lie in different cluster slots, so a change takes several calls. A tenant is in the index
before it has a record, so that a crash leaves one name too many and never one too few. It is put
there once more afterwards, and whoever takes it out looks again: one may put a tenant while
another deletes it.
"""

from collections.abc import Sequence
from typing import Protocol

from proxy.adapters.redis import RedisDoor, shared_name, tenant_name
from proxy.identity.store import scan
from proxy.identity.tenant import TenantRecord, decode, encode

_TENANTS = shared_name("tenants")
_READ_AT_ONCE = 500


class TenantStore(Protocol):
    """Keeps tenants by their ids. Every method raises StateUnavailable where the store does not
    answer in time, and ValueError for what is no tenant's id."""

    async def put(self, record: TenantRecord) -> None:
        """Keep a tenant, whether it is new or not. Safe to repeat."""
        ...

    async def find(self, tenant_id: str) -> TenantRecord | None:
        """The tenant's record. One round trip."""
        ...

    async def list(self) -> Sequence[TenantRecord]:
        """Every tenant that was put, by id."""
        ...

    async def delete(self, tenant_id: str) -> bool:
        """Forget a tenant's record. False where there was none."""
        ...


class RedisTenantStore:
    """Tenants in Redis."""

    __slots__ = ("_door",)

    def __init__(self, door: RedisDoor) -> None:
        self._door = door

    async def put(self, record: TenantRecord) -> None:
        name = tenant_name(record.id, "tenant")
        await self._door.call("SADD", _TENANTS, record.id)
        await self._door.call("SET", name, encode(record))
        await self._door.call("SADD", _TENANTS, record.id)

    async def find(self, tenant_id: str) -> TenantRecord | None:
        data = await self._door.call("GET", tenant_name(tenant_id, "tenant"))
        return decode(data) if isinstance(data, bytes) else None

    async def list(self) -> Sequence[TenantRecord]:
        tenant_ids = sorted({member.decode() for member in await scan(self._door, "SSCAN", _TENANTS)})
        found: list[TenantRecord] = []
        for start in range(0, len(tenant_ids), _READ_AT_ONCE):
            page = tenant_ids[start : start + _READ_AT_ONCE]
            replies = await self._door.call_many([("GET", tenant_name(one, "tenant")) for one in page])
            found += [decode(data) for data in replies if isinstance(data, bytes)]
        return found

    async def delete(self, tenant_id: str) -> bool:
        name = tenant_name(tenant_id, "tenant")
        deleted = await self._door.call("DEL", name)
        await self._door.call("SREM", _TENANTS, tenant_id)
        if await self._door.call("EXISTS", name):
            await self._door.call("SADD", _TENANTS, tenant_id)
        return deleted == 1
