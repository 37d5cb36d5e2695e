"""Where a process looks for kept answers: what fails is as if nothing were there, and costs nobody much time."""

import asyncio
import random
import time

import pytest

from proxy.cache import shelf as module
from proxy.cache.entry import CacheEntry, EntryHead, pack
from proxy.cache.memory import Memory
from proxy.cache.shelf import Found, Shelf
from proxy.core.clock import Clock
from proxy.core.errors import KeyringUnavailable, StateUnavailable

ENTRY = CacheEntry(EntryHead("m", 1, 5), b"c" * 32, (), b"body" * 200, "p/m", "p", "m", "gateway")


class Store:
    """A dictionary, which may be slow, away, or hold what others put there."""

    def __init__(self):
        self.kept = {}
        self.claims = {}
        self.asked = 0
        self.fault = None
        self.delay_s = 0.0
        self.closed = 0

    async def _answer(self):
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault

    async def find(self, tenant_id, name):
        await self._answer()
        return self.kept.get((tenant_id, name))

    async def find_or_claim(self, tenant_id, name, run_id, claim_ms):
        await self._answer()
        if (tenant_id, name) in self.kept:
            return self.kept[tenant_id, name]
        return self.claims.setdefault((tenant_id, name), run_id) == run_id

    async def keep(self, tenant_id, name, run_id, data, ttl_ms):
        await self._answer()
        self.kept[tenant_id, name] = data
        self.claims.pop((tenant_id, name), None)

    async def let_go(self, tenant_id, name, run_id):
        await self._answer()
        self.claims.pop((tenant_id, name), None)

    async def close(self):
        self.closed += 1


class Failures(list[str]):
    """What a shelf tells of."""


class Sealer:
    """Turns bytes around, and remembers what they were bound to."""

    def __init__(self):
        self.fault = None
        self.forget = lambda _tenant_id: None

    def on_drop(self, forget):
        self.forget = forget

    async def seal(self, tenant_id, aad, plaintext):
        return (tenant_id.encode() + b"|" + aad + b"|" + plaintext)[::-1]

    async def refuse(self):
        raise KeyringUnavailable("away")

    async def open(self, tenant_id, aad, sealed):
        if self.fault is not None:
            raise self.fault
        head = tenant_id.encode() + b"|" + aad + b"|"
        plain = sealed[::-1]
        if not plain.startswith(head):
            raise KeyringUnavailable("another's")
        return plain.removeprefix(head)


def shelf(store, sealer=None, failures=None, memory_bytes=1 << 20, body_bytes_max=1 << 20):
    heard = [] if failures is None else failures
    return Shelf(Memory(memory_bytes), store, sealer, body_bytes_max, Clock(), heard.append)


async def drained(each):
    await each.drain(1)


async def test_what_is_kept_is_found_by_another_process():
    store = Store()
    one, other = shelf(store), shelf(store)
    one.keep("acme", "n", None, ENTRY, 1_000)
    assert one.at_hand("acme", "n") == ENTRY
    await drained(one)
    assert await other.find("acme", "n", None, 0) == Found(ENTRY)
    assert await other.find("other", "n", None, 0) == Found()


async def test_a_claim_is_one_callers_until_its_answer_is_kept_or_never_comes():
    store = Store()
    one, other = shelf(store), shelf(store)
    assert await one.find("acme", "n", "run_1", 1_000) == Found(is_claimed=True)
    assert await other.find("acme", "n", "run_2", 1_000) == Found(is_others=True)
    one.let_go("acme", "n", "run_1")
    await drained(one)
    assert await other.find("acme", "n", "run_2", 1_000) == Found(is_claimed=True)
    other.keep("acme", "n", "run_2", ENTRY, 1_000)
    await drained(other)
    assert (await one.find("acme", "n", "run_3", 1_000)).entry == ENTRY


async def test_a_store_that_is_slow_costs_one_caller_50_ms_and_the_next_ones_nothing():
    store, failures = Store(), Failures()
    store.delay_s = 5.0
    each = shelf(store, failures=failures)
    began_s = time.monotonic()
    assert await each.find("acme", "n", None, 0) == Found()
    assert 0.04 < time.monotonic() - began_s < 1.0
    for _ in range(100):
        assert await each.find("acme", "n", None, 0) == Found()
    assert (store.asked, failures) == (1, ["find"])


async def test_who_hears_nothing_of_its_claim_may_have_it():
    store = Store()
    store.fault = StateUnavailable("the answer was lost")
    assert await shelf(store).find("acme", "n", "run_1", 1_000) == Found(is_claimed=True)


@pytest.mark.parametrize(("fault", "level"), [(StateUnavailable("away"), "WARNING"), (ValueError("ours"), "ERROR")])
async def test_whatever_a_store_does_a_call_goes_on_and_it_is_told(fault, level, caplog):
    store, failures = Store(), Failures()
    store.fault = fault
    each = shelf(store, failures=failures)
    assert await each.find("acme", "n", None, 0) == Found()
    each.keep("acme", "n", "run_1", ENTRY, 1_000)
    each.let_go("acme", "n", "run_1")
    await drained(each)
    assert failures == ["find", "keep"]
    assert level in {record.levelname for record in caplog.records}


async def test_it_is_told_once_while_it_is_away(monkeypatch, caplog):
    monkeypatch.setattr(module, "AWAY_US", 0)
    store = Store()
    store.fault = StateUnavailable("away")
    each = shelf(store)
    for _ in range(5):
        await each.find("acme", "n", None, 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_store_that_is_back_is_asked_again(monkeypatch):
    monkeypatch.setattr(module, "AWAY_US", 1_000)
    store, failures = Store(), Failures()
    store.fault = StateUnavailable("away")
    each = shelf(store, failures=failures)
    assert await each.find("acme", "n", None, 0) == Found()
    store.fault = None
    await asyncio.sleep(0.005)
    store.kept["acme", "n"] = b"".join(pack(ENTRY, sealed=False))
    assert await each.find("acme", "n", None, 0) == Found(ENTRY)
    assert failures == ["find"]


async def test_what_cannot_be_kept_is_counted_and_nothing_else():
    store, failures = Store(), Failures()
    store.fault = StateUnavailable("full")
    each = shelf(store, failures=failures)
    each.keep("acme", "n", None, ENTRY, 1_000)
    await drained(each)
    assert failures == ["keep"]
    assert each.at_hand("acme", "n") == ENTRY


class Reluctant(Store):
    """Keeps nothing, and lets go of claims."""

    def __init__(self, fault):
        super().__init__()
        self.keeping_fault = fault

    async def keep(self, tenant_id, name, run_id, data, ttl_ms):
        if self.keeping_fault is None:
            await asyncio.sleep(5)
        raise self.keeping_fault


@pytest.mark.parametrize("how", ["refused", "late", "not sealed"])
async def test_what_is_not_kept_is_not_waited_for(how, monkeypatch):
    monkeypatch.setattr(module, "_KEEP_S", 0.05)
    sealer = Sealer()
    if how == "not sealed":
        monkeypatch.setattr(Sealer, "seal", lambda *_: sealer.refuse())
    store = Reluctant(None if how == "late" else StateUnavailable("full"))
    failures = Failures()
    each = shelf(store, sealer, failures)
    assert (await each.find("acme", "n", "run_1", 60_000)).is_claimed
    each.keep("acme", "n", "run_1", ENTRY, 1_000)
    await drained(each)
    assert (store.claims, failures) == ({}, ["keep"])


async def test_no_more_is_on_its_way_to_the_store_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(module, "KEEPING_BYTES_MAX", 2 * ENTRY.size_bytes)
    store, failures = Store(), Failures()
    store.delay_s = 0.01
    each = shelf(store, failures=failures)
    for number in range(5):
        each.keep("acme", str(number), None, ENTRY, 1_000)
    await drained(each)
    assert (len(store.kept), failures) == (2, ["full"] * 3)
    store.claims["acme", "n"] = "run_1"
    for number in range(3):
        each.keep("acme", ("x", "y", "n")[number], "run_1", ENTRY, 1_000)
    await drained(each)
    assert (len(store.kept), store.claims) == (4, {})  # what is not kept is not waited for
    each.keep("acme", "n", None, ENTRY, 1_000)
    await drained(each)
    assert len(store.kept) == 5


async def test_what_is_sealed_is_bound_to_its_tenant_and_its_name():
    store, failures = Store(), Failures()
    each = shelf(store, Sealer(), failures)
    each.keep("acme", "n", None, ENTRY, 1_000)
    await drained(each)
    (data,) = store.kept.values()
    assert b"body" not in data
    assert await each.find("acme", "n", None, 0) == Found(ENTRY)
    store.kept["other", "n"] = store.kept["acme", "m"] = data
    assert await each.find("other", "n", None, 0) == Found()
    assert await each.find("acme", "m", None, 0) == Found()
    assert failures == ["open", "open"]


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_store_that_others_write_to_does_not_speak_for_the_keyring(sealed):
    store, failures = Store(), Failures()
    store.kept["acme", "n"] = b"".join(pack(ENTRY, sealed=not sealed))
    assert await shelf(store, Sealer() if sealed else None, failures).find("acme", "n", None, 0) == Found()
    assert failures == ["unreadable"]


async def test_what_nobody_may_open_any_more_does_not_lie_in_memory():
    sealer = Sealer()
    each = shelf(Store(), sealer)
    for tenant in ("acme", "other", "third"):
        each.remember(tenant, "n", ENTRY)
    sealer.forget("acme")
    assert [each.at_hand(tenant, "n") is None for tenant in ("acme", "other", "third")] == [True, False, False]
    sealer.forget(None)
    assert each.at_hand("other", "n") is None


async def test_a_kms_that_is_away_does_not_make_the_store_be_away():
    store, sealer, failures = Store(), Sealer(), Failures()
    each = shelf(store, sealer, failures)
    each.keep("acme", "n", None, ENTRY, 1_000)
    await drained(each)
    sealer.fault = KeyringUnavailable("away")
    assert await each.find("acme", "n", None, 0) == Found()
    sealer.fault = None
    assert await each.find("acme", "n", None, 0) == Found(ENTRY)
    assert failures == ["open"]


async def test_a_large_answer_goes_there_and_back():
    store = Store()
    large = ENTRY._replace(body=b"0123456789" * 90_000)
    each = shelf(store, memory_bytes=0)
    each.keep("acme", "n", None, large, 1_000)
    await drained(each)
    assert each.at_hand("acme", "n") is None
    assert (await each.find("acme", "n", None, 0)).entry == large


async def test_only_a_large_answer_is_worked_on_beside_the_loop(monkeypatch):
    beside = []

    async def to_thread(work, *what, **more):
        beside.append(work.__name__)
        return work(*what, **more)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    store = Store()
    each = shelf(store, memory_bytes=0)
    rng = random.Random(1)  # it stays large when it is compressed
    large = ENTRY._replace(body=rng.randbytes(200_000).hex().encode())
    for entry, expected in ((ENTRY, []), (large, ["pack", "unpack"])):
        each.keep("acme", "n", None, entry, 1_000)
        await drained(each)
        assert (await each.find("acme", "n", None, 0)).entry == entry
        assert beside == expected


@pytest.mark.parametrize("body", [b"x" * 200_000, random.Random(1).randbytes(200_000).hex().encode()])
async def test_what_others_put_there_is_not_inflated_beyond_what_an_entry_may_have(body):
    store, failures = Store(), Failures()
    store.kept["acme", "n"] = b"".join(pack(ENTRY._replace(body=body), sealed=False))
    each = shelf(store, failures=failures, body_bytes_max=1_000)
    assert await each.find("acme", "n", None, 0) == Found()
    assert failures == ["unreadable"]


async def test_what_is_there_and_cannot_be_opened_is_nobodys_claim():
    store, sealer, failures = Store(), Sealer(), Failures()
    each = shelf(store, sealer, failures)
    each.keep("acme", "n", None, ENTRY, 1_000)
    await drained(each)
    sealer.fault = KeyringUnavailable("away")
    assert await each.find("acme", "n", "run_1", 1_000) == Found()
    assert (failures, store.claims) == (["open"], {})


async def test_nothing_is_on_its_way_to_a_store_for_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(module, "_KEEP_S", 0.02)
    store, failures = Store(), Failures()
    store.delay_s = 5.0
    each = shelf(store, failures=failures)
    each.keep("acme", "n", "run_1", ENTRY, 1_000)
    each.let_go("acme", "m", "run_1")
    await asyncio.wait_for(asyncio.gather(*each._tasks), 1)
    assert (failures, each._tasks, store.kept) == (["keep"], set(), {})


async def test_at_the_end_what_is_on_its_way_has_a_moment_and_the_store_is_closed():
    store = Store()
    each = shelf(store)
    each.keep("acme", "n", None, ENTRY, 1_000)
    store.delay_s = 5.0
    each.keep("acme", "m", None, ENTRY, 1_000)
    tasks = list(each._tasks)
    await asyncio.wait_for(each.drain(0.05), 1)
    assert store.closed == 1
    await asyncio.wait(tasks, timeout=1)
    assert all(task.done() for task in tasks)
    await shelf(None).drain(0.05)  # there may be none
