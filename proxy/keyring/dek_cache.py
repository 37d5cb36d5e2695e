"""Data keys that were unwrapped a moment ago, so that a KMS is asked once in a while and not for every call.

Pure: instants are handed in. Bounded in number and in age; the age is counted from before the KMS was asked, and
is what a shredded tenant's key can live on for in a process that nobody told.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from proxy.keyring.dek import Dek, EncryptionContext, canonical_context

ENTRIES_MAX: Final = 1_024
MAX_AGE_US: Final = 300_000_000


class Unwrapped(NamedTuple):
    """A data key in the clear, whose it is, and when it was asked for."""

    dek: Dek
    tenant_id: str
    asked_at_us: int


class DekCache:
    """Unwrapped data keys by tenant, id and encryption context; the least recently used goes first."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str, bytes], Unwrapped] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tenant_id: str, dek_id: str, context: EncryptionContext, now_us: int) -> Unwrapped | None:
        """The data key, if it is young enough."""
        name = (tenant_id, dek_id, canonical_context(context))
        entry = self._entries.get(name)
        if entry is None:
            return None
        if now_us - entry.asked_at_us >= MAX_AGE_US:
            del self._entries[name]
            return None
        self._entries.move_to_end(name)
        return entry

    def keep(self, dek_id: str, context: EncryptionContext, unwrapped: Unwrapped) -> None:
        """Remember a data key."""
        name = (unwrapped.tenant_id, dek_id, canonical_context(context))
        self._entries[name] = unwrapped
        self._entries.move_to_end(name)
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's."""
        for name in [name for name in self._entries if name[0] == tenant_id]:
            del self._entries[name]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
