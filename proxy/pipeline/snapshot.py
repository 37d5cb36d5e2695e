"""One configuration, prepared for use: what a reload swaps, whole.

An exchange keeps the snapshot that it began with, so that no request sees half of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.dialects.dialect import Dialect
from proxy.identity.authenticator import Authenticator
from proxy.identity.tenants import Tenants
from proxy.pipeline.allowance import Allowances
from proxy.pipeline.price_list import PriceList
from proxy.routing.resolve import Routes
from proxy.settings.model import ProviderSettings, Settings
from proxy.upstream.client import UpstreamClient


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """A provider as configured, and the client that sends to it."""

    settings: ProviderSettings
    client: UpstreamClient
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What holds from one load of the configuration to the next."""

    settings: Settings
    version_header: tuple[bytes, bytes]
    authenticator: Authenticator
    tenants: Tenants
    routes: Routes
    prices: PriceList
    allowances: Allowances
    providers: Mapping[str, ProviderAccess]
    created_s: int  # seconds since the Unix epoch

    @property
    def version(self) -> str:
        """The configuration's content hash."""
        return self.settings.version


class SnapshotSlot:
    """Where the current snapshot stands. Assignment is the swap."""

    __slots__ = ("current",)

    def __init__(self, first: Snapshot) -> None:
        self.current = first
