"""Pages as objects in S3: `s3://BUCKET/PREFIX/TENANT/00000001.jsonl`."""

import asyncio
from collections.abc import Sequence

from proxy.adapters.s3 import S3Door
from proxy.core.tenant import is_tenant_id, require_tenant_id
from proxy.ledger.sink import page_name, page_number


class S3Sink:
    """A prefix in a bucket. S3 has what is written, on several disks, before it answers."""

    __slots__ = ("_door", "_prefix")

    def __init__(self, door: S3Door, prefix: str) -> None:
        """`prefix`: what all names begin with, with or without a `/` at its end; may be empty."""
        self._door = door
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    async def write(self, tenant_id: str, number: int, data: bytes) -> bool:
        return await asyncio.to_thread(self._door.put_new, self._name(tenant_id, number), data)

    async def read(self, tenant_id: str, number: int) -> bytes | None:
        return await asyncio.to_thread(self._door.get, self._name(tenant_id, number))

    async def numbers(self, tenant_id: str) -> Sequence[int]:
        folder = f"{self._prefix}{require_tenant_id(tenant_id)}/"
        names = await asyncio.to_thread(lambda: list(self._door.names(folder)))
        return sorted(number for name in names if (number := page_number(name)) is not None)

    async def tenants(self) -> Sequence[str]:
        return sorted(filter(is_tenant_id, await asyncio.to_thread(lambda: list(self._door.folders(self._prefix)))))

    async def probe(self) -> None:
        await asyncio.to_thread(self._door.probe, self._prefix)

    def _name(self, tenant_id: str, number: int) -> str:
        return f"{self._prefix}{require_tenant_id(tenant_id)}/{page_name(number)}"
