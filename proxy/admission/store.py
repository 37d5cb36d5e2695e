"""What every store of admissions does, and how Redis does it: one script call a step.

Names in Redis, of a tenant T (docs/state.md has their fields):

    tollway:1:{T}:use:SCOPE               hash: one scope's buckets and counters
    tollway:1:{T}:run:RUN:STEP            hash: one reservation, or what is left of it
    tollway:1:{T}:leases                  sorted set: RUN:STEP → lease until
    tollway:1:{T}:epoch                   the epoch in which this tenant's state is known to be whole
    tollway:1:@:epoch                     the store's present epoch: server process, chance, when it began in ms
    tollway:1:@:probe                     when a process last tried whether anything can be written, in ms
    tollway:1:@:lease-tenants:SHARD       sorted set: tenants with leases; perhaps some without
"""

import secrets
import time
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from proxy.adapters.redis import RedisDoor, shared_name, tenant_name
from proxy.adapters.redis_wire import Argument, Reply
from proxy.admission import encoding
from proxy.admission.answers import Admission, Growth, ReleaseCode, Settlement, WrongEpoch
from proxy.admission.book import ScopeState
from proxy.admission.ending import Adjust, Bill
from proxy.admission.hits import HitAdmission, HitDemand, require_hit
from proxy.admission.scripts import Scripts
from proxy.admission.terms import Demand, RunStep, ScopeDemand, Touched, require_demand, require_run_step, touched_json
from proxy.core.errors import StateUnavailable
from proxy.core.tenant import require_tenant_id

ADMIT_TIMEOUT_S = 0.3  # for the whole admission, its one repeat included
SHARDS = 16
ANNOUNCED_S = 60.0  # a tenant with leases is announced again after so long
IDLE_MS = 600_000  # and leaves the index when nobody has for so long, and it has no lease
ANNOUNCED_MAX = 10_000
SWEPT_MAX = 64  # leases of one tenant in one script call
ALIKE_MAX = 10_000  # callers whose names of scopes are remembered
EXTENDED_MAX = 500  # in one script call
SETTLE_IN_MS = 3_000  # other machines' gateways look at the epoch once a second, and then post what they have
PROBE_KEPT_MS = 60_000
ROUNDS_MAX = 10_000  # script calls of one pass: a pass that does not end is a fault

_EPOCH = shared_name("epoch")
_PROBE = shared_name("probe")
_LEDGERS = shared_name("ledger-tenants")


class AdmissionStore(Protocol):
    """Decides and keeps reservations. Every method raises StateUnavailable where the store does
    not answer in time: it may have been carried out, and every one of them is safe to repeat."""

    async def epoch(self) -> str:
        """The store's present life. It changes when the store may have lost something."""
        ...

    async def probe(self) -> None:
        """Write something that means nothing: a store may answer who reads, and take nothing (no memory, a replica, no
        right to)."""
        ...

    async def settle_in_ms(self, epoch: str) -> int:
        """How much longer an epoch that has just begun must last before tenants are adopted in it:
        the time in which the other machines' gateways notice, and post what was lost."""
        ...

    async def adopt(self, tenant_id: str, epoch: str) -> bool:
        """Say that a tenant's state is whole in this epoch: what was lost has been posted again.
        False: the epoch is over already."""
        ...

    async def admit(self, demand: Demand, epoch: str) -> Admission:
        """Check every limit and cap and reserve all of it, or nothing, within 300 ms where there is a
        connection (the keeper bounds the whole). After StateUnavailable it may be reserved: never
        dispatch it, and release it."""
        ...

    async def admit_hit(self, demand: HitDemand) -> HitAdmission:
        """Let a kept answer be given out: look whether it may be, take its request buckets and write its row. After
        StateUnavailable its row may be there; it costs nothing, and nobody has to take it back."""
        ...

    async def restore(self, demand: Demand) -> Admission:
        """Put back a reservation that the store lost, or what it lost of one that grew. Nothing is checked: it has
        been dispatched."""
        ...

    async def grow(self, demand: Demand, held_nusd: int, row: bytes) -> Growth:
        """Let a pending reservation hold so much in all, if every cap allows it. `demand` is the
        one that was admitted; the row replaces the one that an expired lease would leave."""
        ...

    async def extend(self, tenant_id: str, run_steps: Sequence[RunStep], lease_ms: int) -> Sequence[RunStep]:
        """The heart-beat of a tenant's reservations. Gives back those that are no longer pending."""
        ...

    async def settle(self, run_step: RunStep, bill: Bill) -> Settlement:
        """Charge what a call cost, free its hold and write its row, in one step."""
        ...

    async def settle_all(self, ended: Sequence[tuple[RunStep, Bill]]) -> Sequence["Settlement | StateUnavailable"]:
        """Settle several at once, in any order. Where one cannot be settled, its error is in the place of its answer,
        or nothing was done and the error is raised: asked one by one, each is for itself."""
        ...

    async def post(self, run_step: RunStep, touched: Sequence[Touched], bill: Bill) -> Settlement:
        """Settle; where the store knows nothing of the reservation (any more), write its spend and its row."""
        ...

    async def release(self, run_step: RunStep) -> ReleaseCode:
        """Let a hold go. One that comes first denies the late admission."""
        ...

    async def sweep(self) -> int:
        """One pass over all tenants: expire what has run out. Gives back how many have."""
        ...

    async def pending(self, tenant_id: str) -> int:
        """How many of a tenant's reservations are pending."""
        ...

    async def read(self, tenant_id: str, scope: str) -> ScopeState:
        """What is kept of one scope; an empty one where nothing is."""
        ...

    async def check(self) -> None:
        """Ask whether the store can be trusted with money.

        Raises:
            StateIncompatible: it may throw away what it holds.
        """
        ...


class RedisAdmissionStore:
    """Admissions in Redis. Decides nothing: the scripts do."""

    __slots__ = (
        "_adjust",
        "_announced_s",
        "_changes_seen",
        "_door",
        "_epoch_seen",
        "_ledgers_seen",
        "_scripts",
        "_settle_in_ms",
    )

    def __init__(
        self, door: RedisDoor, adjust: Adjust, scripts: Scripts | None = None, settle_in_ms: int = SETTLE_IN_MS
    ) -> None:
        """Reads its scripts: blocks on the disk for a moment."""
        self._door = door
        self._adjust = adjust
        self._settle_in_ms = settle_in_ms
        self._scripts = scripts or Scripts.load()
        self._announced_s: dict[str, float] = {}  # tenant → when this process last announced it
        self._ledgers_seen: set[str] = set()  # tenants that the exporter of the ledger knows of
        self._changes_seen = 0
        self._epoch_seen = ""

    async def epoch(self) -> str:
        for _ in range(3):  # the server may change while it is asked, and again
            changes = self._door.server_changes
            current = await self._door.call("GET", _EPOCH)
            assert current is None or isinstance(current, bytes)
            # An epoch names the server process that it was made on: another one may have lost something.
            if current is None or not current.startswith(f"{self._door.server_run_id}.".encode()):
                fresh = f"{self._door.server_run_id}.{secrets.token_hex(8)}"
                current = await self._door.run(self._scripts.epoch, [_EPOCH], [current or "", fresh])
                assert isinstance(current, bytes)
            if self._door.server_changes == changes:
                self._note_epoch(current.decode(), changes)
                return self._epoch_seen
        raise StateUnavailable("The gateway's state store keeps changing. Try again shortly.")

    async def probe(self) -> None:
        await self._door.run(self._scripts.probe, [_PROBE], [PROBE_KEPT_MS])

    async def settle_in_ms(self, epoch: str) -> int:
        begun_ms = int(epoch.rpartition(".")[2])
        seconds, us = [int(part) for part in _listed(await self._door.call("TIME")) if isinstance(part, bytes)]
        return max(0, begun_ms + self._settle_in_ms - (seconds * 1_000 + us // 1_000))

    async def adopt(self, tenant_id: str, epoch: str) -> bool:
        name = tenant_name(tenant_id, "epoch")
        await self._announce(tenant_id)
        await self._door.call("SADD", _LEDGERS, tenant_id)
        # Only now may it be admitted: whoever has an epoch is in both indexes.
        if not await self._is_current(epoch):
            return False
        await self._door.call("SET", name, epoch)
        if await self._is_current(epoch):
            return True
        await self._door.call("DEL", name)  # it ended between the two; nothing is whole in the next one
        return False

    async def admit(self, demand: Demand, epoch: str) -> Admission:
        changes = self._changes_seen
        if self._door.server_changes != changes:
            return WrongEpoch()
        reply = await self._reserve(demand, "admit", epoch)
        if self._door.server_changes != changes:
            # The answer may be that of a server which has lost what we count on. Whether it holds
            # something now is unknown; the caller releases it, as after any unknown outcome.
            raise StateUnavailable("The gateway's state store has just changed. Try again shortly.")
        return encoding.admission_of(reply, demand)

    async def admit_hit(self, demand: HitDemand) -> HitAdmission:
        tenant_id = require_hit(demand).tenant_id
        if tenant_id not in self._ledgers_seen:
            await self._index_ledger(tenant_id)
        names, buckets = _hit_asks(tenant_id, demand.scopes)
        whose = (demand.run_id, demand.virtual_key_id or "", demand.alias)
        args: tuple[Argument, ...] = (*whose, demand.asked_at_ms, demand.row, *buckets)
        return encoding.hit_admission_of(
            _listed(await self._door.run(self._scripts.hit, names, args, awake=True)), demand
        )

    async def restore(self, demand: Demand) -> Admission:
        return encoding.admission_of(await self._reserve(demand, "restore", ""), demand)

    async def grow(self, demand: Demand, held_nusd: int, row: bytes) -> Growth:
        args: list[Argument] = [held_nusd, encoding.checks_text(demand), row]
        reply = await self._door.run(self._scripts.grow, [_run_name(demand.run_step)], args)
        return encoding.growth_of(_listed(reply), demand.scopes)

    async def extend(self, tenant_id: str, run_steps: Sequence[RunStep], lease_ms: int) -> Sequence[RunStep]:
        await self._announce(tenant_id)
        by_member = {require_run_step(each).member: each for each in run_steps if each.tenant_id == tenant_id}
        members, gone = list(by_member), []
        for at in range(0, len(members), EXTENDED_MAX):
            args: list[Argument] = [lease_ms, *members[at : at + EXTENDED_MAX]]
            gone += _listed(await self._door.run(self._scripts.extend, [tenant_name(tenant_id, "leases")], args))
        return [by_member[member.decode()] for member in gone if isinstance(member, bytes)]

    async def settle(self, run_step: RunStep, bill: Bill) -> Settlement:
        return await self._settle(run_step, bill, b"")

    async def settle_all(self, ended: Sequence[tuple[RunStep, Bill]]) -> Sequence[Settlement | StateUnavailable]:
        if len(ended) == 1:  # so it is while little is under way
            return [await self._settle(*ended[0], b"")]
        calls = [([_run_name(run_step)], encoding.settle_args(bill, b"")) for run_step, bill in ended]
        replies = await self._door.run_each(self._scripts.settle, calls)
        answers: list[Settlement | StateUnavailable] = []
        for (run_step, bill), reply in zip(ended, replies, strict=True):
            if isinstance(reply, StateUnavailable):
                answers.append(reply)
            elif (expired_nusd := encoding.expired_nusd(reply)) is None:
                answers.append(encoding.settlement_of(reply))
            else:
                try:
                    answers.append(await self._correct(run_step, bill, b"", expired_nusd))
                except StateUnavailable as error:  # the others have their answers
                    answers.append(error)
        return answers

    async def post(self, run_step: RunStep, touched: Sequence[Touched], bill: Bill) -> Settlement:
        await self._door.call("SADD", _LEDGERS, require_tenant_id(run_step.tenant_id))
        return await self._settle(run_step, bill, touched_json(touched))

    async def release(self, run_step: RunStep) -> ReleaseCode:
        reply = await self._door.run(self._scripts.release, [_run_name(run_step)], [])
        assert isinstance(reply, int)
        return encoding.release_of(reply)

    async def sweep(self) -> int:
        expired = 0
        for shard in range(SHARDS):
            for tenant in _listed(await self._door.call("ZRANGE", _shard_name(shard), 0, -1)):
                assert isinstance(tenant, bytes)
                expired += await self._sweep_tenant(shard, tenant.decode())
        return expired

    async def pending(self, tenant_id: str) -> int:
        count = await self._door.call("ZCARD", tenant_name(tenant_id, "leases"))
        assert isinstance(count, int)
        return count

    async def read(self, tenant_id: str, scope: str) -> ScopeState:
        flat = _listed(await self._door.call("HGETALL", tenant_name(tenant_id, f"use:{scope}")))
        fields = [entry.decode() for entry in flat if isinstance(entry, bytes)]
        return encoding.scope_state(dict(zip(fields[::2], map(int, fields[1::2]), strict=True)))

    async def check(self) -> None:
        await self._door.check_keeps_everything()

    async def _reserve(self, demand: Demand, mode: str, epoch: str) -> list[Reply]:
        tenant_id, run_id, step = require_demand(demand).run_step
        names = (tenant_name(tenant_id, f"run:{run_id}:{step}"), *_admit_names(tenant_id, demand.outline.scope_names))
        args = encoding.admit_args(demand, mode, epoch)
        now_s = time.monotonic()
        if not self._is_announced(tenant_id, now_s):
            await self._announce(tenant_id)
        try:
            return _listed(await self._door.run(self._scripts.admit, names, args, awake=True))
        except StateUnavailable:  # it may be reserved: the same name asks again, and adds nothing
            left_s = now_s + ADMIT_TIMEOUT_S - time.monotonic()
            if left_s <= 0:
                raise
            return _listed(await self._door.run(self._scripts.admit, names, args, left_s))

    async def _settle(self, run_step: RunStep, bill: Bill, touched: bytes) -> Settlement:
        args = encoding.settle_args(bill, touched)
        reply = await self._door.run(self._scripts.settle, [_run_name(run_step)], args)
        expired_nusd = encoding.expired_nusd(reply)
        if expired_nusd is not None:
            return await self._correct(run_step, bill, touched, expired_nusd)
        return encoding.settlement_of(reply)

    async def _correct(self, run_step: RunStep, bill: Bill, touched: bytes, expired_nusd: int) -> Settlement:
        """Settle what was charged so much when its lease ran out."""
        args = encoding.settle_args(bill, touched, self._adjust(bill.row, expired_nusd))
        return encoding.settlement_of(await self._door.run(self._scripts.settle, [_run_name(run_step)], args))

    async def _sweep_tenant(self, shard: int, tenant_id: str) -> int:
        expired = 0
        for _ in range(ROUNDS_MAX):
            reply = await self._door.run(self._scripts.sweep, [tenant_name(tenant_id, "leases")], [SWEPT_MAX])
            count, leases_left = _listed(reply)
            assert isinstance(count, int)
            expired += count
            if count == SWEPT_MAX:
                continue
            if leases_left == 0:
                await self._door.run(self._scripts.announce, [_shard_name(shard)], [tenant_id, IDLE_MS])
            return expired
        raise AssertionError("the leases of a tenant do not end")

    def _is_announced(self, tenant_id: str, now_s: float) -> bool:
        return now_s - self._announced_s.get(tenant_id, -ANNOUNCED_S) < ANNOUNCED_S

    async def _announce(self, tenant_id: str) -> None:
        """Put the tenant into the index before it has a lease, and again while it may have one."""
        now_s = time.monotonic()
        if self._is_announced(tenant_id, now_s):
            return
        shard = zlib.crc32(require_tenant_id(tenant_id).encode()) % SHARDS
        await self._door.run(self._scripts.announce, [_shard_name(shard)], [tenant_id, ""])
        if len(self._announced_s) >= ANNOUNCED_MAX:
            self._announced_s.clear()
        self._announced_s[tenant_id] = now_s

    async def _index_ledger(self, tenant_id: str) -> None:
        """Tell the exporter of a tenant before it has a row, where no adoption has."""
        epoch = self._epoch_seen
        await self._door.call("SADD", _LEDGERS, tenant_id)
        if epoch != self._epoch_seen:
            return  # the store may have lost it since
        if len(self._ledgers_seen) >= ANNOUNCED_MAX:
            self._ledgers_seen.clear()
        self._ledgers_seen.add(tenant_id)

    def _note_epoch(self, epoch: str, changes: int) -> None:
        self._changes_seen = changes
        if epoch != self._epoch_seen:
            self._epoch_seen = epoch
            self._announced_s.clear()  # what was lost may be the index
            self._ledgers_seen.clear()

    async def _is_current(self, epoch: str) -> bool:
        return await self._door.call("GET", _EPOCH) == epoch.encode()


def _run_name(run_step: RunStep) -> str:
    tenant_id, run_id, step = require_run_step(run_step)
    return tenant_name(tenant_id, f"run:{run_id}:{step}")


@lru_cache(maxsize=ALIKE_MAX)
def _admit_names(tenant_id: str, scope_names: tuple[str, ...]) -> tuple[str, ...]:
    """What an admission is given beside its run's name: calls of callers who are alike are given the same."""
    rests = ("leases", "epoch", "virtual-keys-revoked", *(f"use:{scope}" for scope in scope_names))
    return tuple(tenant_name(tenant_id, rest) for rest in rests)


@lru_cache(maxsize=ALIKE_MAX)
def _hit_asks(tenant_id: str, scopes: tuple[ScopeDemand, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Likewise of the step that gives a kept answer out; and the request buckets that it takes of."""
    rests = ("keyring", "virtual-keys-revoked", "cache", *(f"use:{scope.name}" for scope in scopes))
    buckets = tuple(part for scope in scopes if scope.requests is not None for part in scope.requests)
    return tuple(tenant_name(tenant_id, rest) for rest in rests), buckets


def _shard_name(shard: int) -> str:
    return shared_name(f"lease-tenants:{shard}")


def _listed(reply: Reply) -> list[Reply]:
    assert isinstance(reply, list)
    return reply
