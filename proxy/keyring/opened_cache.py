"""Provider keys that were opened a moment ago, and the knowledge that there is none: what the warm path reads.

Pure: instants are handed in. An entry lives no longer than the data key that opened it was known for, so that the
ages do not add up.
"""

from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from proxy.keyring.record import OpenedProviderKey

ENTRIES_MAX: Final = 65_536
TENANT_ENTRIES_MAX: Final = 8_192  # so that one tenant's users cannot push the others out


class Miss(Enum):
    """The cache does not know."""

    MISS = "miss"


MISS: Final = Miss.MISS
Cached: TypeAlias = OpenedProviderKey | Miss | None


class _Entry(NamedTuple):
    opened: OpenedProviderKey | None
    until_us: int


class OpenedCache:
    """Opened provider keys, by tenant, provider and user. Of the tenants, the one that came first goes first."""

    __slots__ = ("_count", "_epochs", "_tenants")

    def __init__(self) -> None:
        self._tenants: dict[str, dict[tuple[str, str | None], _Entry]] = {}
        self._epochs: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, tenant_id: str, provider: str, user: str | None, now_us: int) -> Cached:
        """What is known of this caller's provider key; None: it has none."""
        entries = self._tenants.get(tenant_id)
        if entries is None:
            return MISS
        entry = entries.get((provider, user))
        if entry is None or now_us >= entry.until_us:
            return MISS
        return entry.opened

    def keep(
        self,
        tenant_id: str,
        provider: str,
        user: str | None,
        opened: OpenedProviderKey | None,
        *,
        epoch: int,
        until_us: int,
    ) -> None:
        """Remember what was found in this epoch of the tenant's."""
        if self._epochs.get(tenant_id, epoch) != epoch:
            self.drop(tenant_id)
        name = (provider, user)
        if name not in self._tenants.get(tenant_id, ()):
            if len(self._tenants.get(tenant_id, ())) >= TENANT_ENTRIES_MAX:
                self.drop(tenant_id)
            while self._count >= ENTRIES_MAX:
                self.drop(next(iter(self._tenants)))
            self._count += 1
        self._epochs[tenant_id] = epoch
        self._tenants.setdefault(tenant_id, {})[name] = _Entry(opened, until_us)

    def is_older(self, tenant_id: str, epoch: int) -> bool:
        """True where something is known of this tenant, from before this epoch."""
        return self._epochs.get(tenant_id, epoch) < epoch

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's."""
        self._count -= len(self._tenants.pop(tenant_id, ()))
        self._epochs.pop(tenant_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._tenants.clear()
        self._epochs.clear()
        self._count = 0
