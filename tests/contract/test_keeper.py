"""The keeper's promises, on Redis and on SQLite: what is admitted, settled, let go and taken over."""

import asyncio
import errno
import os
import shutil

import pytest

from proxy.adapters import journal_file
from proxy.adapters.journal_file import journals
from proxy.adapters.redis import RedisDoor
from proxy.admission import backlog, recovery
from proxy.admission.answers import Admitted, CapRefused, Grown, Known, SettleCode, Settlement, State
from proxy.admission.records import Settling
from proxy.admission.terms import touched_by
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from tests.keepers import Faulty, Kept, bill, demand, keeping, redis_place, sqlite_place, until


@pytest.fixture(params=["redis", "sqlite"])
async def place(request, tmp_path):
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        async with RedisDoor(url) as door:
            await door.call("FLUSHALL")
        async with redis_place(url, tmp_path / "journal") as opened:
            yield opened
    else:
        async with sqlite_place(tmp_path / "tollway.db", tmp_path / "journal") as opened:
            yield opened


async def test_a_call_is_admitted_and_settled(place):
    async with keeping(place) as kept:
        assert isinstance(await kept.keeper.admit(demand("a")), Admitted)
        assert await place.total() == (0, 1_000, 1)
        assert kept.keeper.open_reservations == 1
        kept.keeper.settle(demand("a"), bill("a", 400))
        assert kept.keeper.pending == 1
        assert await kept.keeper.drain(5) == 0
        assert kept.settled == {"a": Settlement(SettleCode.SETTLED, 400, 1_000)}
        assert await place.total() == (400, 0, 0)
        assert await place.rows() == ["row a"]
        assert kept.keeper.open_reservations == kept.keeper.pending == kept.journal.undone == 0


async def test_a_call_that_was_not_made_costs_nothing(place):
    async with keeping(place) as kept:
        await kept.keeper.admit(demand("a"))
        kept.keeper.release(demand("a").run_step)
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (0, 0, 0)
        assert await place.rows() == []
        assert kept.settled == {}
        assert kept.journal.undone == 0


async def test_a_refusal_is_passed_on_and_nothing_is_kept_of_it(place):
    async with keeping(place) as kept:
        refused = await kept.keeper.admit(demand("a", cap_nusd=999))
        assert isinstance(refused, CapRefused)
        assert (refused.cap_nusd, refused.needed_nusd) == (999, 1_000)
        assert kept.keeper.open_reservations == kept.keeper.pending == kept.journal.undone == 0


async def test_a_hold_grows_and_what_it_holds_now_is_what_would_be_put_back(place):
    async with keeping(place) as kept:
        await kept.keeper.admit(demand("a"))
        assert await kept.keeper.grow(demand("a"), 2_500, b"worst a") == Grown(2_500)
        assert await place.total() == (0, 2_500, 1)
        assert [each.held_nusd for each in kept.keeper._open.values()] == [2_500]


async def test_every_tenant_is_admitted_at_its_first_call(place):
    async with keeping(place) as kept:
        asked = [demand(f"r{number}", tenant_id=f"t{number % 5}") for number in range(50)]
        answers = await asyncio.gather(*(kept.keeper.admit(each) for each in asked))
        assert {type(answer) for answer in answers} == {Admitted}


# ── what nobody knows is never dispatched ────────────────────────────────────────────────


async def test_an_admission_whose_answer_is_lost_is_released(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        await kept.keeper.admit(demand("first"))  # the tenant is known from here on
        faulty.unanswered = {"admit"}
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("a"))
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (0, 1_000, 1)  # the first one's alone
        assert kept.journal.undone == 1
        assert await place.rows() == []


async def test_an_admission_that_arrives_after_its_release_is_denied(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        faulty.fails = {"admit"}
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("a"))
        assert await kept.keeper.drain(5) == 0
        epoch = await place.store.epoch()
        await place.store.adopt("acme", epoch)
        assert await place.store.admit(demand("a"), epoch) == Known(State.RELEASED)
        assert await place.total() == (0, 0, 0)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20, 50])
async def test_an_admission_whose_caller_hangs_up_holds_nothing(place, turns):
    async with keeping(place) as kept:
        admitting = asyncio.create_task(kept.keeper.admit(demand("a")))
        for _ in range(turns):
            await asyncio.sleep(0)
        admitting.cancel()
        try:
            await admitting
        except asyncio.CancelledError:
            pass
        else:  # it was answered first: then it is the caller's to let go
            kept.keeper.release(demand("a").run_step)
        assert await kept.keeper.drain(5) == 0
        await until(lambda: is_idle(place))


async def is_idle(place) -> bool:
    return (await place.total())[1:] == (0, 0)


async def test_a_store_that_takes_too_long_is_not_waited_for(place):
    class Slow(Faulty):
        async def admit(self, *args):
            answer = await place.store.admit(*args)
            await asyncio.sleep(5)
            return answer

    async with keeping(place) as kept:
        await kept.keeper.admit(demand("first"))
        kept.keeper._store = Slow(place.store)
        begun_s = asyncio.get_running_loop().time()
        with pytest.raises(StateUnavailable) as refused:
            await kept.keeper.admit(demand("a"))
        assert asyncio.get_running_loop().time() - begun_s < 2  # 300 ms, on a busy machine
        assert refused.value.retry_after_ms == 1_000
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (0, 1_000, 1)


# ── a store that is away ─────────────────────────────────────────────────────────────────


async def test_what_ends_while_the_store_is_away_is_settled_when_it_is_back(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        for name in ("a", "b", "c"):
            await kept.keeper.admit(demand(name))
        faulty.fails = {"all"}
        kept.keeper.settle(demand("a"), bill("a", 1))
        kept.keeper.settle(demand("b"), bill("b", 2))
        kept.keeper.release(demand("c").run_step)
        assert await kept.keeper.drain(0.3) == 3
        await until(lambda: kept.keeper.failure == "the state store does not answer", 5)
        asked = faulty.calls["admit"]
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("d"))
        assert faulty.calls["admit"] == asked  # nobody waits for a store that is known to be away
        faulty.fails = set()
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (3, 0, 0)
        assert sorted(await place.rows()) == ["row a", "row b"]
        await until(lambda: kept.keeper.failure is None)
        assert isinstance(await kept.keeper.admit(demand("d")), Admitted)


async def test_a_store_that_answers_and_carries_nothing_out_is_away(place, caplog):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        await kept.keeper.admit(demand("first"))  # the tenant is known from here on
        faulty.fails = {"admit", "probe"}
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("a"))
        await until(lambda: kept.keeper.failure == "the state store answers, and carries nothing out", 5)
        asked = faulty.calls["admit"]
        with pytest.raises(StateUnavailable, match="carries nothing out"):
            await kept.keeper.admit(demand("a"))
        assert faulty.calls["admit"] == asked
        faulty.fails = set()
        await until(lambda: kept.keeper.failure is None, 5)
        assert isinstance(await kept.keeper.admit(demand("b")), Admitted)
        told = [record.message for record in caplog.records if "state store" in record.message]
        assert told == [
            "no call is admitted under a limit or a cap: the state store answers, and carries nothing out: away",
            "the state store is there again",
        ]


async def test_one_admission_that_comes_to_nothing_takes_no_store_away(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        await kept.keeper.admit(demand("first"))
        assert faulty.calls["probe"] == 0
        faulty.fails = {"admit"}
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("a"))
        faulty.fails = set()
        await until(lambda: faulty.calls["probe"] == 1, 5)
        assert kept.keeper.failure is None
        assert isinstance(await kept.keeper.admit(demand("b")), Admitted)


async def test_a_settlement_whose_answer_was_lost_is_settled_once(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        await kept.keeper.admit(demand("a"))
        faulty.unanswered = {"settle_all"}
        kept.keeper.settle(demand("a"), bill("a", 7))
        await until(lambda: faulty.calls["settle_all"] >= 2)
        faulty.unanswered = set()
        assert await kept.keeper.drain(5) == 0
        assert kept.settled == {"a": Settlement(SettleCode.ALREADY_SETTLED, 7, 1_000)}
        assert await place.total() == (7, 0, 0)


async def test_one_settlement_that_can_never_be_answered_holds_up_nobody(place):
    class Poisoned(Faulty):
        async def settle(self, run_step, its_bill):
            if run_step.run_id == "bad":
                raise AssertionError("a fault of ours")
            return await place.store.settle(run_step, its_bill)

        async def settle_all(self, ended):
            if any(run_step.run_id == "bad" for run_step, _ in ended):
                raise AssertionError("a fault of ours")
            return await place.store.settle_all(ended)

    async with keeping(place, store=Poisoned(place.store)) as kept:
        for name in ("bad", *"abcdefgh"):
            await kept.keeper.admit(demand(name))
            kept.keeper.settle(demand(name), bill(name, 1))
        await until(lambda: len(kept.settled) == 8)
        await until(lambda: kept.keeper.pending == 1)
        assert isinstance(await kept.keeper.admit(demand("next")), Admitted)


async def test_beyond_so_many_that_wait_nothing_new_is_admitted(place, monkeypatch):
    monkeypatch.setattr(backlog, "WAITING_MAX", 2)
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        for name in ("a", "b", "c"):
            await kept.keeper.admit(demand(name))
        faulty.fails = {"settle_all"}
        kept.keeper.settle(demand("a"), bill("a", 1))
        assert kept.keeper._backlog.has_room
        kept.keeper.settle(demand("b"), bill("b", 1))
        assert not kept.keeper._backlog.has_room
        with pytest.raises(StateUnavailable, match="too many settlements wait"):
            await kept.keeper.admit(demand("d"))
        kept.keeper.settle(demand("c"), bill("c", 1))  # what is under way still ends
        faulty.fails = set()
        assert await kept.keeper.drain(5) == 0
        assert kept.keeper._backlog.has_room
        assert await place.total() == (3, 0, 0)


async def test_a_settlement_that_the_store_knows_nothing_of_is_posted_unless_it_is_too_old(place):
    """Too old: the store has settled it, and forgotten. In another epoch it may have lost it, whatever its age."""
    now_ms, epoch = Clock().now_ms(), await place.store.epoch()
    touched = touched_by(demand("any").scopes)

    async def ask(run_id: str, age_ms: int, began_in: str) -> SettleCode:
        settling = Settling(now_ms - age_ms, demand(run_id).run_step, touched, bill(run_id, 10), began_in)
        answer = await backlog.carry_out(place.store, settling, now_ms)
        assert isinstance(answer, Settlement)
        return answer.code

    assert await ask("fresh", 3_300_000, epoch) is SettleCode.POSTED  # 55 minutes; the store remembers 60
    assert await ask("fresh", 3_300_000, epoch) is SettleCode.ALREADY_SETTLED
    assert await ask("old", 3_300_001, epoch) is SettleCode.UNKNOWN
    assert await ask("lost", 3_300_001, "earlier") is SettleCode.POSTED
    assert await place.total() == (20, 0, 0)


# ── leases ───────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_goes_on_keeps_its_lease(place, tmp_path):
    place_of_another = type(place)(place.store, place.ledger, tmp_path / "other machine")
    async with keeping(place, lease_s=0.6) as kept, keeping(place_of_another, lease_s=0.6):
        await kept.keeper.admit(demand("a", lease_ms=600))
        await asyncio.sleep(2.5)  # each of the two has swept twice meanwhile
        assert await place.total() == (0, 1_000, 1)
        kept.keeper.settle(demand("a"), bill("a", 5))
        assert await kept.keeper.drain(5) == 0
        assert kept.settled["a"].code is SettleCode.SETTLED


async def test_a_lease_that_ran_out_is_charged_and_its_settlement_corrects_it(place):
    faulty = Faulty(place.store)
    async with keeping(place, lease_s=0.6, store=faulty) as kept:
        faulty.fails = {"extend"}
        await kept.keeper.admit(demand("a", lease_ms=600))
        await until(lambda: was_charged(place))
        faulty.fails = set()
        await until(lambda: kept.keeper._gone)  # the heart-beat learns of it, and asks no more
        kept.keeper.settle(demand("a"), bill("a", 5))
        assert await kept.keeper.drain(5) == 0
        assert kept.settled["a"] == Settlement(SettleCode.CORRECTED, 5, 1_000)
        assert await place.total() == (5, 0, 0)
        assert await place.rows() == ["worst a", "adjustment a"]


async def was_charged(place) -> bool:
    return await place.total() == (1_000, 0, 0)


# ── what a vanished process leaves ───────────────────────────────────────────────────────


async def test_the_next_process_settles_what_the_last_one_could_not(place):
    faulty = Faulty(place.store)
    async with keeping(place, lease_s=1, store=faulty) as kept:
        for name in ("open", "settling", "released"):
            await kept.keeper.admit(demand(name, lease_ms=1_000))
        faulty.fails = {"settle_all", "release"}
        kept.keeper.settle(demand("settling"), bill("settling", 30))
        kept.keeper.release(demand("released").run_step)
        kept.vanish()
    async with keeping(place, lease_s=1) as after:
        await until(lambda: is_idle(place), 5)
        assert await place.total() == (1_030, 0, 0)  # what was open, at its worst case
        assert sorted(await place.rows()) == ["row settling", "worst open"]
        assert after.settled == {}  # they were not its own
        assert kept.file.path in journals(kept.file.path.parent)  # for as long as it can be posted again


async def test_an_orphan_is_seen_to_while_the_process_runs_and_goes_when_nobody_needs_it(place, monkeypatch):
    monkeypatch.setattr("proxy.admission.keeper.ADOPT_S", 0.1)
    faulty = Faulty(place.store)
    async with keeping(place) as kept:
        async with keeping(place, store=faulty) as other:
            await other.keeper.admit(demand("a"))
            faulty.fails = {"settle_all"}
            other.keeper.settle(demand("a"), bill("a", 9))
            other.vanish()
        await until(lambda: was_settled(place, 9))
        assert other.file.path in journals(other.file.path.parent)
        for segment in journal_file.segments(other.file.path):
            os.utime(segment.path, (1, 1))
        await until(lambda: other.file.path not in journals(other.file.path.parent))
        assert kept.file.path in journals(kept.file.path.parent)


async def was_settled(place, spent_nusd: int) -> bool:
    return await place.total() == (spent_nusd, 0, 0)


async def test_an_orphan_that_goes_while_others_look_is_gone_for_all(place, monkeypatch):
    looking = asyncio.get_running_loop()

    def retire(path):
        journal_file.retire(path)
        asyncio.run_coroutine_threadsafe(one.adopt_orphans("epoch"), looking).result(5)

    monkeypatch.setattr(recovery, "retire", retire)
    async with keeping(place) as kept:
        async with keeping(place) as other:
            await other.keeper.admit(demand("a"))
            other.vanish()
        for segment in journal_file.segments(other.file.path):
            os.utime(segment.path, (1, 1))
        one = recovery.Recovery(place.store, kept.journal, Clock())
        await one.adopt_orphans(await place.store.epoch())
        assert journals(kept.file.path.parent) == [kept.file.path]


async def test_two_that_look_after_the_same_orphan_charge_it_once(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        for number in range(40):
            await kept.keeper.admit(demand(f"r{number}"))
        faulty.fails = {"settle_all"}
        for number in range(40):
            kept.keeper.settle(demand(f"r{number}"), bill(f"r{number}", 1))
        kept.vanish()
    async with keeping(place), keeping(place):
        await until(lambda: was_settled(place, 40))
        assert len(await place.rows()) == 40


# ── faults of our own ────────────────────────────────────────────────────────────────────


async def test_what_cannot_be_noted_of_a_settlement_keeps_no_other_from_the_store(place):
    async with keeping(place) as kept:
        kept.fault = ValueError("a fault of whoever is told")
        for name in ("a", "b"):
            await kept.keeper.admit(demand(name))
            kept.keeper.settle(demand(name), bill(name, 5))
            assert await kept.keeper.drain(5) == 0
        assert await place.total() == (10, 0, 0)
        assert set(kept.settled) == {"a", "b"}
        assert kept.journal.undone == 0


async def test_a_store_that_answers_nonsense_is_asked_again(place):
    nonsense = [(), None]

    class Confused(Faulty):
        async def settle_all(self, ended):
            return nonsense.pop() if nonsense else await place.store.settle_all(ended)

    faulty = Confused(place.store)
    async with keeping(place, store=faulty) as kept:
        await kept.keeper.admit(demand("a"))
        kept.keeper.settle(demand("a"), bill("a", 5))
        assert await kept.keeper.drain(5) == 0
        assert (await place.total(), nonsense) == ((5, 0, 0), [])


# ── a disk that refuses ──────────────────────────────────────────────────────────────────


async def test_with_a_full_disk_nothing_new_is_admitted_and_what_is_under_way_ends(place, monkeypatch):
    monkeypatch.setattr(journal_file, "RETRY_S", 0.02)
    write, is_full = os.write, [False]

    def write_or_refuse(descriptor: int, data: bytes) -> int:
        if is_full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    async with keeping(place) as kept:
        await kept.keeper.admit(demand("a"))
        await kept.keeper.admit(demand("b"))
        await kept.journal.file.sync()
        monkeypatch.setattr(os, "write", write_or_refuse)
        is_full[0] = True
        kept.keeper.settle(demand("a"), bill("a", 5))
        assert await kept.keeper.drain(5) == 0
        with pytest.raises(StateUnavailable, match="the journal cannot be written: No space left on device"):
            await kept.keeper.admit(demand("c"))
        kept.keeper.settle(demand("b"), bill("b", 6))
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (11, 0, 0)
        is_full[0] = False
        await until(lambda: kept.keeper.failure is None)
        assert isinstance(await kept.keeper.admit(demand("c")), Admitted)


# ── SQLite alone ─────────────────────────────────────────────────────────────────────────


async def test_what_a_power_cut_took_from_the_file_is_posted_again(tmp_path):
    path, journal = tmp_path / "tollway.db", tmp_path / "journal"
    async with sqlite_place(path, journal, boot_id="b1") as place, keeping(place, lease_s=1) as kept:
        await kept.keeper.admit(demand("before"))
        kept.keeper.settle(demand("before"), bill("before", 1))
        assert await kept.keeper.drain(5) == 0
        await asyncio.to_thread(copy, path, tmp_path / "kept")  # what will have reached the disk
        await kept.keeper.admit(demand("settled", lease_ms=1_000))
        await kept.keeper.admit(demand("open", lease_ms=1_000))
        kept.keeper.settle(demand("settled"), bill("settled", 20))
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (21, 1_000, 1)
        kept.vanish()
    await asyncio.to_thread(copy, tmp_path / "kept", path)
    async with sqlite_place(path, journal, boot_id="b2") as place, keeping(place, lease_s=1):
        assert await place.total() == (21, 1_000, 1)
        await until(lambda: is_idle(place), 5)
        assert await place.total() == (1_021, 0, 0)
        assert await place.rows() == ["row before", "row settled", "worst open"]


def copy(of, to) -> None:
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(f"{of}{suffix}", f"{to}{suffix}")


async def test_a_first_start_on_sqlite_waits_for_nothing(tmp_path):
    async with sqlite_place(tmp_path / "tollway.db", tmp_path / "journal") as place:
        kept = Kept(place, 30)
        begun_s = asyncio.get_running_loop().time()
        kept.keeper.start()
        assert await kept.keeper.ready(5)
        assert asyncio.get_running_loop().time() - begun_s < 2  # not the 3 s of a Redis that may have been emptied
        await kept.keeper.stop()
