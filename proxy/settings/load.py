"""A configuration's text in; frozen settings, or every problem at once, out.

Pure: the environment and the reader of files are handed in. Each section is one function, here
or in a module that is called after it; what holds between sections is in `consistency`.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from proxy.core.limits import CAP_NUSD_MAX
from proxy.settings.admin import read_admin
from proxy.settings.cache import read_cache
from proxy.settings.consistency import advise, check
from proxy.settings.deployments import IN_FLIGHT_MAX, Existing, read_model
from proxy.settings.keyring import read_keyring
from proxy.settings.model import (
    DEFAULT_PLAN,
    AuthMode,
    AuthSettings,
    FallbackSettings,
    LedgerSettings,
    ServerSettings,
    Settings,
    StateSettings,
)
from proxy.settings.plans import read_plans
from proxy.settings.problem import Problem, SettingsError
from proxy.settings.providers import SECONDS_MAX, read_provider
from proxy.settings.reader import Reader, Source, Table
from proxy.settings.suggest import did_you_mean
from proxy.settings.tenants import read_tenant
from proxy.settings.values import (
    Mismatch,
    parse_address,
    parse_cache_url,
    parse_model_name,
    parse_network,
    parse_path,
    parse_pepper,
    parse_provider_name,
    parse_sink,
    parse_state_url,
    parse_tenant_id,
)

BODY_BYTES_MAX = 1 << 30  # a JSON body is read whole into memory
UPLOAD_BYTES_MAX = 1 << 40
UNEXPORTED_BYTES_MAX = 1 << 40
LEASE_S_MAX = 3_600
EXPORT_S_MAX = 3_600.0
SEAL_ROWS_MAX = 100_000
WORKERS_MAX = 64  # each is a whole gateway, and all of them wake for a new connection
LOOP_LAG_MS_MAX = 60_000
MEMORY_BYTES_MIN = 64 * 1024 * 1024  # less than a gateway needs that does nothing
MEMORY_BYTES_MAX = 1 << 44
SECTIONS = (
    *("server", "state", "auth", "providers", "models", "plans", "tenants"),
    *("fallback", "ledger", "admin", "keyring", "cache"),
)
VERSION_CHARS = 12

_SYNTAX_PLACE = re.compile(r"(?P<what>.*) \(at (?P<place>line \d+, column \d+|end of document)\)", re.DOTALL)


ReadFile: TypeAlias = Callable[[Path], str]
"""Gives the text of a file."""


class ReadSettings(Protocol):
    """Reads a configuration anew, with the files that it names."""

    def __call__(self, through: Callable[[ReadFile], ReadFile] | None = None, /) -> Settings:
        """
        Args:
            through: makes what reads each file, of what would by itself.

        Raises:
            SettingsError, OSError, ValueError: it cannot be read, or what it says cannot be.
        """
        ...


def load(text: str, *, path: str, environ: Mapping[str, str], read_file: ReadFile) -> Settings:
    """Read and check a whole configuration.

    Args:
        text: TOML 1.0 (https://toml.io/en/v1.0.0).
        path: where the text came from; relative `file:` paths begin at its folder.
        environ: what `env:NAME` and `env?:NAME` refer to.
        read_file: gives the text of a file; what it raises of OSError and ValueError is reported.

    Raises:
        SettingsError: with every problem; none shows the value of a secret.
    """
    source = Source(Path(path).parent, environ, read_file)
    root = Reader(_document(text, path), "", source)
    sections = {name: root.table(name) for name in SECTIONS}
    root.close()
    providers, models, tenants = sections["providers"], sections["models"], sections["tenants"]
    # Also those that cannot be read: a model that names one of them is not a second mistake.
    parse_provider = partial(_parse_existing, "provider", "[providers]", providers.names())
    parse_plan = partial(_parse_existing, "plan", "[plans]", (DEFAULT_PLAN, *sections["plans"].names()))
    parse_model = partial(_parse_existing, "model", "[models]", models.names())
    existing = Existing(parse_provider, parse_plan, parse_model)
    draft = Settings(
        server=_server(sections["server"]),
        state=_state(sections["state"]),
        auth=_auth(sections["auth"], parse_provider),
        providers={name: read_provider(name, at, source) for name, at in providers.named_tables(parse_provider_name)},
        models={alias: read_model(alias, at, source, existing) for alias, at in models.named_tables(parse_model_name)},
        plans=read_plans(sections["plans"]),
        tenants={name: read_tenant(name, at, parse_plan) for name, at in tenants.named_tables(parse_tenant_id)},
        fallback=_fallback(sections["fallback"]),
        ledger=_ledger(sections["ledger"]),
        admin=read_admin(sections["admin"], source),
        keyring=read_keyring(sections["keyring"], source),
        cache=read_cache(sections["cache"]),
        version=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:VERSION_CHARS],
    )
    check(draft, source)
    if source.problems:
        raise SettingsError(path, tuple(source.problems))
    return replace(draft, warnings=(*source.warnings, *advise(draft)))


def _document(text: str, path: str) -> Table:
    try:
        return tomllib.loads(text, parse_float=_exact)
    except RecursionError:
        problem = Problem("the whole text", "TOML", "values nested too deep to read")
    except ValueError as error:  # TOMLDecodeError is one; a number with thousands of digits raises the other
        parts = _SYNTAX_PLACE.fullmatch(str(error))
        place, what = (parts["place"], parts["what"]) if parts else ("the whole text", str(error))
        problem = Problem(place, "TOML", what[:1].lower() + what[1:])
    raise SettingsError(path, (problem,))


def _exact(text: str) -> Decimal:
    """A number as it was written: a float would lose digits of an amount."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what any number has: no setting takes it
        return Decimal("nan")


def _server(at: Reader) -> ServerSettings:
    default = ServerSettings()
    server = ServerSettings(
        bind=at.text("bind", parse_address, default.bind),
        admin_bind=at.text("admin_bind", parse_address, default.admin_bind),
        body_bytes_max=at.integer("body_bytes_max", default.body_bytes_max, 1, BODY_BYTES_MAX),
        upload_bytes_max=at.integer("upload_bytes_max", default.upload_bytes_max, 1, UPLOAD_BYTES_MAX),
        drain_s=at.seconds("drain_s", default.drain_s, SECONDS_MAX),
        workers=at.integer("workers", default.workers, 1, WORKERS_MAX),
        in_flight_max=at.integer("in_flight_max", default.in_flight_max, 1, IN_FLIGHT_MAX),
        tenant_in_flight_pct=at.integer("tenant_in_flight_pct", default.tenant_in_flight_pct, 1, 100),
        loop_lag_ms_max=at.integer("loop_lag_ms_max", default.loop_lag_ms_max, 1, LOOP_LAG_MS_MAX),
        memory_bytes_max=at.integer("memory_bytes_max", default.memory_bytes_max, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX),
    )
    at.close()
    return server


def _state(at: Reader) -> StateSettings:
    default = StateSettings()
    state = StateSettings(
        folder=Path(at.text("folder", parse_path, str(default.folder))),
        url=at.text("url", parse_state_url, default.url),
        cache_url=at.text("cache_url", parse_cache_url, None),
        journal=at.text("journal", parse_path, default.journal),
        lease_s=at.integer("lease_s", default.lease_s, 1, LEASE_S_MAX),
        ledger_unexported_bytes_max=at.integer(
            "ledger_unexported_bytes_max", default.ledger_unexported_bytes_max, 1, UNEXPORTED_BYTES_MAX
        ),
    )
    at.close()
    return state


def _fallback(at: Reader) -> FallbackSettings:
    fallback = FallbackSettings(at.dollars("absorb_usd_per_day", None, CAP_NUSD_MAX))
    at.close()
    return fallback


def _ledger(at: Reader) -> LedgerSettings:
    default = LedgerSettings()
    ledger = LedgerSettings(
        sink=at.text("sink", parse_sink, default.sink),
        export_every_s=at.seconds("export_every_s", default.export_every_s, EXPORT_S_MAX),
        seal_rows_max=at.integer("seal_rows_max", default.seal_rows_max, 1, SEAL_ROWS_MAX),
    )
    at.close()
    return ledger


def _auth(at: Reader, parse_provider: Callable[[str], str]) -> AuthSettings:
    default = AuthSettings()
    auth = AuthSettings(
        mode=at.choice("mode", AuthMode, default.mode),
        default_tenant=at.text("default_tenant", parse_tenant_id, default.default_tenant),
        default_provider=at.text("default_provider", parse_provider, default.default_provider),
        known_tenants_only=at.flag("known_tenants_only", default.known_tenants_only),
        peppers=at.texts("peppers", parse_pepper, default.peppers, secret=True),
        allow_keyless=at.flag("allow_keyless", default.allow_keyless),
        trusted_peers=at.texts("trusted_peers", parse_network, default.trusted_peers),
    )
    at.close()
    return auth


def _parse_existing(noun: str, section: str, names: tuple[str, ...], text: str) -> str:
    if text not in names:
        raise Mismatch(f"the name of a {noun} that stands under {section}", suggestion=did_you_mean(text, names))
    return text
