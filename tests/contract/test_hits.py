"""What every store and the keeper promise of kept answers: who is given them, how often, and that it is written."""

import asyncio

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.admission.answers import Admitted, LimitKind, LimitRefused
from proxy.admission.hits import CLOCKS_APART_MS, HitAdmitted, HitDemand, Purged, Shredded, hit_scope
from proxy.cache import book, embedded
from proxy.core.errors import StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.ledger.cursor import Cursor
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.store import RedisLedgerStore
from tests.admission_stores import T0_MS, redis_bench, sqlite_bench
from tests.keepers import Faulty, demand, keeping, redis_place, sqlite_place, until

FIVE_AT_ONCE = hit_scope("tenant", ScopeLimits(requests_per_minute=60, burst=5))


def hit(run_id: str, *, tenant_id: str = "acme", alias: str = "m", virtual_key_id: str | None = None) -> HitDemand:
    """A kept answer whose provider was asked at T0."""
    assert FIVE_AT_ONCE is not None
    row = b"hit " + run_id.encode()
    return HitDemand(tenant_id, run_id, alias, T0_MS, virtual_key_id, (FIVE_AT_ONCE,), row)


@pytest.fixture(params=["redis", "sqlite"])
async def bench(request, tmp_path, patient):
    if request.param == "redis":
        async with redis_bench(request.getfixturevalue("redis_url")) as opened:
            yield opened
    else:
        async with sqlite_bench(tmp_path / "tollway.db") as opened:
            yield opened


async def test_of_many_at_once_as_many_are_let_through_as_the_bucket_holds(bench):
    answers = await asyncio.gather(*(bench.store.admit_hit(hit(f"r{number}")) for number in range(40)))
    assert sum(isinstance(answer, HitAdmitted) for answer in answers) == 5
    refused = [answer for answer in answers if not isinstance(answer, HitAdmitted)]
    assert set(refused) == {LimitRefused("tenant", LimitKind.REQUESTS, 1_000)}
    assert len(await bench.rows()) == 5


async def test_of_one_that_is_asked_for_many_times_at_once_one_is_counted(bench):
    answers = await asyncio.gather(*(bench.store.admit_hit(hit("r1")) for _ in range(40)))
    assert set(answers) == {HitAdmitted(T0_MS * 1_000, (T0_MS * 1_000 + 1_000_000,))}
    assert await bench.rows() == ["hit r1"]


async def test_a_tenants_end_purge_and_revocation_are_its_own(bench):
    await bench.keyring.shred("shredded", T0_MS)
    await bench.book.purge("purged", None, T0_MS + 1)
    await bench.revoke("vk_1", "acme")
    asked = [hit(f"{name}1", tenant_id=name, virtual_key_id="vk_1") for name in ("shredded", "purged", "other")]
    shredded, purged, other = [await bench.store.admit_hit(each) for each in asked]
    assert (shredded, purged) == (Shredded(), Purged())
    assert isinstance(other, HitAdmitted)
    assert [await bench.rows(name) for name in ("shredded", "purged", "other")] == [[], [], ["hit other1"]]


@pytest.mark.parametrize("alias", ["", "m:n", "mödel 模型", "purged", "x" * 4_000, "'; --", "a\nb\0c"])
async def test_any_name_of_a_model_may_be_purged(bench, alias):
    await bench.book.purge("acme", alias or None, T0_MS + 1)
    assert await bench.store.admit_hit(hit("r1", alias=alias)) == Purged()
    if alias:
        assert isinstance(await bench.store.admit_hit(hit("r2", alias=f"{alias}2")), HitAdmitted)


@pytest.mark.parametrize(
    ("ahead_ms", "expected"), [(0, HitAdmitted), (CLOCKS_APART_MS, HitAdmitted), (CLOCKS_APART_MS + 1, Purged)]
)
async def test_what_claims_to_be_of_the_future_is_given_to_nobody(bench, ahead_ms, expected):
    answer = await bench.store.admit_hit(hit("r1")._replace(asked_at_ms=T0_MS + ahead_ms))
    assert isinstance(answer, expected)
    assert len(await bench.rows()) == (1 if expected is HitAdmitted else 0)


@pytest.mark.parametrize("alias", [None, "m"])
async def test_an_earlier_purge_changes_nothing(bench, alias):
    await bench.book.purge("acme", alias, T0_MS + 1)
    await bench.book.purge("acme", alias, T0_MS - 1_000)
    assert await bench.store.admit_hit(hit("run_1")) == Purged()


async def test_beyond_so_many_models_all_are_purged(bench, monkeypatch):
    for module in (book, embedded):
        monkeypatch.setattr(module, "ALIASES_MAX", 3)
    await bench.book.secret("acme")
    await bench.book.purge("acme", None, T0_MS - 1_000)
    for alias in ("a", "b", "c", "a"):  # what is no model does not count, and one that is there is not new
        await bench.book.purge("acme", alias, T0_MS + 1)
    assert isinstance(await bench.store.admit_hit(hit("run_1")), HitAdmitted)
    await bench.book.purge("acme", "d", T0_MS + 1)
    assert await bench.store.admit_hit(hit("run_2")) == Purged()


async def test_one_whose_row_was_exported_lately_is_known(bench):
    first = await bench.store.admit_hit(hit("r1"))
    ledger = RedisLedgerStore(bench.door) if bench.name == "redis" else EmbeddedLedgerStore(bench.door)
    claim = await ledger.claim("acme", "holder", 60_000)
    assert claim is not None
    ((position, row),) = await ledger.read("acme")
    assert await ledger.advance(claim, Cursor(position, 1, "0" * 64), row, 60_000)
    assert await bench.rows() == []
    assert await bench.store.admit_hit(hit("r1")) == first
    assert await bench.rows() == []
    assert (await bench.scope("tenant")).requests_tat_us == T0_MS * 1_000 + 1_000_000


# ── the keeper ───────────────────────────────────────────────────────────────────────────


def kept_hit(run_id: str) -> HitDemand:
    """Of long ago, by the clock of these stores, which is the machine's."""
    return hit(run_id)._replace(asked_at_ms=1)


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


async def test_nothing_is_kept_of_a_hit(place):
    async with keeping(place) as kept:
        assert isinstance(await kept.keeper.admit_hit(kept_hit("a")), HitAdmitted)
        assert kept.keeper.open_reservations == kept.keeper.pending == kept.journal.undone == 0
        assert await place.total() == (0, 0, 0)
        assert await place.rows() == ["hit a"]


async def test_a_refusal_is_passed_on(place):
    async with keeping(place) as kept:
        answers = [await kept.keeper.admit_hit(kept_hit(f"r{number}")) for number in range(6)]
        assert [type(answer) for answer in answers] == [HitAdmitted] * 5 + [LimitRefused]


async def test_a_hit_waits_for_nothing_that_was_lost(place):
    """Only money does: before the first look at the store's epoch, and while one is recovered."""
    async with keeping(place) as kept:
        kept.keeper._become(None)
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("a"))
        assert isinstance(await kept.keeper.admit_hit(kept_hit("b")), HitAdmitted)


async def test_one_whose_answer_is_lost_is_not_let_through_and_leaves_nothing_to_do(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        faulty.unanswered = {"admit_hit"}
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit_hit(kept_hit("a"))
        assert faulty.calls["admit_hit"] == 1
        assert kept.keeper.pending == kept.journal.undone == 0
        assert await place.rows() == ["hit a"]  # it costs nothing


async def test_a_store_that_is_known_to_be_away_is_not_asked(place):
    faulty = Faulty(place.store)
    async with keeping(place, store=faulty) as kept:
        faulty.fails = {"all"}
        kept.keeper._look.set()
        await until(lambda: kept.keeper.failure == "the state store does not answer", 5)
        with pytest.raises(StateUnavailable, match="the state store does not answer") as refused:
            await kept.keeper.admit_hit(kept_hit("a"))
        assert refused.value.retry_after_ms == 1_000
        assert faulty.calls["admit_hit"] == 0
        faulty.fails = set()
        await until(lambda: kept.keeper.failure is None)
        assert isinstance(await kept.keeper.admit_hit(kept_hit("a")), HitAdmitted)
        assert isinstance(await kept.keeper.admit(demand("b")), Admitted)
