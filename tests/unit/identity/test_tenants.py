"""What holds for a tenant: the file's word, then the store's, then the default."""

import asyncio
from typing import cast

import pytest

from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable, TenantNotAllowed
from proxy.identity import lookup_cache
from proxy.identity.tenant import TenantRecord
from proxy.identity.tenant_store import TenantStore
from proxy.identity.tenants import Tenants, make_tenant_cache
from proxy.settings.model import AuthMode, AuthSettings, PlanSettings, Settings, TenantSettings

PLANS = {name: PlanSettings(name) for name in ("default", "pro")}
IN_FILE = TenantSettings("filed", timezone="Asia/Tokyo")


class SteppedClock(Clock):
    __slots__ = ("now_us",)

    def __init__(self) -> None:
        self.now_us = 1_000

    def monotonic_us(self) -> int:
        return self.now_us


class ScriptedStore:
    """Answers `find` from a dict, counts the questions, and can be away or slow."""

    def __init__(self) -> None:
        self.records: dict[str, TenantRecord] = {}
        self.asked: list[str] = []
        self.away = False
        self.gate: asyncio.Event | None = None

    async def find(self, tenant_id):
        self.asked.append(tenant_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StateUnavailable("away", retry_after_ms=1_000)
        return self.records.get(tenant_id)


class House:
    """Tenants, and what stands around them."""

    def __init__(self, *, plans=PLANS, **auth) -> None:
        self.clock, self.store = SteppedClock(), ScriptedStore()
        self.seconds: list[float] = []
        self.cache = make_tenant_cache(self.seconds.append)
        self.auth = AuthSettings(**auth)
        self.reload(plans)

    def reload(self, plans=PLANS, tenants=(IN_FILE,)) -> None:
        settings = Settings(auth=self.auth, plans=plans, tenants={one.id: one for one in tenants})
        self.tenants = Tenants(settings, cast(TenantStore, self.store), self.cache, self.clock)

    def put(self, tenant_id, **values):
        self.store.records[tenant_id] = TenantRecord(tenant_id, 1, 1, **values)

    async def find(self, tenant_id) -> TenantSettings:
        return self.tenants.fresh(tenant_id) or await self.tenants.find(tenant_id)

    def later(self, seconds: float) -> None:
        self.clock.now_us += int(seconds * 1_000_000)


async def test_a_tenant_of_the_file_asks_no_store_and_wins_over_it():
    house = House()
    house.put("filed", plan="pro")
    assert house.tenants.fresh("filed") is IN_FILE
    assert await house.tenants.find("filed") is IN_FILE
    assert house.store.asked == []


async def test_a_tenant_of_the_store_is_found_and_then_known_for_five_seconds():
    house = House()
    house.put("late", plan="pro", timezone="Europe/Berlin")
    assert house.tenants.fresh("late") is None
    expected = TenantSettings("late", plan="pro", timezone="Europe/Berlin")
    for _ in range(3):
        assert await house.find("late") == expected
        house.later(2.4)
    assert house.store.asked == ["late"]
    assert len(house.seconds) == 1
    house.put("late", plan="default")
    house.later(0.3)  # 7.5 s
    assert house.tenants.fresh("late") is None
    assert (await house.find("late")).plan == "default"


async def test_a_fresh_entry_is_the_same_object_each_time():
    house = House()
    first = await house.find("nobody")
    assert house.tenants.fresh("nobody") is first


async def test_a_tenant_that_nobody_named_has_the_default_and_can_be_put_later():
    house = House()
    assert await house.find("new") == TenantSettings("new")
    house.put("new", plan="pro")
    assert (await house.find("new")).plan == "default"
    house.later(5.1)
    assert (await house.find("new")).plan == "pro"


async def test_known_tenants_only():
    house = House(known_tenants_only=True, default_tenant="house")
    house.put("late")
    assert await house.find("filed") is IN_FILE
    assert await house.find("late") == TenantSettings("late")
    assert await house.find("house") == TenantSettings("house")  # exists though nobody wrote it down
    for _ in range(2):
        with pytest.raises(TenantNotAllowed, match=r"not known to this gateway.*tollway tenants put"):
            await house.find("stranger")
    assert house.store.asked == ["late", "house", "stranger"]


async def test_a_deleted_tenant_is_unknown_within_five_seconds():
    house = House(known_tenants_only=True)
    house.put("late")
    await house.find("late")
    house.store.records.clear()
    house.later(5.1)
    with pytest.raises(TenantNotAllowed):
        await house.find("late")
    house.store.away = True
    house.later(5.1)
    with pytest.raises(TenantNotAllowed):  # an outage does not bring it back
        await house.find("late")


async def test_a_plan_that_the_file_no_longer_has_refuses_its_tenants():
    house = House()
    house.put("late", plan="pro")
    assert (await house.find("late")).plan == "pro"
    house.reload({"default": PLANS["default"]})
    for _ in range(2):  # the cached entry, and the store's
        with pytest.raises(TenantNotAllowed, match=r"has a plan that .*\[plans\]"):
            await house.find("late")
        house.later(5.1)
    house.reload()
    assert (await house.find("late")).plan == "pro"


async def test_a_time_zone_that_this_machine_does_not_know_is_refused_once_a_look():
    house = House()
    house.put("late", timezone="Mars/Base")
    for _ in range(3):
        with pytest.raises(TenantNotAllowed, match="time zone Mars/Base"):
            await house.find("late")
    assert house.store.asked == ["late"]


async def test_in_passthrough_the_file_alone_says_what_holds():
    house = House(mode=AuthMode.PASSTHROUGH, default_tenant="own", known_tenants_only=True)
    house.put("own", plan="pro")
    assert house.tenants.fresh("own") == TenantSettings("own")
    assert await house.tenants.find("own") == TenantSettings("own")
    house.reload(tenants=(TenantSettings("own", plan="pro"),))
    assert house.tenants.fresh("own") == TenantSettings("own", plan="pro")
    assert house.store.asked == []


# ── the store is away ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_put", [True, False])
async def test_what_the_store_said_goes_on_for_a_minute_of_outage_and_no_longer(is_put):
    house = House()
    if is_put:
        house.put("late", plan="pro")
    before = await house.find("late")
    house.store.away = True
    house.later(59.9)
    assert await house.find("late") is before
    house.later(0.2)
    with pytest.raises(StateUnavailable):
        await house.find("late")


async def test_a_tenant_that_was_not_seen_before_the_outage_is_503():
    house = House()
    house.store.away = True
    with pytest.raises(StateUnavailable) as refused:
        await house.find("late")
    assert refused.value.retry_after_ms == 1_000


async def test_a_store_that_does_not_answer_is_given_up():
    house = House()
    house.store.gate = asyncio.Event()
    async with asyncio.timeout(5):
        with pytest.raises(StateUnavailable, match="knows tenants"):
            await house.find("late")


async def test_many_at_once_share_one_lookup_and_one_who_hangs_up_does_not_end_it():
    house = House()
    house.store.gate = asyncio.Event()
    asking = [asyncio.create_task(house.find("late")) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    house.store.gate.set()
    found = await asyncio.gather(*asking[1:])
    assert found == [TenantSettings("late")] * 49
    assert house.store.asked == ["late"]


async def test_tenants_that_nobody_knows_do_not_push_known_ones_out(monkeypatch):
    monkeypatch.setattr(lookup_cache, "KNOWN_MAX", 2)
    monkeypatch.setattr(lookup_cache, "UNKNOWN_MAX", 2)
    house = House()
    for tenant_id in ("a", "b"):
        house.put(tenant_id)
        await house.find(tenant_id)
    for number in range(10):
        await house.find(f"stranger-{number}")
    house.store.asked.clear()
    for tenant_id in ("a", "b", "stranger-8", "stranger-9"):
        await house.find(tenant_id)
    assert house.store.asked == []
    await house.find("stranger-0")
    assert house.store.asked == ["stranger-0"]
