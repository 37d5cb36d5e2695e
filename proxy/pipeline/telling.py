"""What tells a call from another beside its body: where it goes, what reaches the provider, among whom its answer is
shared."""

from hashlib import blake2b

from proxy.cache.fingerprint import canonical, telling
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.snapshot import Snapshot
from proxy.routing.resolve import Route
from proxy.settings.caching import CachePolicy, CacheShare
from proxy.upstream.headers import forwarded, readable_codings

_FORMAT = b"1"
_NOBODY = b""


def parts_of(exchange: Exchange, policy: CachePolicy) -> tuple[bytes, ...]:
    """All of it, in a fixed order."""
    request, tenant, route = exchange.request, exchange.tenant, exchange.route
    assert tenant is not None
    assert route is not None
    return (
        _FORMAT,
        request.method.encode(),
        request.endpoint_path.encode(),
        request.query.encode(),
        (exchange.call.model_alias or "").encode(errors="replace"),
        b"stream" if exchange.call.stream else b"plain",
        request.once("telling", lambda: telling(forwarded(request))),
        readable_codings(request.fields.get(b"accept-encoding")),
        route_version(exchange.snapshot, route),
        # What the tenant chose that changes an answer's bytes, and who may make them.
        tenant.stream_usage.value.encode(),
        tenant.on_unsupported.value.encode(),
        _NOBODY if tenant.residency is None else ",".join(sorted(tenant.residency)).encode(),
        _whose(exchange, policy.share),
    )


def route_version(snapshot: Snapshot, route: Route) -> bytes:
    """Another one as soon as somebody else may answer, or somewhere else."""
    places = []
    for candidate in route.candidates:
        provider = snapshot.providers[candidate.deployment.provider].settings
        said = (candidate.deployment.label, candidate.tier, provider.base_url, provider.dialect, provider.api_version)
        places.append(repr(said).encode())
    return blake2b(canonical((repr(route.alias).encode(), *sorted(places))), digest_size=16).digest()


def _whose(exchange: Exchange, share: CacheShare) -> bytes:
    caller = exchange.caller
    assert caller is not None
    if share is CacheShare.TENANT:
        return _NOBODY
    whose = caller.user if share is CacheShare.USER else caller.virtual_key_id
    return canonical((share.value.encode(),)) if whose is None else canonical((share.value.encode(), whose.encode()))
