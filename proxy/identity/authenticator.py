"""Who is calling: the one object that the pipeline asks.

A virtual key that was looked up within the last 5 s costs one HMAC and no round trip. While
the store is away, a key that it confirmed within the last 60 s goes on; all others get 503:
an outage says nothing about a key, so it is never a 401.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxy.core.clock import Clock
from proxy.core.errors import InvalidApiKey, StateUnavailable, TenantNotAllowed
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
from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import TOKEN_CHARACTERS, VirtualKey, VirtualKeyState, digest, is_well_formed
from proxy.settings.model import AuthMode, AuthSettings

FRESH_US = 5_000_000
STALE_US = 60_000_000  # usable while the store is away
KNOWN_MAX = 65_536
UNKNOWN_MAX = 16_384
LOOKUPS_MAX = 1_024  # different virtual keys being looked up at one moment
LOOKUP_TIMEOUT_S = 0.25
STORE_AWAY_US = 1_000_000  # after a failed lookup, stale entries are used without asking again
RETRY_AFTER_MS = 1_000

_TOKEN_SHOWN_CHARACTERS_MIN = 12  # of a shorter text, not even the last four are shown


class _Entry:
    """What the store said about one digest, and when."""

    __slots__ = ("caller", "read_at_us", "virtual_key")

    def __init__(self, virtual_key: VirtualKey | None, read_at_us: int) -> None:
        self.virtual_key = virtual_key
        self.caller = None if virtual_key is None else base_caller(virtual_key)
        self.read_at_us = read_at_us


class _Presented(NamedTuple):
    """A well-formed virtual key as a head presents it."""

    claims: Claims
    token: Secret
    token_digest: str  # under the newest pepper


class VirtualKeyCache:
    """What this process knows of virtual keys, by digest under the newest pepper.

    It outlives a reload of the configuration, which makes a new `Authenticator`. Digests that
    nobody issued are held apart, so that guessing cannot push known keys out.
    """

    __slots__ = ("_known", "_lookups", "_on_asked", "_store_away_until_us", "_unknown")

    def __init__(self, on_asked: Callable[[float], object] = lambda _seconds: None) -> None:
        """`on_asked` hears of every look at the store, and how many seconds it took."""
        self._on_asked = on_asked
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        self._unknown: OrderedDict[str, _Entry] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[_Entry]] = {}
        self._store_away_until_us = 0

    def fresh(self, token_digest: str, now_us: int) -> _Entry | None:
        """The entry, if it needs no look at the store."""
        entry = self._known.get(token_digest) or self._unknown.get(token_digest)
        if entry is None or now_us - entry.read_at_us > FRESH_US:
            return None
        return entry

    async def lookup(self, digests: tuple[str, ...], store: VirtualKeyStore, clock: Clock) -> _Entry:
        """The entry, from the store; one round trip, shared by all who wait for the same digest.

        Raises:
            StateUnavailable: the store is away, and did not confirm this key in the last minute.
        """
        stale = self._known.get(digests[0])
        now_us = clock.monotonic_us()
        if stale is not None and now_us - stale.read_at_us > STALE_US:
            stale = None
        if stale is not None and now_us < self._store_away_until_us:
            return stale
        try:
            # The lookup is its own task: a caller that hangs up must not end it for the others.
            return await asyncio.shield(self._lookup_task(digests, store, clock))
        except StateUnavailable:
            self._store_away_until_us = clock.monotonic_us() + STORE_AWAY_US
            if stale is not None:
                return stale
            raise

    def _lookup_task(self, digests: tuple[str, ...], store: VirtualKeyStore, clock: Clock) -> asyncio.Task[_Entry]:
        task = self._lookups.get(digests[0])
        if task is None:
            if len(self._lookups) >= LOOKUPS_MAX:
                raise _store_away()
            task = asyncio.create_task(self._ask(digests, store, clock))
            self._lookups[digests[0]] = task
            task.add_done_callback(lambda done: self._end_lookup(digests[0], done))
        return task

    def _end_lookup(self, token_digest: str, done: asyncio.Task[_Entry]) -> None:
        del self._lookups[token_digest]
        if not done.cancelled():
            done.exception()  # seen: those who asked may all have hung up

    async def _ask(self, digests: tuple[str, ...], store: VirtualKeyStore, clock: Clock) -> _Entry:
        asked_at_us = clock.monotonic_us()  # before the store reads: the age is never understated
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                virtual_key = await store.find(digests)
        except TimeoutError:
            raise _store_away() from None
        finally:
            self._on_asked((clock.monotonic_us() - asked_at_us) / 1e6)
        entry = _Entry(virtual_key, asked_at_us)
        if virtual_key is None:
            self._known.pop(digests[0], None)
            _keep(self._unknown, digests[0], entry, UNKNOWN_MAX)
        else:
            self._unknown.pop(digests[0], None)
            _keep(self._known, digests[0], entry, KNOWN_MAX)
        return entry


class Authenticator:
    """Turns a request's headers into a `Caller`, by one snapshot of the configuration."""

    __slots__ = ("_auth", "_cache", "_clock", "_known_tenants", "_peppers", "_store")

    def __init__(
        self,
        *,
        auth: AuthSettings,
        known_tenants: Iterable[str],
        store: VirtualKeyStore | None,
        cache: VirtualKeyCache,
        peppers: tuple[bytes, ...],
        clock: Clock,
    ) -> None:
        """`store` and `peppers` (newest first) are needed in the mode virtual-keys alone."""
        assert auth.mode is not AuthMode.VIRTUAL_KEYS or (store is not None and peppers)
        self._auth = auth
        self._known_tenants = frozenset(known_tenants) | {auth.default_tenant} if auth.known_tenants_only else None
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
        if self._auth.mode is AuthMode.VIRTUAL_KEYS:
            return await self._caller_of_virtual_key(request)
        # Who calls stands in the head alone: once is enough for as often as it comes.
        return request.once(self, lambda: self._caller_without_store(request))

    def _caller_without_store(self, request: InboundRequest) -> Caller:
        if self._auth.mode is AuthMode.PASSTHROUGH:
            if self._auth.allow_keyless:
                _refuse_foreign_page(request)
            return self._known(caller_of_passthrough(read_claims(request.headers), self._auth.default_tenant))
        if not is_trusted_peer(request.peer, self._auth.trusted_peers):
            raise TenantNotAllowed(
                "This gateway believes `x-tollway-tenant` from listed networks only, and this peer is in none of them. "
                "Its operator adds one to `auth.trusted_peers`."
            )
        return self._known(caller_of_trusted_headers(read_claims(request.headers)))

    async def _caller_of_virtual_key(self, request: InboundRequest) -> Caller:
        presented = request.once(self, lambda: self._presented(request))
        entry = self._cache.fresh(presented.token_digest, self._clock.monotonic_us())
        if entry is None:
            assert self._store is not None
            older = (digest(presented.token.reveal(), pepper) for pepper in self._peppers[1:])
            entry = await self._cache.lookup((presented.token_digest, *older), self._store, self._clock)
        virtual_key, caller = entry.virtual_key, entry.caller
        if virtual_key is None or caller is None:
            raise _refused(presented.token.reveal(), "is not known to this gateway")
        state = virtual_key.state(self._clock.now_ms())
        if state is not VirtualKeyState.ACTIVE:
            raise _refused(presented.token.reveal(), f"is {state}")
        return self._known(caller_of_virtual_key(virtual_key, presented.claims, caller))

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

    def _known(self, caller: Caller) -> Caller:
        if self._known_tenants is not None and caller.tenant_id not in self._known_tenants:
            raise TenantNotAllowed(
                f"The tenant {caller.tenant_id} is not known to this gateway. Its operator adds it under `[tenants]`."
            )
        return caller


def _keep(entries: OrderedDict[str, _Entry], token_digest: str, entry: _Entry, entries_max: int) -> None:
    entries[token_digest] = entry
    entries.move_to_end(token_digest)
    if len(entries) > entries_max:
        entries.popitem(last=False)


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


def _store_away() -> StateUnavailable:
    message = "The store that knows virtual keys did not answer in time. The key may be fine: try again shortly."
    return StateUnavailable(message, retry_after_ms=RETRY_AFTER_MS)
