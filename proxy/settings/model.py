"""What a valid configuration is made of. Frozen: a reload makes a new one.

Every default here is the documented default (`docs/configuration.md`); what a field means
to an operator is said there and in `config/production.toml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeAlias

from proxy.core.consent import Consent
from proxy.core.limits import NO_LIMITS, ScopeLimits
from proxy.core.secret import Secret
from proxy.settings.caching import CACHE_FILE_URL, NO_CACHE_STORE, CachePolicy, CacheSettings
from proxy.settings.routing import ModelSettings, Retention

Network: TypeAlias = IPv4Network | IPv6Network

SQLITE_PREFIX = "sqlite:"  # of a URL that leads to a file
DEFAULT_PLAN = "default"  # holds where no plan is named, and exists even if nobody wrote it


class AdminRole(StrEnum):
    """What an admin token lets its holder do."""

    READ = "read"  # list and look
    OPERATE = "operate"  # put and delete tenants
    ISSUE_KEYS = "keys"  # issue and revoke virtual keys


class AuthMode(StrEnum):
    """How a caller says who it is."""

    VIRTUAL_KEYS = "virtual-keys"
    PASSTHROUGH = "passthrough"
    TRUSTED_HEADERS = "trusted-headers"


class TransportKind(StrEnum):
    """What carries the requests to a provider."""

    TOLLWAY = "tollway"  # our own HTTP/1.1 transport
    HTTPX = "httpx"  # httpx's stock one: HTTP/2, a corporate proxy
    SIMULATED = "simulated"  # the built-in provider: no network at all


class KekKind(StrEnum):
    """Where a key-encryption key is."""

    AWS_KMS = "aws-kms"
    ENV = "env"
    FILE = "file"


class NoCeiling(StrEnum):
    """What a call that names no ceiling for its output holds."""

    AUTO = "auto"  # reserve where it fits, else extend for streams, else refuse
    RESERVE = "reserve"  # the model's real maximum
    EXTEND = "extend"  # a slice, extended while the stream runs
    INSERT = "insert"  # the ceiling that fits is written into the body


class StreamUsage(StrEnum):
    """How a stream's usage is learnt where its provider reports it only if asked."""

    AUTO = "auto"  # restore where a dollar cap holds and the caller did not ask, else leave
    LEAVE = "leave"  # nothing is added
    INJECT = "inject"  # it is asked for, and the caller sees the answer
    RESTORE = "restore"  # it is asked for, and what that caused is taken out again


class OnUnsupported(StrEnum):
    """What becomes of a part of a call that the model which answers cannot honour."""

    REFUSE = "refuse"  # the call is refused, and told which part
    DROP = "drop"  # it is left out, and the answer says so


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str | None = None

    @property
    def is_local(self) -> bool:
        """True where only this machine can connect."""
        return self.unix_path is not None or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The two ports and their bounds."""

    bind: Address = Address("127.0.0.1", 8080)
    admin_bind: Address = Address("127.0.0.1", 8081)
    body_bytes_max: int = 33_554_432
    upload_bytes_max: int = 536_870_912
    drain_s: float = 120.0
    workers: int = 1
    in_flight_max: int = 10_000  # calls under way at once
    tenant_in_flight_pct: int = 20  # of those, one tenant's part while others wait
    loop_lag_ms_max: int = 2_000  # above it, new calls are shed
    memory_bytes_max: int | None = None  # likewise


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where state lives."""

    folder: Path = Path(".tollway")
    url: str = field(default="sqlite:tollway.db", repr=False)  # a Redis URL may hold a password
    journal: str = "journal/"  # a relative path begins at the folder
    lease_s: int = 30
    ledger_unexported_bytes_max: int = 1_073_741_824
    cache_url: str | None = field(default=None, repr=False)  # None: `kept_url` says what holds

    @property
    def kept_url(self) -> str:
        """Where kept answers are, besides each process's memory; `none`: nowhere. Beside a Redis that holds money
        they are only where another place is named: what a cache may throw away must not crowd out what nothing may."""
        if self.cache_url is not None:
            return self.cache_url
        return CACHE_FILE_URL if self.url.startswith(SQLITE_PREFIX) else NO_CACHE_STORE

    @property
    def shown_url(self) -> str:
        """The URL without its password, for people."""
        return _without_password(self.url)

    @property
    def shown_kept_url(self) -> str:
        """Likewise, of kept answers."""
        return _without_password(self.kept_url)

    @property
    def journal_folder(self) -> Path:
        """Where each process keeps what it has reserved and not yet settled."""
        return self.folder / self.journal


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else url


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the ledger's rows go to stay."""

    sink: str = "folder:ledger/"  # or s3://bucket/prefix, or none; a relative path begins at the state folder
    export_every_s: float = 5.0
    seal_rows_max: int = 1_000


@dataclass(frozen=True, slots=True)
class KekSettings:
    """One key-encryption key."""

    kind: KekKind
    place: str  # its ARN, its variable or its path; a relative path begins at the state folder
    secret: Secret | None = None  # the variable's value, base64 of 32 bytes


@dataclass(frozen=True, slots=True)
class KeyringSettings:
    """How stored provider keys are sealed. Without a KEK there are none."""

    kek: tuple[KekSettings, ...] = ()  # the current one first; the others only unwrap
    rotate_after_days: int = 365
    kms_endpoint_url: str | None = None


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may call."""

    mode: AuthMode = AuthMode.VIRTUAL_KEYS
    default_tenant: str = "default"
    default_provider: str | None = None
    known_tenants_only: bool = False
    peppers: tuple[Secret, ...] = ()  # newest first, base64 of 32 bytes; empty: made in the state folder
    allow_keyless: bool = False
    trusted_peers: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class AdminTokenSettings:
    """Who may administer, and what. The name stands in the ledger beside each change."""

    name: str
    token: Secret
    roles: frozenset[AdminRole]


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Who may use the admin API. Without a token: nobody."""

    tokens: tuple[AdminTokenSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """Seconds. `first_byte` and `idle` hold for streams; a plain call has `total`."""

    connect: float = 2.0
    pool: float = 2.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """A company, and how to reach it."""

    name: str
    base_url: str
    dialect: str = "openai"  # of `core.dialect_names`
    api_version: str | None = None  # what Azure's query tells (`api-version`)
    provider_key: Secret | None = None
    # True where the file has a `provider_key` line, even if `env?:` found nothing: such a
    # provider wants a key, while one without the line (a vLLM next door) is called without.
    provider_key_wanted: bool = False
    timeouts_s: TimeoutSettings = TimeoutSettings()
    transport: TransportKind = TransportKind.TOLLWAY
    allow_http: bool = False
    allow_shared_state: bool = False
    ca_file: Path | None = None
    proxy_url: Secret | None = None  # it may hold a password; for httpx's transport alone
    connections_max: int = 1_000
    catalog: str | None = None  # None: the provider's own name if there is such a catalogue, else its dialect's
    usage_unasked: bool = False
    region: str | None = None  # what a tenant's residency is matched against
    retention: Retention = Retention.STANDARD
    probe_every_s: float | None = None  # None: only calls tell whether it is well


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What each tenant of a plan, and each of the tenant's users, virtual keys, features and models may use."""

    name: str
    soft_cap_pct: int = 80
    input_bytes_max: int | None = None
    gateway_keys: bool = True  # False: only provider keys that its tenants stored themselves
    queue_weight: int = 1  # its part of what comes free, where calls wait
    tenant: ScopeLimits = NO_LIMITS
    user: ScopeLimits = NO_LIMITS  # with its share of the tenant's caps, where the file says nothing
    virtual_key: ScopeLimits = NO_LIMITS
    features: Mapping[str, ScopeLimits] = field(default_factory=dict)
    models: Mapping[str, ScopeLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """A tenant: one that stands in the file, or was put at run time, or whom the defaults hold for."""

    id: str
    plan: str = DEFAULT_PLAN
    timezone: str = "UTC"
    no_ceiling: NoCeiling = NoCeiling.AUTO
    stream_usage: StreamUsage = StreamUsage.AUTO
    on_unsupported: OnUnsupported = OnUnsupported.REFUSE
    fallback: Consent = Consent.NONE
    residency: frozenset[str] | None = None  # the regions that may serve it; None: any
    zero_retention: bool = False  # only providers that keep nothing
    allow_unmetered: bool = False
    count_own_key: bool = False
    soft_cap_webhook: Secret | None = None  # such URLs often are their own key
    cache: CachePolicy | None = None  # None: nothing is said, so a feature, a model or an endpoint may


@dataclass(frozen=True, slots=True)
class FallbackSettings:
    """What the operator bears of a fallback that is dearer than what was asked for. None: all."""

    absorb_nusd_per_day: int | None = None


def _default_plans() -> Mapping[str, PlanSettings]:
    return {DEFAULT_PLAN: PlanSettings(DEFAULT_PLAN)}


@dataclass(frozen=True, slots=True)
class Settings:
    """One immutable snapshot of the configuration."""

    server: ServerSettings = ServerSettings()
    state: StateSettings = StateSettings()
    auth: AuthSettings = AuthSettings()
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    plans: Mapping[str, PlanSettings] = field(default_factory=_default_plans)  # the default one is always there
    tenants: Mapping[str, TenantSettings] = field(default_factory=dict)
    ledger: LedgerSettings = LedgerSettings()
    admin: AdminSettings = AdminSettings()
    keyring: KeyringSettings = KeyringSettings()
    fallback: FallbackSettings = FallbackSettings()
    cache: CacheSettings = field(default_factory=CacheSettings)
    version: str = "000000000000"  # the first 12 hex digits of SHA-256 over the file's bytes
    warnings: tuple[str, ...] = ()  # legal, but unwise
