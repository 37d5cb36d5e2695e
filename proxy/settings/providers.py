"""`[providers.NAME]`: how to reach a company."""

from pathlib import Path

from proxy.core.dialect_names import AZURE_DEPLOYMENTS, DIALECT_NAMES
from proxy.settings.model import ProviderSettings, TimeoutSettings, TransportKind
from proxy.settings.reader import Reader, Source
from proxy.settings.routing import Retention
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import (
    Mismatch,
    is_https_or_loopback,
    parse_api_version,
    parse_base_url,
    parse_path,
    parse_provider_key,
    parse_provider_name,
    parse_proxy_url,
    parse_region,
)

SECONDS_MAX = 86_400.0
CONNECTIONS_MAX = 100_000
SIMULATED_BASE_URL = "http://simulated.invalid/v1"


def read_provider(name: str, at: Reader, source: Source) -> ProviderSettings:
    """One provider's table."""
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

    dialect = at.text("dialect", _parse_dialect, default.dialect)
    by_version = "the date of an API version, such as 2024-10-21" if dialect == AZURE_DEPLOYMENTS else None
    provider = ProviderSettings(
        name=name,
        base_url=at.text(
            "base_url",
            parse_provider_url,
            default.base_url,
            required=None if simulated else "a URL such as https://api.example.com/v1",
        ),
        dialect=dialect,
        api_version=at.text("api_version", parse_api_version, default.api_version, required=by_version),
        provider_key=at.text("provider_key", parse_provider_key, None, secret=True),
        provider_key_wanted=at.has("provider_key"),
        timeouts_s=_timeouts(at.table("timeouts_s")),
        transport=transport,
        allow_http=allow_http,
        allow_shared_state=at.flag("allow_shared_state", default.allow_shared_state),
        ca_file=at.text("ca_file", lambda text: _certificates(text, source), None),
        proxy_url=at.text("proxy_url", parse_proxy_url, None),
        connections_max=at.integer("connections_max", default.connections_max, 1, CONNECTIONS_MAX),
        catalog=at.text("catalog", _parse_catalog, None),
        usage_unasked=at.flag("usage_unasked", default.usage_unasked),
        region=at.text("region", parse_region, None),
        retention=at.choice("retention", Retention, default.retention),
        probe_every_s=at.seconds("probe_every_s", None, SECONDS_MAX),
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


def _parse_dialect(text: str) -> str:
    if text not in DIALECT_NAMES:
        raise Mismatch(" or ".join(DIALECT_NAMES), suggestion=did_you_mean(text, DIALECT_NAMES))
    return text


def _parse_catalog(text: str) -> str:
    """Which catalogues there are is not known here: they are files, and the operator may add some."""
    try:
        return parse_provider_name(text)
    except Mismatch:
        raise Mismatch("a catalogue's name: 1 to 64 letters, digits, `_`, `.` and `-`") from None


def _certificates(text: str, source: Source) -> Path:
    """The path of a CA file, once it is seen to hold certificates."""
    path = parse_path(text)
    if "-----BEGIN CERTIFICATE-----" not in source.file_text(path):
        raise Mismatch("a file of PEM certificates", found="one without any")
    return source.located(path)
