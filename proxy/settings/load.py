"""A configuration's text in; frozen settings, or every problem at once, out.

Pure: the environment and the reader of files are handed in. Each section is one function
here; what holds between sections is in `consistency`.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from proxy.settings.consistency import advise, check
from proxy.settings.model import (
    AuthMode,
    AuthSettings,
    DeploymentSettings,
    ModelSettings,
    ProviderSettings,
    ServerSettings,
    Settings,
    StateSettings,
    TenantSettings,
    TimeoutSettings,
    TransportKind,
)
from proxy.settings.problem import Problem, SettingsError
from proxy.settings.reader import Reader, Source, Table
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import (
    Mismatch,
    is_https_or_loopback,
    parse_address,
    parse_base_url,
    parse_model_name,
    parse_network,
    parse_path,
    parse_pepper,
    parse_provider_key,
    parse_provider_name,
    parse_proxy_url,
    parse_state_url,
    parse_tenant_id,
)

BODY_BYTES_MAX = 1 << 30  # a JSON body is read whole into memory
UPLOAD_BYTES_MAX = 1 << 40
SECONDS_MAX = 86_400.0
CONNECTIONS_MAX = 100_000
WORKERS_MAX = 1  # breakers and queues are per process, and the embedded store has one writer
SECTIONS = ("server", "state", "auth", "providers", "models", "tenants")
DIALECTS = ("openai",)
SIMULATED_BASE_URL = "http://simulated.invalid/v1"
VERSION_CHARS = 12

_SYNTAX_PLACE = re.compile(r"(?P<what>.*) \(at (?P<place>line \d+, column \d+|end of document)\)", re.DOTALL)


def load(text: str, *, path: str, environ: Mapping[str, str], read_file: Callable[[Path], str]) -> Settings:
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
    parse_existing = partial(_parse_existing, provider_names=providers.names())
    draft = Settings(
        server=_server(sections["server"]),
        state=_state(sections["state"]),
        auth=_auth(sections["auth"], parse_existing),
        providers={name: _provider(name, at, source) for name, at in providers.named_tables(parse_provider_name)},
        models={alias: _model(alias, at, parse_existing) for alias, at in models.named_tables(parse_model_name)},
        tenants={tenant_id: _tenant(tenant_id, at) for tenant_id, at in tenants.named_tables(parse_tenant_id)},
        version=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:VERSION_CHARS],
    )
    check(draft, source)
    if source.problems:
        raise SettingsError(path, tuple(source.problems))
    return replace(draft, warnings=(*source.warnings, *advise(draft)))


def _document(text: str, path: str) -> Table:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = Problem("the whole text", "TOML", "values nested too deep to read")
    except ValueError as error:  # TOMLDecodeError is one; a number with thousands of digits raises the other
        parts = _SYNTAX_PLACE.fullmatch(str(error))
        place, what = (parts["place"], parts["what"]) if parts else ("the whole text", str(error))
        problem = Problem(place, "TOML", what[:1].lower() + what[1:])
    raise SettingsError(path, (problem,))


def _server(at: Reader) -> ServerSettings:
    default = ServerSettings()
    server = ServerSettings(
        bind=at.text("bind", parse_address, default.bind),
        admin_bind=at.text("admin_bind", parse_address, default.admin_bind),
        body_bytes_max=at.integer("body_bytes_max", default.body_bytes_max, 1, BODY_BYTES_MAX),
        upload_bytes_max=at.integer("upload_bytes_max", default.upload_bytes_max, 1, UPLOAD_BYTES_MAX),
        drain_s=at.seconds("drain_s", default.drain_s, SECONDS_MAX),
        workers=at.integer("workers", default.workers, 1, WORKERS_MAX),
    )
    at.close()
    return server


def _state(at: Reader) -> StateSettings:
    default = StateSettings()
    state = StateSettings(
        folder=Path(at.text("folder", parse_path, str(default.folder))),
        url=at.text("url", parse_state_url, default.url),
    )
    at.close()
    return state


def _auth(at: Reader, parse_existing: Callable[[str], str]) -> AuthSettings:
    default = AuthSettings()
    auth = AuthSettings(
        mode=at.choice("mode", AuthMode, default.mode),
        default_tenant=at.text("default_tenant", parse_tenant_id, default.default_tenant),
        default_provider=at.text("default_provider", parse_existing, default.default_provider),
        known_tenants_only=at.flag("known_tenants_only", default.known_tenants_only),
        peppers=at.texts("peppers", parse_pepper, default.peppers, secret=True),
        allow_keyless=at.flag("allow_keyless", default.allow_keyless),
        trusted_peers=at.texts("trusted_peers", parse_network, default.trusted_peers),
    )
    at.close()
    return auth


def _provider(name: str, at: Reader, source: Source) -> ProviderSettings:
    default = ProviderSettings(name, SIMULATED_BASE_URL)
    transport = at.choice("transport", TransportKind, default.transport)
    allow_http = at.flag("allow_http", default.allow_http)
    simulated = transport is TransportKind.SIMULATED  # it opens no connection, so any URL is as good

    def parse_provider_url(text: str) -> str:
        base_url = parse_base_url(text)
        if simulated or allow_http or is_https_or_loopback(base_url):
            return base_url
        suggestion = f"Set {at.path}.allow_http = true if the network between is your own."
        raise Mismatch("https (or http to loopback)", found="http to another machine", suggestion=suggestion)

    provider = ProviderSettings(
        name=name,
        base_url=at.text(
            "base_url",
            parse_provider_url,
            default.base_url,
            required=None if simulated else "a URL such as https://api.example.com/v1",
        ),
        dialect=at.text("dialect", _parse_dialect, default.dialect),
        provider_key=at.text("provider_key", parse_provider_key, None, secret=True),
        provider_key_wanted=at.has("provider_key"),
        timeouts_s=_timeouts(at.table("timeouts_s")),
        transport=transport,
        allow_http=allow_http,
        allow_shared_state=at.flag("allow_shared_state", default.allow_shared_state),
        ca_file=at.text("ca_file", lambda text: _certificates(text, source), None),
        proxy_url=at.text("proxy_url", parse_proxy_url, None),
        connections_max=at.integer("connections_max", default.connections_max, 1, CONNECTIONS_MAX),
    )
    at.close()
    return provider


def _timeouts(at: Reader) -> TimeoutSettings:
    default = TimeoutSettings()
    timeouts_s = TimeoutSettings(
        connect=at.seconds("connect", default.connect, SECONDS_MAX),
        pool=at.seconds("pool", default.pool, SECONDS_MAX),
        first_byte=at.seconds("first_byte", default.first_byte, SECONDS_MAX),
        idle=at.seconds("idle", default.idle, SECONDS_MAX),
        total=at.seconds("total", default.total, SECONDS_MAX),
    )
    at.close()
    return timeouts_s


def _model(alias: str, at: Reader, parse_existing: Callable[[str], str]) -> ModelSettings:
    deployments = tuple(_deployment(entry, parse_existing) for entry in at.tables("deployments"))
    tenants = at.texts("tenants", parse_tenant_id, None)
    at.close()
    return ModelSettings(alias, deployments, None if tenants is None else frozenset(tenants))


def _deployment(at: Reader, parse_existing: Callable[[str], str]) -> DeploymentSettings:
    deployment = DeploymentSettings(
        provider=at.text("provider", parse_existing, "", required="the name of a provider"),
        model=at.text("model", parse_model_name, "", required="the provider's name of a model"),
    )
    at.close()
    return deployment


def _tenant(tenant_id: str, at: Reader) -> TenantSettings:
    at.close()
    return TenantSettings(tenant_id)


def _parse_existing(text: str, provider_names: tuple[str, ...]) -> str:
    if text not in provider_names:
        expected = "the name of a provider that stands under [providers]"
        raise Mismatch(expected, suggestion=did_you_mean(text, provider_names))
    return text


def _parse_dialect(text: str) -> str:
    if text not in DIALECTS:
        raise Mismatch(" or ".join(DIALECTS), suggestion=did_you_mean(text, DIALECTS))
    return text


def _certificates(text: str, source: Source) -> Path:
    """The path of a CA file, once it is seen to hold certificates."""
    path = parse_path(text)
    if "-----BEGIN CERTIFICATE-----" not in source.file_text(path):
        raise Mismatch("a file of PEM certificates", found="one without any")
    return source.located(path)
