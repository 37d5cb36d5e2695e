"""What must hold between sections, and what is legal but unwise.

Pure. Values that are wrong in themselves are already reported and not compared here: one
mistake, one problem.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from proxy.settings.caching_checks import advise_caching, check_caching
from proxy.settings.model import (
    SQLITE_PREFIX,
    Address,
    AuthMode,
    AuthSettings,
    KekKind,
    ProviderSettings,
    Settings,
    TransportKind,
)
from proxy.settings.problem import element, member
from proxy.settings.reader import Source
from proxy.settings.routing_checks import advise_routing, check_routing
from proxy.settings.spending import advise_spending
from proxy.settings.values import is_https_or_loopback

_WILDCARD_HOSTS = ("0.0.0.0", "::")


def check(draft: Settings, source: Source) -> None:
    """Report what contradicts."""
    _check_addresses(draft, source)
    _check_workers(draft, source)
    _check_trust(draft, source)
    _check_keks(draft, source)
    for provider in draft.providers.values():
        _check_proxy(provider, source)
    check_routing(draft, source)
    check_caching(draft, source)


def advise(settings: Settings) -> Iterator[str]:
    """What is legal but unwise, each said with what to do about it."""
    yield from _advise_auth(settings)
    if settings.admin.tokens and not settings.server.admin_bind.is_local:
        yield (
            f"server.admin_bind is {settings.server.admin_bind}, and admin tokens are sent there over plain http: "
            "whoever is on the way can read them. Bind it to 127.0.0.1 or a Unix socket, or put TLS before it."
        )
    for provider in settings.providers.values():
        yield from _advise_provider(provider, settings)
    yield from advise_routing(settings)
    yield from advise_caching(settings)
    yield from _advise_keyring(settings)
    yield from advise_spending(settings)


def lends_to_strangers(auth: AuthSettings, bind: Address) -> bool:
    """True where anyone who can reach the data port could spend the gateway's own keys."""
    return auth.mode is AuthMode.PASSTHROUGH and auth.allow_keyless and not bind.is_local


def _check_addresses(draft: Settings, source: Source) -> None:
    server = draft.server
    if source.is_sound("server.bind", "server.admin_bind") and _collide(server.bind, server.admin_bind):
        source.report(
            "server.admin_bind",
            f"another address than server.bind ({server.bind})",
            str(server.admin_bind),
            "Health, metrics and administration never share the data port.",
        )


def _collide(one: Address, other: Address) -> bool:
    if one.unix_path is not None or other.unix_path is not None:
        return one.unix_path == other.unix_path
    if one.port != other.port or one.port == 0:
        return False
    hosts = {"127.0.0.1" if address.host == "localhost" else address.host for address in (one, other)}
    return len(hosts) == 1 or not hosts.isdisjoint(_WILDCARD_HOSTS)


def _check_workers(draft: Settings, source: Source) -> None:
    """The embedded store has one writer, and makes the calls of several processes wait for one another."""
    if not source.is_sound("server.workers", "state.url"):
        return
    if draft.server.workers > 1 and draft.state.url.startswith(SQLITE_PREFIX):
        source.report(
            "server.workers",
            f"1, as the state is in {draft.state.shown_url}",
            str(draft.server.workers),
            'Several workers share their state in Redis: set state.url to "redis://…", or keep one worker.',
        )


def _check_trust(draft: Settings, source: Source) -> None:
    """Whoever can connect is believed in these modes, so it must be clear who can connect."""
    auth, bind = draft.auth, draft.server.bind
    if bind.is_local or not source.is_sound("server.bind", "auth.mode"):
        return
    if lends_to_strangers(auth, bind):
        source.report(
            "auth.allow_keyless",
            "false, as server.bind is not local",
            "true",
            f"Anyone who can reach {bind} could spend the gateway's own keys. Bind to 127.0.0.1 or a Unix socket.",
        )
    if auth.mode is AuthMode.TRUSTED_HEADERS and not auth.trusted_peers and source.is_sound("auth.trusted_peers"):
        source.report(
            "auth.trusted_peers",
            "the networks that may name a tenant, as server.bind is not local",
            "none",
            f"List them, or bind to 127.0.0.1 or a Unix socket instead of {bind}.",
        )


def _check_keks(draft: Settings, source: Source) -> None:
    """A KEK that stands twice would be retired by whoever takes out one of the two lines."""
    seen: dict[tuple[KekKind, str], str] = {}
    for index, kek in enumerate(draft.keyring.kek):
        where = element("keyring.kek", index)
        first = seen.setdefault((kek.kind, kek.place), where)
        if first != where:
            source.report(where, f"another KEK than {first}", "the same", "Remove one of the two.")


def _check_proxy(provider: ProviderSettings, source: Source) -> None:
    """A proxy that nobody went through would be worse than none: it is often the only way that is allowed."""
    where = member("providers", provider.name)
    if provider.proxy_url is not None and provider.transport is not TransportKind.HTTPX:
        source.report(
            f"{where}.proxy_url",
            f"nothing, as {where}.transport is {provider.transport}",
            "the URL of a proxy",
            f'Only transport = "{TransportKind.HTTPX}" goes through one.',
        )


def _advise_auth(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    if auth.mode is not AuthMode.PASSTHROUGH and auth.allow_keyless:
        yield f'auth.allow_keyless does nothing in mode "{auth.mode}". Remove it.'
    if auth.mode is not AuthMode.TRUSTED_HEADERS and auth.trusted_peers:
        yield f'auth.trusted_peers does nothing in mode "{auth.mode}". Remove it.'
    if auth.mode is AuthMode.TRUSTED_HEADERS:
        for network in auth.trusted_peers:
            if network.prefixlen == 0:
                yield f"auth.trusted_peers holds {network}: everyone who can connect may name any tenant. Narrow it."
    if auth.mode is AuthMode.PASSTHROUGH and auth.default_provider is None:
        yield 'auth.default_provider is not set: in mode "passthrough" a caller\'s own key goes nowhere else. Set it.'


def _advise_keyring(settings: Settings) -> Iterator[str]:
    kinds = {kek.kind for kek in settings.keyring.kek}
    if settings.keyring.kms_endpoint_url is not None and KekKind.AWS_KMS not in kinds:
        yield "keyring.kms_endpoint_url does nothing without a KEK in AWS KMS. Remove it."
    if KekKind.FILE in kinds and settings.state.url.startswith(("redis:", "rediss:")):
        yield (
            "keyring.kek is a file of this machine while the state is in Redis: another machine's gateway cannot open "
            "the provider keys that this one stores. Use aws-kms, or give every machine the same file."
        )


def _advise_provider(provider: ProviderSettings, settings: Settings) -> Iterator[str]:
    where = member("providers", provider.name)
    simulated = provider.transport is TransportKind.SIMULATED
    if settings.auth.mode is not AuthMode.PASSTHROUGH and _lacks_its_key(provider):
        if settings.keyring.kek:
            yield f"{where}.provider_key is absent: it serves only tenants with a stored key of their own. Else set it."
        else:
            yield f'{where}.provider_key is absent: in mode "{settings.auth.mode}" nobody can be served by it. Set it.'
    if not simulated and not is_https_or_loopback(provider.base_url):
        host = urlsplit(provider.base_url).hostname
        yield f"{where}.base_url is plain http to {host}: whoever is on the way can read the provider key. Use https."
    if provider.allow_shared_state and _may_have_several_tenants(settings):
        yield (
            f"{where}.allow_shared_state lets every tenant reach the files, batches and responses of the others "
            "at this provider. Unset it, or serve one tenant."
        )
    times = provider.timeouts_s
    longest_s = max(times.connect, times.pool, times.first_byte, times.idle)
    if longest_s > times.total:
        yield f"{where}.timeouts_s.total ({times.total:g}) ends a call before another of its timeouts ({longest_s:g})."


def _lacks_its_key(provider: ProviderSettings) -> bool:
    return provider.provider_key_wanted and provider.provider_key is None


def _may_have_several_tenants(settings: Settings) -> bool:
    if settings.auth.mode is AuthMode.PASSTHROUGH:
        return False
    return not settings.auth.known_tenants_only or len(settings.tenants) > 1
