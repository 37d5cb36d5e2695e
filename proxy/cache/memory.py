"""Kept answers in this process, in front of the store that all share.

Pure: instants are handed in. Bounded by bytes: those that were used longest ago go first.
"""

from collections import OrderedDict

from proxy.cache.entry import CacheEntry


class Memory:
    """Entries by tenant and name."""

    __slots__ = ("_bytes_max", "_entries", "_names", "bytes")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[tuple[str, str], CacheEntry] = OrderedDict()
        self._names: dict[str, set[str]] = {}  # by tenant
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tenant_id: str, name: str) -> CacheEntry | None:
        """The entry, however old it is."""
        entry = self._entries.get((tenant_id, name))
        if entry is not None:
            self._entries.move_to_end((tenant_id, name))
        return entry

    def keep(self, tenant_id: str, name: str, entry: CacheEntry) -> None:
        """Remember an entry, in the place of one that is there. One that takes all the room is not."""
        self.forget(tenant_id, name)
        if entry.size_bytes > self._bytes_max:
            return
        self._entries[tenant_id, name] = entry
        self._names.setdefault(tenant_id, set()).add(name)
        self.bytes += entry.size_bytes
        while self.bytes > self._bytes_max:
            self.forget(*next(iter(self._entries)))

    def forget(self, tenant_id: str, name: str) -> None:
        """Forget an entry."""
        entry = self._entries.pop((tenant_id, name), None)
        if entry is None:
            return
        self.bytes -= entry.size_bytes
        names = self._names[tenant_id]
        names.remove(name)
        if not names:
            del self._names[tenant_id]

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's."""
        for name in tuple(self._names.get(tenant_id, ())):
            self.forget(tenant_id, name)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._names.clear()
        self.bytes = 0
