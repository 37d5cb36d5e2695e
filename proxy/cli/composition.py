"""What the commands need of the composition root, so that a test can hand in its own."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from proxy.admission.store import AdmissionStore
from proxy.cache.book import CacheBook
from proxy.cache.store import CacheStore
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant_store import TenantStore
from proxy.keyring.store import KeyringStore
from proxy.ledger.audit import SpentTotal
from proxy.ledger.sink import LedgerSink
from proxy.ledger.store import LedgerStore
from proxy.routing.store import SwitchStore
from proxy.settings.load import ReadSettings
from proxy.settings.model import Settings

if TYPE_CHECKING:  # it brings the cipher, and help should answer at once
    from proxy.keyring.keyring import Keyring


class OpenStores(Protocol):
    """What outlives the process."""

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
        """What calls under way hold, and what was spent."""
        ...

    @property
    def keyring(self) -> KeyringStore:
        """Provider keys of tenants, sealed."""
        ...

    @property
    def cache(self) -> CacheStore | None:
        """Kept answers; None where each process has its own."""
        ...

    @property
    def cache_book(self) -> CacheBook:
        """What is known of them, wherever they are."""
        ...

    @property
    def switches(self) -> SwitchStore:
        """What is taken out of service."""
        ...

    @property
    def ledger(self) -> LedgerStore:
        """Rows that wait to be exported."""
        ...

    @property
    def sink(self) -> LedgerSink | None:
        """Where they go; None where they stay."""
        ...

    @property
    def spent_total_nusd(self) -> SpentTotal | None:
        """What the counters say that a tenant was charged; None where nothing counts yet."""
        ...


class Composition(Protocol):
    """`proxy.app`, as the commands see it."""

    def serve(self, settings: Settings, read_settings: ReadSettings, /) -> int:
        """Run the gateway until it is told to stop; the process's exit code. A reload reads anew."""
        ...

    def open_stores(self, settings: Settings, /) -> AbstractAsyncContextManager[OpenStores]:
        """The stores, for a command that works beside a running gateway."""
        ...

    def peppers_of(self, settings: Settings, /) -> tuple[bytes, ...]:
        """The peppers of virtual keys, newest first."""
        ...

    def command_keyring(self, settings: Settings, store: KeyringStore, clock: Clock, /) -> "Keyring | None":
        """What seals and opens them; None where no KEK is configured."""
        ...

    def price_warnings(self, settings: Settings, now_ms: int, /) -> tuple[str, ...]:
        """What is unwise about caps at the prices in force."""
        ...
