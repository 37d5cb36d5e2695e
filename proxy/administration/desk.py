"""What one person or program may administer, by one snapshot of the configuration.

Stored provider keys get their place here, beside virtual keys: use cases in a module of their own,
actions in `ledger.change`, and a role in the API, which is there already (`keys`).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from proxy.administration.changes import Changes, OnChanged, ignore
from proxy.administration.tenants import TenantAdministration
from proxy.administration.virtual_keys import VirtualKeyAdministration
from proxy.admission.store import AdmissionStore
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant_store import TenantStore
from proxy.ledger.store import LedgerStore
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
    def ledger(self) -> LedgerStore:
        """The rows of changes."""
        ...


class Desk(NamedTuple):
    """The use cases, for one actor."""

    tenants: TenantAdministration
    virtual_keys: VirtualKeyAdministration
    changes: Changes


def open_desk(
    settings: Settings,
    stores: AdministeredStores,
    newest_pepper: Callable[[], bytes],
    clock: Clock,
    actor: str,
    on_changed: OnChanged = ignore,
) -> Desk:
    """The use cases, for `actor`: an admin token's name, or `cli:` and the system's user."""
    changes = Changes(stores.ledger, clock, settings.version, actor, on_changed)
    tenants, virtual_keys = stores.tenants, stores.virtual_keys
    return Desk(
        TenantAdministration(settings, tenants, virtual_keys, stores.admission, changes, clock),
        VirtualKeyAdministration(settings, virtual_keys, tenants, newest_pepper, changes, clock),
        changes,
    )
