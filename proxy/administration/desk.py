"""What one person or program may administer, by one snapshot of the configuration."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from proxy.administration.changes import Changes, OnChanged, ignore
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.administration.keyring_rotations import KeyringAdministration
from proxy.administration.provider_keys import ProviderKeyAdministration
from proxy.administration.routing import RoutingAdministration, StatusOf
from proxy.administration.shredding import TenantShredding
from proxy.administration.tenants import TenantAdministration
from proxy.administration.virtual_keys import VirtualKeyAdministration
from proxy.admission.store import AdmissionStore
from proxy.cache.book import CacheBook
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant_store import TenantStore
from proxy.keyring.store import KeyringStore
from proxy.ledger.store import LedgerStore
from proxy.routing.store import SwitchStore
from proxy.routing.switches import Switch
from proxy.settings.model import Settings


class AdministeredStores(Protocol):
    """What is changed, and where that is written down."""

    @property
    def virtual_keys(self) -> VirtualKeyStore:
        """Who may call."""
        ...

    @property
    def tenants(self) -> TenantStore:
        """Whom they belong to, as far as the file does not say it."""
        ...

    @property
    def admission(self) -> AdmissionStore:
        """What calls under way hold."""
        ...

    @property
    def keyring(self) -> KeyringStore:
        """Provider keys of tenants, sealed."""
        ...

    @property
    def cache_book(self) -> CacheBook:
        """What was purged of kept answers."""
        ...

    @property
    def switches(self) -> SwitchStore:
        """What is taken out of service."""
        ...

    @property
    def ledger(self) -> LedgerStore:
        """The rows of changes."""
        ...


class Desk(NamedTuple):
    """The use cases, for one actor."""

    tenants: TenantAdministration
    virtual_keys: VirtualKeyAdministration
    provider_keys: ProviderKeyAdministration
    shredding: TenantShredding
    keyring: KeyringAdministration
    routing: RoutingAdministration
    changes: Changes


def open_desk(
    settings: Settings,
    stores: AdministeredStores,
    newest_pepper: Callable[[], bytes],
    clock: Clock,
    actor: str,
    on_changed: OnChanged = ignore,
    keyring: KeyringAtHand | None = None,
    on_switched: Callable[[Sequence[Switch]], object] = lambda _switches: None,
    status_of: StatusOf = dict,
) -> Desk:
    """The use cases, for `actor`: an admin token's name, or `cli:` and the system's user. Without a keyring nothing
    can be sealed or rotated."""
    changes = Changes(stores.ledger, clock, settings.version, actor, on_changed)
    tenants, virtual_keys = stores.tenants, stores.virtual_keys
    at_hand = keyring or KeyringAtHand(stores.keyring)
    provider_keys = ProviderKeyAdministration(settings, at_hand, tenants, changes, clock)
    return Desk(
        TenantAdministration(
            settings, tenants, virtual_keys, stores.admission, provider_keys, stores.cache_book, changes, clock
        ),
        VirtualKeyAdministration(settings, virtual_keys, tenants, newest_pepper, provider_keys, changes, clock),
        provider_keys,
        TenantShredding(settings, at_hand, tenants, virtual_keys, changes, clock),
        KeyringAdministration(settings, at_hand, changes, clock),
        RoutingAdministration(settings, stores.switches, changes, clock, actor, on_switched, status_of),
        changes,
    )
