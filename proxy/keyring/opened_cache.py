"""Provider keys that were opened a moment ago, and the knowledge that there is none: what the warm path reads.

Pure: instants are handed in. An opened key lives no longer than the data key that opened it was known for, so that
the ages do not add up. Which places a tenant has at all is known too, where they are few: a user without a key of
its own, and there may be a million of them, is then told from one that was not looked up yet.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from proxy.keyring.record import OpenedProviderKey, slot_of

ENTRIES_MAX: Final = 65_536
TENANT_ENTRIES_MAX: Final = 8_192  # so that one tenant's users cannot push the others out
TENANTS_MAX: Final = 65_536


class Miss(Enum):
    """The cache does not know."""

    MISS = "miss"


MISS: Final = Miss.MISS
Cached: TypeAlias = OpenedProviderKey | Miss | None


class _Entry(NamedTuple):
    opened: OpenedProviderKey | None
    until_us: int


@dataclass(slots=True)
class _Tenant:
    epoch: int
    entries: dict[tuple[str, str | None], _Entry] = field(default_factory=dict)
    slots: frozenset[str] | None = None  # all that there are; None: not known
    slots_until_us: int = 0
    has_users: bool = True  # whether any of them is a user's own


class OpenedCache:
    """Opened provider keys, by tenant, provider and user. Of the tenants, the one that came first goes first."""

    __slots__ = ("_count", "_tenants")

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, tenant_id: str, provider: str, user: str | None, now_us: int) -> Cached:
        """What is known of this caller's provider key: the user's own, else the tenant's; None: it has none."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return MISS
        entry = tenant.entries.get((provider, user))
        if entry is not None and now_us < entry.until_us:
            return entry.opened
        if tenant.slots is None or now_us >= tenant.slots_until_us:
            return MISS
        if user is not None:
            if tenant.has_users and slot_of(provider, user) in tenant.slots:
                return MISS
            entry = tenant.entries.get((provider, None))
            if entry is not None and now_us < entry.until_us:
                return entry.opened
        return MISS if provider in tenant.slots else None

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
        tenant = self._tenant(tenant_id, epoch)
        if (provider, user) not in tenant.entries:
            if len(tenant.entries) >= TENANT_ENTRIES_MAX:
                self.drop(tenant_id)
            while self._count >= ENTRIES_MAX:
                self.drop(next(iter(self._tenants)))
            tenant = self._tenant(tenant_id, epoch)
            self._count += 1
        tenant.entries[provider, user] = _Entry(opened, until_us)

    def keep_slots(self, tenant_id: str, slots: frozenset[str], *, epoch: int, until_us: int) -> None:
        """Remember which places a tenant has, and that it has no other."""
        tenant = self._tenant(tenant_id, epoch)
        tenant.slots, tenant.slots_until_us = slots, until_us
        tenant.has_users = any(":" in slot for slot in slots)

    def is_older(self, tenant_id: str, epoch: int) -> bool:
        """True where something is known of this tenant, from before this epoch."""
        tenant = self._tenants.get(tenant_id)
        return tenant is not None and tenant.epoch < epoch

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's."""
        tenant = self._tenants.pop(tenant_id, None)
        if tenant is not None:
            self._count -= len(tenant.entries)

    def clear(self) -> None:
        """Forget everything."""
        self._tenants.clear()
        self._count = 0

    def _tenant(self, tenant_id: str, epoch: int) -> _Tenant:
        tenant = self._tenants.get(tenant_id)
        if tenant is not None and tenant.epoch == epoch:
            return tenant
        self.drop(tenant_id)
        while len(self._tenants) >= TENANTS_MAX:
            self.drop(next(iter(self._tenants)))
        tenant = self._tenants[tenant_id] = _Tenant(epoch)
        return tenant
