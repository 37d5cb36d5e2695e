"""The keyring: a tenant's own provider keys, put, opened for a call, rotated, deleted and shredded.

The warm path is `cached`: two looks into dictionaries, nothing awaited. What it does not know, `open` finds out:
one round trip to the store and, where the tenant's data key is not known, one call to the KEK, each shared by all
who ask for the same. Nobody waits longer than 300 ms; the KEK's call goes on, and the next one finds its answer.
Its `sealer` seals kept answers under the same data keys.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias, cast

from proxy.core.clock import Clock
from proxy.core.errors import ProviderKeyUnreadable, StateUnavailable
from proxy.core.secret import Secret
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead, envelope
from proxy.keyring.aws_kek import unavailable
from proxy.keyring.dek_cache import MAX_AGE_US
from proxy.keyring.deks import Deks
from proxy.keyring.envelope import Place
from proxy.keyring.following import Following
from proxy.keyring.kek import Kek, Keks
from proxy.keyring.opened_cache import MISS, Cached, OpenedCache
from proxy.keyring.probe import probe
from proxy.keyring.record import Found, OpenedProviderKey, ProviderKeyRecord, ProviderKeyState
from proxy.keyring.rotation import Progress, Rotated, Rotation
from proxy.keyring.sealer import Sealer
from proxy.keyring.shape import require_names, require_secret
from proxy.keyring.shared_calls import REFUSED_US
from proxy.keyring.store import TRIES_MAX, KeyringStore, shredded

WAIT_S: Final = 0.3  # the longest that a call waits for its provider key
CHANGE_S: Final = 5.0  # the longest that putting one waits for the KEK
ABSENT_MAX_AGE_US: Final = 60_000_000  # how long "it has none" is believed where no change was announced
FLIGHTS_MAX: Final = 4_096
SHOWN_CHARS_MIN: Final = 16  # of a shorter secret, four characters would say too much

OnUnreadable: TypeAlias = Callable[[str], object]
"""Hears why a stored provider key could not be opened: an UnreadableReason."""
_Name: TypeAlias = "tuple[str, str, str | None]"  # tenant, provider, user

_log = logging.getLogger("tollway.keyring")


class _Refusal(NamedTuple):
    reason: UnreadableReason
    until_us: int


class _Flight(NamedTuple):
    finding: "asyncio.Task[OpenedProviderKey | None]"
    since_epoch: int  # the tenant's keys had changed so often when it set out, or more often


class Keyring:
    """The provider keys that tenants stored. Belongs to one event loop."""

    __slots__ = (
        *("_clock", "_connecting", "_deks", "_flights", "_following", "_keks", "_on_unreadable", "_opened"),
        *("_rotation", "_store", "_unreadable", "kek_ids", "sealer"),
    )

    def __init__(self, keks: Sequence[Kek], store: KeyringStore, clock: Clock, on_unreadable: OnUnreadable) -> None:
        """Make one that knows nothing yet. `keks`: the current one first, then those that only unwrap."""
        every = Keks(keks)
        self._keks = tuple(keks)
        self.kek_ids = tuple(kek.kek_id for kek in keks)  # the current one first
        self._store = store
        self._clock = clock
        self._on_unreadable = on_unreadable
        self._deks = Deks(every, clock)
        self._rotation = Rotation(every, self._deks, store)
        self.sealer = Sealer(store, self._deks, self._rotation, clock)
        self._opened = OpenedCache()
        self._flights: dict[_Name, _Flight] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._following = Following(store, self.drop, self._forget)
        self._unreadable: dict[_Name, _Refusal] = {}

    # ── for a call ───────────────────────────────────────────────────────────────────────

    def cached(self, tenant_id: str, provider: str, user: str | None) -> Cached:
        """What this process knows of a caller's provider key: one, or None (it has none), or MISS: ask `open`."""
        return self._opened.find(tenant_id, provider, user, self._clock.monotonic_us())

    async def open(
        self, tenant_id: str, provider: str, user: str | None, since_epoch: int = 0
    ) -> OpenedProviderKey | None:
        """The user's own provider key, else the tenant's, else None. At most 300 ms.

        Whoever has heard of the tenant's epoch (and noted it) names it, and gets nothing from before it.

        Raises:
            KeyringUnavailable: the KEK, or the store behind it, did not answer in time.
            ProviderKeyUnreadable: there is one, and it cannot be opened.
            StateUnavailable: the store is away.
            TenantShredded: the tenant was shredded.
        """
        known = self.cached(tenant_id, provider, user)
        if known is not MISS:
            return known
        name = (tenant_id, provider, user)
        refusal = self._unreadable.get(name)
        if refusal is not None and self._clock.monotonic_us() < refusal.until_us:
            raise ProviderKeyUnreadable(refusal.reason)
        flight = self._flights.get(name)
        if flight is None or flight.since_epoch < since_epoch:
            if len(self._flights) >= FLIGHTS_MAX:
                raise unavailable()
            finding = asyncio.get_running_loop().create_task(self._find_and_open(*name))
            flight = self._flights[name] = _Flight(finding, since_epoch)
            finding.add_done_callback(lambda done: self._end(name, done))
        done, _ = await asyncio.wait((flight.finding,), timeout=WAIT_S)
        if not done:
            raise unavailable()
        return flight.finding.result()

    def note_epoch(self, tenant_id: str, epoch: int) -> bool:
        """Hear a tenant's epoch, wherever it was read. True: what was known was from before it, and is forgotten."""
        is_older = self._opened.is_older(tenant_id, epoch)
        if is_older:
            self.drop(tenant_id)
        return is_older

    def drop(self, tenant_id: str) -> None:
        """Forget all that is known of a tenant, and what is being found out."""
        self._opened.drop(tenant_id)
        self._deks.drop(tenant_id)
        self.sealer.drop(tenant_id)
        self._drop_flights(tenant_id)

    async def connect(self, within_s: float) -> None:
        """Make the KEKs ready: loading boto3 takes longer than a call may wait. It goes on after `within_s`."""
        self._connecting = self._connecting or asyncio.get_running_loop().create_task(self._deks.connect())
        await asyncio.wait({self._connecting}, timeout=within_s)

    def start(self) -> None:
        """Begin to follow what other processes change."""
        self._following.start()

    async def stop(self) -> None:
        """Stop following, and forget everything. Safe to repeat."""
        tasks = [self._connecting, *(flight.finding for flight in self._flights.values())]
        self._connecting = None
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._following.stop()
        await self.sealer.stop()
        await self._deks.stop()
        self._forget()

    # ── for who owns the keys ────────────────────────────────────────────────────────────

    async def put(
        self, tenant_id: str, provider: str, user: str | None, origin: str, secret: Secret, at_ms: int
    ) -> ProviderKeyRecord:
        """Store a provider key for one origin, as the next version where there is one. Without its envelope.

        Raises:
            InvalidParameter: a name that can never match a call, or a secret that no header can carry.
            TenantShredded, KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable: nothing was stored; after
                the last, perhaps it was.
        """
        require_names(tenant_id, provider, user, origin)
        require_secret(secret)
        for _ in range(TRIES_MAX):
            found = await self._read(tenant_id, provider, user)
            stored = await self._put_after(found, found.at(user), (tenant_id, provider, user, origin), secret, at_ms)
            if stored is not None:
                return stored
        raise _contended()

    async def rotate(
        self, tenant_id: str, provider: str, user: str | None, secret: Secret, at_ms: int
    ) -> ProviderKeyRecord | None:
        """Put another secret in the place of the one that is stored, for the same origin, and wipe that one. None:
        nothing is stored there. Raises as `put`."""
        require_secret(secret)
        for _ in range(TRIES_MAX):
            found = await self._read(tenant_id, provider, user)
            before = found.at(user)
            if before is None:
                return None
            name = (tenant_id, provider, user, before.origin)
            stored = await self._put_after(found, before, name, secret, at_ms)
            if stored is not None:
                return stored
        raise _contended()

    async def delete(self, tenant_id: str, provider: str, user: str | None, at_ms: int) -> ProviderKeyRecord | None:
        """Wipe a provider key; what is left of its record. None: there was none.

        Raises:
            TenantShredded, StateUnavailable.
        """
        ended = await self._store.delete(tenant_id, provider, user, at_ms)
        self._opened.drop(tenant_id)
        self._drop_flights(tenant_id)
        return ended

    async def list(self, tenant_id: str) -> Sequence[ProviderKeyRecord]:
        """Every version that is known of, by age, without envelopes. Raises StateUnavailable."""
        return await self._store.list(tenant_id)

    async def prepare(self, tenant_id: str, at_ms: int) -> None:
        """Make the tenant's data key, unseen, so that a gateway which may only unwrap can store provider keys.

        Raises:
            TenantShredded, KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable.
        """
        await self._rotation.prepare(tenant_id, at_ms)

    async def shred(self, tenant_id: str, at_ms: int) -> int:
        """Make all that a tenant stored unreadable, for ever, and use its id up; when that was done first, in ms.
        Raises StateUnavailable."""
        first_at_ms = await self._store.shred(tenant_id, at_ms)
        self.drop(tenant_id)
        return first_at_ms

    async def rotate_kek(self, progress: Progress) -> Rotated:
        """Have every data key wrapped by the current KEK. See `Rotation`."""
        return await self._rotation.rotate_kek(progress)

    async def probe_kek(self, kek_id: str) -> None:
        """Try whether a KEK can be used. See `probe`."""
        await probe(next(kek for kek in self._keks if kek.kek_id == kek_id), self._store)

    async def rewrap(self, tenant_id: str) -> Rotated:
        """Have one tenant's data keys wrapped by the current KEK. See `Rotation`."""
        return await self._rotation.rewrap(tenant_id, Rotated(), lambda _progress: None)

    async def rotate_dek(self, tenant_id: str, at_ms: int, progress: Progress) -> Rotated:
        """Have a tenant's provider keys sealed by a new data key. See `Rotation`."""
        try:
            return await self._rotation.rotate_dek(tenant_id, at_ms, progress)
        finally:
            self.sealer.drop(tenant_id)

    async def tenants(self, after: str, limit: int) -> Sequence[str]:
        """Ids of tenants that have, or had, data keys, in order, from beyond `after`. Raises StateUnavailable."""
        return await self._store.tenants(after, limit)

    async def oldest_at_ms(self) -> int | None:
        """When the oldest data key in use was made, for a schedule of rotations. Raises StateUnavailable."""
        return await self._rotation.oldest_at_ms()

    # ── finding out ──────────────────────────────────────────────────────────────────────

    async def _find_and_open(self, tenant_id: str, provider: str, user: str | None) -> OpenedProviderKey | None:
        name, asked_at_us = (tenant_id, provider, user), self._clock.monotonic_us()
        try:
            found = await self._find(name)
            if found is None:
                return await asyncio.shield(self._flights[name].finding)
            opened, until_us = None, asked_at_us + ABSENT_MAX_AGE_US
            if found.record is not None:
                opened, until_us = await self._open(found, tenant_id, provider, user)
        except ProviderKeyUnreadable as error:
            self._note(tenant_id, provider, error)
            if len(self._unreadable) >= FLIGHTS_MAX:
                self._unreadable.clear()
            self._unreadable[name] = _Refusal(error.reason, self._clock.monotonic_us() + REFUSED_US)
            raise
        flight = self._flights.get(name)
        if flight is not None and flight.finding is asyncio.current_task():  # nothing changed meanwhile
            # What is the tenant's is kept as such, for every user who has no own place, where that can be told.
            whose = None if found.slots is not None and found.own is None else user
            self._opened.keep(tenant_id, provider, whose, opened, epoch=found.epoch, until_us=until_us)
            if found.slots is not None:
                slots_until_us = asked_at_us + ABSENT_MAX_AGE_US
                self._opened.keep_slots(tenant_id, found.slots, epoch=found.epoch, until_us=slots_until_us)
        return opened

    async def _find(self, name: _Name) -> Found | None:
        """What is stored, and nobody has changed since: else a data key could be unwrapped, and kept, after its tenant
        was shredded. None: it was changed, and another one is finding it out by now."""
        this = cast("asyncio.Task[OpenedProviderKey | None]", asyncio.current_task())
        for _ in range(TRIES_MAX):
            found = await self._read(*name)
            flight = self._flights.get(name)
            if flight is not None:
                return found if flight.finding is this else None
            self._flights[name] = _Flight(this, 0)
        raise _contended()

    async def _open(
        self, found: Found, tenant_id: str, provider: str, user: str | None
    ) -> tuple[OpenedProviderKey, int]:
        """The provider key of a record, and until when it may be used without asking again."""
        record = found.record
        assert record is not None
        place = _place(tenant_id, provider, user if found.own is not None else None, record)
        sealed = envelope.parse(record.envelope)
        stored = found.dek(sealed.dek_id)
        if stored is None:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        unwrapped = await self._deks.open(stored)
        if unwrapped.tenant_id != tenant_id:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        text = envelope.unseal(sealed, unwrapped.dek, place).decode("ascii")
        opened = OpenedProviderKey(Secret(text), record.origin, record.credential_id, record.version)
        return opened, unwrapped.asked_at_us + MAX_AGE_US

    def _note(self, tenant_id: str, provider: str, error: ProviderKeyUnreadable) -> None:
        """Tell the operator what no caller is told."""
        self._on_unreadable(error.reason.value)
        _log.error("the provider key of tenant %s for %s cannot be opened: %s", tenant_id, provider, error.reason.value)

    def _end(self, name: _Name, done: "asyncio.Task[OpenedProviderKey | None]") -> None:
        flight = self._flights.get(name)
        if flight is not None and flight.finding is done:
            del self._flights[name]
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits for it any more

    async def _read(self, tenant_id: str, provider: str, user: str | None) -> Found:
        found = await self._store.find(tenant_id, provider, user)
        if found.shredded_at_ms is not None:
            raise shredded(tenant_id)
        return found

    # ── changing ─────────────────────────────────────────────────────────────────────────

    async def _put_after(
        self,
        found: Found,
        before: ProviderKeyRecord | None,
        name: tuple[str, str, str | None, str],
        secret: Secret,
        at_ms: int,
    ) -> ProviderKeyRecord | None:
        """Seal and store the version that comes after `before`. None: others were first."""
        tenant_id, provider, user, origin = name
        text = secret.reveal().encode("ascii")
        try:
            async with asyncio.timeout(CHANGE_S):
                stored = found.dek(found.current_dek_id or "") or await self._rotation.add_dek(tenant_id, None, at_ms)
                dek = (await self._deks.open(stored)).dek
        except TimeoutError:
            raise unavailable() from None
        except ProviderKeyUnreadable as error:
            self._note(tenant_id, provider, error)
            raise
        record = ProviderKeyRecord(
            tenant_id=tenant_id,
            provider=provider,
            user=user,
            origin=origin,
            credential_id=f"pk_{secrets.token_hex(12)}" if before is None else before.credential_id,
            version=1 if before is None else before.version + 1,
            state=ProviderKeyState.ACTIVE,
            fingerprint=aead.fingerprint(dek, text),
            last_four=secret.reveal()[-4:] if len(text) >= SHOWN_CHARS_MIN else "",
            created_at_ms=at_ms,
            dek_id=stored.id,
        )
        nonce, place = secrets.token_bytes(aead.NONCE_BYTES), _place(tenant_id, provider, user, record)
        data = envelope.seal(dek, stored.id, stored.wrapped.kek_id, nonce, place, text)
        if not await self._store.activate(replace(record, envelope=data), before):
            return None
        self._opened.drop(tenant_id)
        self._drop_flights(tenant_id)
        return record

    # ── forgetting ───────────────────────────────────────────────────────────────────────

    def _drop_flights(self, tenant_id: str) -> None:
        """What is being found out now was read before a change: whoever waits gets it, and nobody later."""
        for names in (self._flights, self._unreadable):
            for name in [name for name in names if name[0] == tenant_id]:
                del names[name]

    def _forget(self) -> None:
        self._opened.clear()
        self._deks.clear()
        self.sealer.clear()
        self._flights.clear()
        self._unreadable.clear()


def _place(tenant_id: str, provider: str, user: str | None, record: ProviderKeyRecord) -> Place:
    """Where a record was found, or is put: its own word counts for nothing but what no question names."""
    return Place(tenant_id, provider, user, record.origin, record.credential_id, record.version)


def _contended() -> StateUnavailable:
    return StateUnavailable("Others keep changing this provider key. Try again.", retry_after_ms=1_000)
