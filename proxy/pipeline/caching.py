"""Have we said this before? The cache, as the line meets it.

Who calls is known and may call before anything is looked up. What is found is given out by one step of the state
store, which takes the caller's request buckets, looks whether its virtual key is revoked, its tenant shredded or the
answer purged, and writes the row. What is not found is answered as ever, and kept when it ended well.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from proxy.admission.answers import LimitRefused, Revoked
from proxy.admission.hits import CLOCKS_APART_MS, HitAdmitted, HitDemand, Purged, Shredded
from proxy.admission.keeper import Keeper
from proxy.cache import fingerprint
from proxy.cache.book import CacheBook
from proxy.cache.entry import KEPT_HEADERS, CacheEntry
from proxy.cache.flights import Flights
from proxy.cache.policy import Bypass, Directives, bypass_of, directives_of, policy_of
from proxy.cache.shelf import Shelf
from proxy.cache.tenant_secrets import TenantSecrets
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, NotCached, StateUnavailable
from proxy.core.types import Answer, Headers
from proxy.dialects.usage_remover import is_event_stream
from proxy.keyring.store import shredded
from proxy.pipeline.cache_use import AnswerCopy, CacheResult, CacheUse, CopyRoom
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.fingerprinting import context_of, is_somebody
from proxy.pipeline.keeping import entry_of, is_long, is_sound, why_not_kept
from proxy.pipeline.payment import Payment
from proxy.pipeline.refusals import refusal, scope_kind
from proxy.pipeline.rows import hit_row
from proxy.settings.caching import CACHED_ENDPOINTS, CacheMode
from proxy.settings.model import AuthMode
from proxy.telemetry.metrics import Metrics
from proxy.upstream.headers import whole_field

_log = logging.getLogger("tollway.cache")

CACHE_HEADER: Final = b"x-tollway-cache"

COPIES_BYTES_MAX: Final = 67_108_864  # of all answers that are heard, to be kept, at one time

_LOOKS_MAX: Final = 2  # what this process remembers was purged, and the store has what came after it
_LOOK_AGAIN_S: Final = 0.02
_LOOK_AGAIN_S_MAX: Final = 0.25


class Caching:
    """Finds answers, and keeps them."""

    __slots__ = (
        "_check_room",
        "_clock",
        "_copies",
        "_flights",
        "_keeper",
        "_metrics",
        "_payment",
        "_secrets",
        "_shelf",
    )

    def __init__(
        self,
        shelf: Shelf,
        book: CacheBook,
        keeper: Keeper,
        payment: Payment,
        check_room: Callable[[], None],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`check_room` raises where the ledger could not take another row."""
        self._shelf = shelf
        self._keeper = keeper
        self._payment = payment
        self._check_room = check_room
        self._metrics = metrics
        self._clock = clock
        self._copies = CopyRoom(COPIES_BYTES_MAX)
        self._flights = Flights()
        self._secrets = TenantSecrets(book, clock)

    async def find(self, exchange: Exchange) -> CacheEntry | None:
        """The answer to give again, admitted and with its row written; None: the call is to be made.

        Raises:
            InvalidHeader: `x-tollway-cache` is none of its words.
            NotCached: the caller wants a kept answer or none, and there is none to give.
            RateLimited, InvalidApiKey, TenantShredded: there is one, and it is not for this caller now.
        """
        request = exchange.request
        asked = request.once(
            CACHE_HEADER,
            lambda: directives_of(whole_field(request, b"cache-control"), whole_field(request, CACHE_HEADER)),
        )
        use = exchange.cache = _use_of(exchange, asked)
        entry = None
        if use is not None and use.reason is None:
            assert exchange.caller is not None
            tenant_id = exchange.caller.tenant_id
            secret = self._secrets.at_hand(tenant_id) or await self._secret(tenant_id)
            if secret is not None:
                _name(exchange, use, secret)
                entry = self._at_hand(exchange, use)
                if entry is None or not await self._admit(exchange, use, entry):
                    entry = await self._find(exchange, use)
                if entry is None and asked.keeps:
                    use.copy = AnswerCopy(self._copies, exchange.snapshot.settings.cache.entry_bytes_max)
        if entry is None and asked.only:
            raise _not_cached(use)
        return entry

    def copy(
        self, exchange: Exchange, headers: Headers | list[tuple[bytes, bytes]], *, is_delimited: bool
    ) -> AnswerCopy | None:
        """What hears the answer that is about to leave, with these headers; None: nobody does."""
        use = exchange.cache
        if use is None or use.copy is None:
            return None
        use.copy.headers = tuple(pair for pair in headers if pair[0] in KEPT_HEADERS)
        use.copy.is_delimited = is_delimited
        return use.copy

    def hear(self, exchange: Exchange, whole: Answer) -> None:
        """An answer that leaves in one piece."""
        copy = self.copy(exchange, [(b"content-type", whole.content_type)], is_delimited=True)
        if copy is not None:
            copy.take(whole.body)

    def close(self, exchange: Exchange) -> None:
        """Keep the answer of an exchange that is over, if it may be kept, and let those go on who wait for it. Raises
        nothing: a provider's bytes are read here, and a fault must hold nobody up."""
        use = exchange.cache
        if use is None:
            return
        self._metrics.cache.asked(str(use.result), "" if use.reason is None else str(use.reason))
        if use.saved_nusd:
            self._metrics.spent("saved", use.saved_nusd)
        entry = None
        try:
            if use.copy is not None:
                entry = self._entry(exchange, use, use.copy)
                if entry is not None and is_long(use.copy):
                    self._shelf.soon(self._look_and_end(exchange, use, use.copy, entry))
                    return
        except Exception:  # noqa: BLE001  see above
            _log.exception("the answer of run %s could not be kept", exchange.run_id)
        self._end(exchange, use, entry)

    async def _look_and_end(self, exchange: Exchange, use: CacheUse, copy: AnswerCopy, entry: CacheEntry) -> None:
        """Likewise for an answer that is yet to be looked at. Others wait for it meanwhile."""
        may_be_kept = False
        try:
            may_be_kept = await asyncio.to_thread(is_sound, exchange.operation.name, copy, entry.body)
            if not may_be_kept:
                self._metrics.cache.not_kept("not_whole")
        except Exception:  # noqa: BLE001  likewise
            _log.exception("the answer of run %s could not be looked at", exchange.run_id)
        finally:
            self._end(exchange, use, entry if may_be_kept else None)

    def _entry(self, exchange: Exchange, use: CacheUse, copy: AnswerCopy) -> CacheEntry | None:
        """What is to be kept; None: nothing."""
        why_not = why_not_kept(exchange, copy, self._payment)
        if why_not is not None:
            if exchange.dispatched:
                self._metrics.cache.not_kept(why_not)
            return None
        return entry_of(exchange, copy, use.check or fingerprint.check_of(use.material, use.secret))

    def _end(self, exchange: Exchange, use: CacheUse, entry: CacheEntry | None) -> None:
        """Keep an answer, if there is one, and let go of all else."""
        assert exchange.caller is not None
        tenant_id = exchange.caller.tenant_id
        if use.copy is not None:
            use.copy.let_go()
        if entry is not None:
            self._shelf.keep(tenant_id, use.name, use.claimed_as, entry, use.policy.ttl_s * 1_000)
        elif use.claimed_as is not None:
            self._shelf.let_go(tenant_id, use.name, use.claimed_as)
        if use.flight is not None:
            self._flights.end(tenant_id, use.name, use.flight, entry)

    async def _find(self, exchange: Exchange, use: CacheUse) -> CacheEntry | None:
        """An answer of the store, or of others who ask the same now, that may be given out."""
        for _ in range(_LOOKS_MAX):
            if use.is_state_away:
                break
            entry = await self._look(exchange, use)
            if entry is None or await self._admit(exchange, use, entry):
                return entry
        return None

    async def _secret(self, tenant_id: str) -> bytes | None:
        """What the names of the tenant's entries are made of. None: it cannot be had just now."""
        try:
            return await self._secrets.read(tenant_id)
        except StateUnavailable:
            self._metrics.cache.failed("secret")
            return None

    def _at_hand(self, exchange: Exchange, use: CacheUse) -> CacheEntry | None:
        """An answer that will do, if this process remembers one."""
        assert exchange.caller is not None
        if not use.asked.looks:
            return None
        at_hand = self._shelf.at_hand(exchange.caller.tenant_id, use.name)
        if at_hand is None:
            return None
        entry = self._that_will_do(use, at_hand)
        if entry is None and _is_of_the_future(self._clock.now_ms() - at_hand.head.asked_at_ms):
            self._shelf.forget(exchange.caller.tenant_id, use.name)
        return entry

    async def _look(self, exchange: Exchange, use: CacheUse) -> CacheEntry | None:
        """An answer of others that will do; None: there is none, and this call is to be made. Waits for a bounded
        time."""
        assert exchange.caller is not None
        tenant_id = exchange.caller.tenant_id
        if not use.asked.looks:
            return None
        until_us = use.waits_until_us
        if until_us is None:
            wait_us = int(exchange.snapshot.settings.cache.wait_s * 1e6)
            until_us = use.waits_until_us = self._clock.monotonic_us() + wait_us
        if use.asked.keeps and exchange.snapshot.settings.cache.wait_s:
            use.flight = self._flights.begin(tenant_id, use.name)
            if use.flight is None:
                wait_s = max(0, until_us - self._clock.monotonic_us()) / 1e6
                return self._that_will_do(use, await self._flights.wait(tenant_id, use.name, wait_s))
        entry = await self._look_in_store(exchange, use, until_us)
        if entry is not None:
            self._shelf.remember(tenant_id, use.name, entry)
            if use.flight is not None:
                self._flights.end(tenant_id, use.name, use.flight, entry)
        return entry

    async def _look_in_store(self, exchange: Exchange, use: CacheUse, until_us: int) -> CacheEntry | None:
        """Likewise in the store; where another process has asked for it, wait."""
        assert exchange.caller is not None
        tenant_id, claim_ms = exchange.caller.tenant_id, max(1, int(exchange.snapshot.settings.cache.wait_s * 1_000))
        run_id = exchange.run_id if use.flight is not None else None
        pause_s = _LOOK_AGAIN_S
        while True:
            use.claimed_as = run_id  # also where this call ends before the store's answer comes
            found = await self._shelf.find(tenant_id, use.name, run_id, claim_ms)
            if not found.is_claimed:
                use.claimed_as = None
            if not found.is_others or self._clock.monotonic_us() >= until_us:
                return self._that_will_do(use, found.entry)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_AGAIN_S_MAX)

    def _that_will_do(self, use: CacheUse, entry: CacheEntry | None) -> CacheEntry | None:
        """The entry, if it is of this very call, and young enough for its policy and its caller."""
        if entry is None:
            return None
        age_ms, max_age_s = self._clock.now_ms() - entry.head.asked_at_ms, use.asked.max_age_s
        if _is_of_the_future(age_ms):
            return None
        age_s = max(0, age_ms) / 1_000
        if age_s >= use.policy.ttl_s or (max_age_s is not None and age_s > max_age_s):
            return None
        use.check = use.check or fingerprint.check_of(use.material, use.secret)
        return entry if entry.check == use.check else None

    async def _admit(self, exchange: Exchange, use: CacheUse, entry: CacheEntry) -> bool:
        """One step of the state store. False: it was purged, and is forgotten; or the store is away."""
        caller, route = exchange.caller, exchange.route
        assert caller is not None
        assert route is not None
        self._check_room()
        allowed = exchange.snapshot.allowances.find(exchange.plan, caller, route.alias, counts_dollars=False)
        began_us = self._clock.monotonic_us()
        use.own_us = began_us - exchange.accepted_at_us
        demand = HitDemand(
            caller.tenant_id,
            exchange.run_id,
            entry.head.alias,
            entry.head.asked_at_ms,
            caller.virtual_key_id,
            allowed.hit_scopes,
            hit_row(exchange, entry, use.own_us),
        )
        try:
            answer = await self._keeper.admit_hit(demand)
        except StateUnavailable:
            use.is_state_away = True
            # The hit may have its row all the same. A row is known by its run: this call's own must have another name.
            exchange.run_id += "_2"
            return False
        finally:
            self._metrics.state_called("admit_hit", (self._clock.monotonic_us() - began_us) / 1e6)
        if isinstance(answer, HitAdmitted):
            use.result, use.given, use.hit = CacheResult.HIT, entry, (demand, answer)
            use.saved_nusd = entry.head.cost_nusd
            return True
        if isinstance(answer, Purged):
            self._shelf.forget(caller.tenant_id, use.name)
            return False
        raise self._refused(caller.tenant_id, answer)

    def _refused(self, tenant_id: str, answer: LimitRefused | Revoked | Shredded) -> GatewayError:
        if isinstance(answer, Shredded):
            self._shelf.drop(tenant_id)
            return shredded(tenant_id)
        if isinstance(answer, LimitRefused):
            self._metrics.limit_refused(scope_kind(answer.scope))
        return refusal(answer)


def _is_of_the_future(age_ms: int) -> bool:
    """It would stay young for as long as it liked."""
    return age_ms < -CLOCKS_APART_MS


def _name(exchange: Exchange, use: CacheUse, secret: bytes) -> None:
    """Work out the name of the entry."""
    call = exchange.call
    assert call.text is not None
    use.secret = secret
    text = fingerprint.without_stream(call.text, call.document)
    use.material = fingerprint.material(context_of(exchange, use.policy), text)
    use.name = fingerprint.name_of(use.material, secret)


def pace_of(exchange: Exchange, entry: CacheEntry) -> int | None:
    """How many of its events leave in a second; None: all that is kept leaves at once."""
    assert exchange.cache is not None
    events_per_s = exchange.cache.policy.events_per_s
    if events_per_s is None:
        return None
    fields = dict(entry.headers)
    is_stream = is_event_stream(fields.get(b"content-type"), fields.get(b"content-encoding"))
    return events_per_s if is_stream else None


def _not_cached(use: CacheUse | None) -> NotCached:
    """What a caller is told that wants a kept answer or none."""
    if use is None:
        why = "Caching is off for this call"
    elif use.reason is not None:
        why = f"This call goes past what is kept (`{use.reason}`)"
    elif use.is_state_away or not use.name:
        why = "The state store does not answer, and nothing is given from the cache without it"
    else:
        why = "No answer is kept that would do"
    return NotCached(f"{why}. A kept one was asked for, or none: ask without that, and the call is made.")


def _use_of(exchange: Exchange, asked: Directives) -> CacheUse | None:
    """What holds for a call; None: caching is off for it."""
    tenant, route, call, settings = exchange.tenant, exchange.route, exchange.call, exchange.snapshot.settings
    assert tenant is not None
    assert route is not None
    assert exchange.caller is not None
    if call.document is None or call.text is None or settings.auth.mode is AuthMode.PASSTHROUGH:
        return None
    operation = exchange.operation.name
    model = settings.models.get(route.alias) if route.alias is not None else None
    policy = policy_of(
        settings.cache, tenant.cache, None if model is None else model.cache, exchange.caller.feature, operation
    )
    if policy.mode is CacheMode.OFF or operation not in CACHED_ENDPOINTS or tenant.zero_retention:
        return None
    use = CacheUse(policy, asked)
    if not (asked.looks or asked.keeps):
        use.reason = Bypass.ASKED
    elif not is_somebody(exchange.caller, policy.share):
        use.reason = Bypass.UNNAMED
    else:
        use.reason = bypass_of(policy.mode, operation, call.text, call.document)
    if use.reason is not None:
        use.result = CacheResult.BYPASS
    return use
