"""Who is calling: the one object that the pipeline asks.

A virtual key that was looked up within the last 5 s costs one HMAC and no round trip. While
the store is away, a key that it confirmed within the last 60 s goes on; all others get 503:
an outage says nothing about a key, so it is never a 401.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

from proxy.core.clock import Clock
from proxy.core.errors import InvalidApiKey, TenantNotAllowed
from proxy.core.types import Caller, InboundRequest
from proxy.identity.caller import (
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
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenants import Tenants
from proxy.identity.virtual_key import TOKEN_CHARACTERS, VirtualKey, VirtualKeyState, digest, is_well_formed
from proxy.settings.model import AuthMode, AuthSettings

_TOKEN_SHOWN_CHARACTERS_MIN = 12  # of a shorter text, not even the last four are shown


class KnownKey(NamedTuple):
    """A virtual key, and the caller that it makes by itself."""

    virtual_key: VirtualKey
    caller: Caller


VirtualKeyCache: TypeAlias = LookupCache[KnownKey | None]
"""What this process knows of virtual keys, by digest under the newest pepper."""

_AWAY = "The store that knows virtual keys did not answer in time. The key may be fine: try again shortly."


def make_virtual_key_cache(on_asked: OnAsked = ignore) -> VirtualKeyCache:
    """An empty one. A key that the store no longer knew is not believed to be unknown while it is away: 503."""
    return LookupCache(away=_AWAY, unknown_go_stale=False, on_asked=on_asked)


class Authenticator:
    """Turns a request's headers into a `Caller`, by one snapshot of the configuration."""

    __slots__ = ("_auth", "_cache", "_clock", "_peppers", "_store", "_tenants")

    def __init__(
        self,
        *,
        auth: AuthSettings,
        tenants: Tenants,
        store: VirtualKeyStore | None,
        cache: VirtualKeyCache,
        peppers: tuple[bytes, ...],
        clock: Clock,
    ) -> None:
        """`store` and `peppers` (newest first) are needed in the mode virtual-keys alone."""
        assert auth.mode is not AuthMode.VIRTUAL_KEYS or (store is not None and peppers)
        self._auth = auth
        self._tenants = tenants
        self._store = store
        self._cache = cache
        self._peppers = peppers
        self._clock = clock

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
        mode = self._auth.mode
        if mode is AuthMode.TRUSTED_HEADERS and not is_trusted_peer(request.peer, self._auth.trusted_peers):
            raise TenantNotAllowed(
                "This gateway believes `x-tollway-tenant` from listed networks only, and this peer is in none of them. "
                "Its operator adds one to `auth.trusted_peers`."
            )
        if self._auth.allow_keyless and mode is AuthMode.PASSTHROUGH:
            _refuse_foreign_page(request)
        claims = read_claims(request.headers)
        if mode is AuthMode.VIRTUAL_KEYS:
            virtual_key, base = await self._virtual_key(presented_token(claims))
            caller = caller_of_virtual_key(virtual_key, claims, base)
        elif mode is AuthMode.PASSTHROUGH:
            caller = caller_of_passthrough(claims, self._auth.default_tenant)
        else:
            caller = caller_of_trusted_headers(claims)
        if self._auth.known_tenants_only and self._tenants.fresh(caller.tenant_id) is None:
            await self._tenants.find(caller.tenant_id)  # raises for one that nobody knows
        return caller

    async def _virtual_key(self, token: str | None) -> tuple[VirtualKey, Caller]:
        if token is None:
            raise InvalidApiKey(
                "No API key. Send a virtual key as `Authorization: Bearer twk_…` (or in `x-api-key` or `api-key`)."
            )
        if not is_well_formed(token):
            raise _refused(token, f"is not a virtual key: one is `twk_` and {TOKEN_CHARACTERS - 4} letters and digits")
        newest = digest(token, self._peppers[0])
        entry = self._cache.fresh(newest, self._clock.monotonic_us())
        if entry is None:
            assert self._store is not None
            older = (digest(token, pepper) for pepper in self._peppers[1:])
            ask = partial(_ask, self._store, (newest, *older))
            entry = await self._cache.lookup(newest, ask, self._clock)
        if entry.value is None:
            raise _refused(token, "is not known to this gateway")
        virtual_key, caller = entry.value
        state = virtual_key.state(self._clock.now_ms())
        if state is not VirtualKeyState.ACTIVE:
            raise _refused(token, f"is {state}")
        return virtual_key, caller


async def _ask(store: VirtualKeyStore, digests: tuple[str, ...]) -> Answer[KnownKey | None]:
    virtual_key = await store.find(digests)
    if virtual_key is None:
        return Answer(None, is_known=False)
    return Answer(KnownKey(virtual_key, base_caller(virtual_key)), is_known=True)


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
