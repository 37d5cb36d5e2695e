"""What tells a call from another beside its body: where it goes, what reaches the provider, among whom its answer is
shared."""

from hashlib import blake2b

from proxy.cache.fingerprint import canonical, shaping_headers
from proxy.core.types import Caller
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.snapshot import Snapshot
from proxy.routing.resolve import Route
from proxy.settings.caching import CachePolicy, CacheShare
from proxy.settings.model import OnUnsupported, StreamUsage
from proxy.upstream.headers import forwarded, readable_codings, whole_field

_FORMAT = b"1"
_EVERYBODY = b""


def context_of(exchange: Exchange, policy: CachePolicy) -> bytes:
    """All of it, in a fixed order. Worked out once for a head that comes again, from whom it comes again."""
    call, tenant, route, snapshot = exchange.call, exchange.tenant, exchange.route, exchange.snapshot
    assert tenant is not None
    assert route is not None
    whose = _whose(exchange, policy.share)
    # What the tenant chose that changes an answer's bytes, and who may make them.
    chosen = (tenant.stream_usage, tenant.on_unsupported, tenant.residency)
    if not route.is_written:
        return _context(exchange, route, chosen, whose)
    what = (snapshot.routes, route.alias, call.model_alias, call.stream, chosen, whose)
    return exchange.request.once(what, lambda: _context(exchange, route, chosen, whose))


def _context(
    exchange: Exchange, route: Route, chosen: tuple[StreamUsage, OnUnsupported, frozenset[str] | None], whose: bytes
) -> bytes:
    request, (stream_usage, on_unsupported, residency) = exchange.request, chosen
    return canonical(
        (
            _FORMAT,
            request.method.encode(),
            request.endpoint_path.encode(),
            request.query.encode(),
            (exchange.call.model_alias or "").encode(errors="replace"),
            b"stream" if exchange.call.stream else b"plain",
            shaping_headers(forwarded(request)),
            readable_codings(whole_field(request, b"accept-encoding")),
            route_version(exchange.snapshot, route),
            stream_usage.value.encode(),
            on_unsupported.value.encode(),
            b"anywhere" if residency is None else canonical(sorted(region.encode() for region in residency)),
            whose,
        )
    )


def route_version(snapshot: Snapshot, route: Route) -> bytes:
    """Another one as soon as somebody else may answer, or somewhere else."""
    places = []
    for candidate in route.candidates:
        provider = snapshot.providers[candidate.deployment.provider].settings
        said = (candidate.deployment.label, candidate.tier, provider.base_url, provider.dialect, provider.api_version)
        places.append(repr(said).encode())
    return blake2b(canonical((repr(route.alias).encode(), *sorted(places))), digest_size=16).digest()


def is_somebody(caller: Caller, share: CacheShare) -> bool:
    """False where answers are shared among those of one user, or virtual key, and this caller has none: any two of
    those may be two people."""
    return share is CacheShare.TENANT or _sharer(caller, share) is not None


def _whose(exchange: Exchange, share: CacheShare) -> bytes:
    assert exchange.caller is not None
    if share is CacheShare.TENANT:
        return _EVERYBODY
    sharer = _sharer(exchange.caller, share)
    return canonical((share.value.encode(),)) if sharer is None else canonical((share.value.encode(), sharer.encode()))


def _sharer(caller: Caller, share: CacheShare) -> str | None:
    return caller.user if share is CacheShare.USER else caller.virtual_key_id
