"""Who is calling: the one object that the pipeline asks.

A virtual key that was looked up within the last 5 s costs one HMAC and no round trip. While
the store is away, a key that it confirmed within the last 60 s goes on; all others get 503:
an outage says nothing about a key, so it is never a 401.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from proxy.core.clock import Clock
from proxy.core.errors import InvalidApiKey, TenantNotAllowed
from proxy.core.secret import Secret
from proxy.core.types import Caller, InboundRequest
from proxy.identity.caller import (
    Claims,
    base_caller,
    caller_of_passthrough,
    caller_of_trusted_headers,
    caller_of_virtual_key,
    is_foreign_page,
    is_trusted_peer,
    presented_token,
    read_claims,
)
from proxy.identity.lookup_cache import Answer, LookupCache, OnAsked, ignore
from proxy.identity.redigest import ignore as leave_it
from proxy.identity.store import Found, VirtualKeyStore
from proxy.identity.tenants import Tenants
from proxy.identity.virtual_key import (
    TOKEN_CHARACTERS,
    PepperedDigest,
    VirtualKey,
    VirtualKeyState,
    digest,
    is_well_formed,
    pepper_fingerprint,
)
from proxy.settings.model import AuthMode, AuthSettings

_TOKEN_SHOWN_CHARACTERS_MIN = 12  # of a shorter text, not even the last four are shown


class KnownKey(NamedTuple):
    """A virtual key, and the caller that it makes by itself."""

    virtual_key: VirtualKey
    caller: Caller


VirtualKeyCache: TypeAlias = LookupCache[KnownKey | None]
"""What this process knows of virtual keys, by digest under the newest pepper."""

OnOlder: TypeAlias = Callable[[str, PepperedDigest, PepperedDigest], object]
"""Hears of a key, by its id, that was found by its first digest and should be by the second."""

_AWAY = "The store that knows virtual keys did not answer in time. The key may be fine: try again shortly."


def make_virtual_key_cache(on_asked: OnAsked = ignore) -> VirtualKeyCache:
    """An empty one. A key that the store no longer knew is not believed to be unknown while it is away: 503."""
    return LookupCache(away=_AWAY, unknown_go_stale=False, on_asked=on_asked)


class _Presented(NamedTuple):
    """A well-formed virtual key as a head presents it."""

    claims: Claims
    token: Secret
    token_digest: str  # under the newest pepper


class Authenticator:
    """Turns a request's headers into a `Caller`, by one snapshot of the configuration."""

    __slots__ = ("_auth", "_cache", "_clock", "_fingerprints", "_on_older", "_peppers", "_store", "_tenants")

    def __init__(
        self,
        *,
        auth: AuthSettings,
        tenants: Tenants,
        store: VirtualKeyStore | None,
        cache: VirtualKeyCache,
        peppers: tuple[bytes, ...],
        clock: Clock,
        on_older: OnOlder = leave_it,
    ) -> None:
        """`store` and `peppers` (newest first) are needed in the mode virtual-keys alone."""
        assert auth.mode is not AuthMode.VIRTUAL_KEYS or (store is not None and peppers)
        self._auth = auth
        self._tenants = tenants
        self._store = store
        self._cache = cache
        self._peppers = peppers
        self._fingerprints = tuple(map(pepper_fingerprint, peppers))
        self._clock = clock
        self._on_older = on_older

    async def authenticate(self, request: InboundRequest) -> Caller:
        """Say who calls.

        Raises:
            InvalidApiKey: no key, or one that is malformed, unknown, revoked or expired.
            InvalidHeader: one of the gateway's own headers has an impossible value.
            TenantNotAllowed: another tenant than the key's, an unknown one, an untrusted peer, or a
                web page of another machine where no key is asked for.
            IdentityConflict: a header contradicts the user or feature of the key.
            StateUnavailable: the store is away, and the key is not known here.
        """
        if self._auth.mode is AuthMode.VIRTUAL_KEYS:
            caller = await self._caller_of_virtual_key(request)
        else:
            # Who calls stands in the head alone: once is enough for as often as it comes.
            caller = request.once(self, lambda: self._caller_without_store(request))
        if self._auth.known_tenants_only and self._tenants.fresh(caller.tenant_id) is None:
            await self._tenants.find(caller.tenant_id)  # raises for one that nobody knows
        return caller

    def _caller_without_store(self, request: InboundRequest) -> Caller:
        if self._auth.mode is AuthMode.PASSTHROUGH:
            if self._auth.allow_keyless:
                _refuse_foreign_page(request)
            return caller_of_passthrough(read_claims(request.headers), self._auth.default_tenant)
        if not is_trusted_peer(request.peer, self._auth.trusted_peers):
            raise TenantNotAllowed(
                "This gateway believes `x-tollway-tenant` from listed networks only, and this peer is in none of them. "
                "Its operator adds one to `auth.trusted_peers`."
            )
        return caller_of_trusted_headers(read_claims(request.headers))

    async def _caller_of_virtual_key(self, request: InboundRequest) -> Caller:
        presented = request.once(self, lambda: self._presented(request))
        entry = self._cache.fresh(presented.token_digest, self._clock.monotonic_us())
        if entry is None:
            entry = await self._cache.lookup(presented.token_digest, lambda: self._ask(presented), self._clock)
        if entry.value is None:
            raise _refused(presented.token.reveal(), "is not known to this gateway")
        virtual_key, caller = entry.value
        state = virtual_key.state(self._clock.now_ms())
        if state is not VirtualKeyState.ACTIVE:
            raise _refused(presented.token.reveal(), f"is {state}")
        return caller_of_virtual_key(virtual_key, presented.claims, caller)

    async def _ask(self, presented: _Presented) -> Answer[KnownKey | None]:
        assert self._store is not None
        token = presented.token.reveal()
        digests = (presented.token_digest, *(digest(token, pepper) for pepper in self._peppers[1:]))
        found = await self._store.find(digests)
        if found is None:
            return Answer(None, is_known=False)
        self._move_on(found, digests)
        virtual_key = found.virtual_key
        return Answer(KnownKey(virtual_key, base_caller(virtual_key)), is_known=True)

    def _move_on(self, found: Found, digests: Sequence[str]) -> None:
        newest, known = self._fingerprints[0], self._fingerprints[found.place]
        if found.pepper != newest and found.virtual_key.state(self._clock.now_ms()) is VirtualKeyState.ACTIVE:
            known_digest = PepperedDigest(digests[found.place], known)
            self._on_older(found.virtual_key.id, known_digest, PepperedDigest(digests[0], newest))

    def _presented(self, request: InboundRequest) -> _Presented:
        claims = read_claims(request.headers)
        token = presented_token(claims)
        if token is None:
            raise InvalidApiKey(
                "No API key. Send a virtual key as `Authorization: Bearer twk_…` (or in `x-api-key` or `api-key`)."
            )
        if not is_well_formed(token):
            raise _refused(token, f"is not a virtual key: one is `twk_` and {TOKEN_CHARACTERS - 4} letters and digits")
        return _Presented(claims, Secret(token), digest(token, self._peppers[0]))


def _refuse_foreign_page(request: InboundRequest) -> None:
    """Where nobody needs a key, any page that a browser on this machine shows could spend the gateway's."""
    origin = request.fields.get(b"origin")
    if origin is not None and is_foreign_page(origin):
        raise TenantNotAllowed(
            "This gateway serves callers without a key, so it serves no web page of another machine. "
            "Its operator sets `auth.allow_keyless = false`, or issues virtual keys."
        )


def _refused(token: str, why: str) -> InvalidApiKey:
    shown = f" (…{token[-4:]})" if len(token) >= _TOKEN_SHOWN_CHARACTERS_MIN and token.isascii() else ""
    return InvalidApiKey(f"The API key{shown} {why}. Send a valid virtual key as `Authorization: Bearer twk_…`.")
