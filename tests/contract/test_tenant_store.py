"""What every store of tenants promises."""

import asyncio
from dataclasses import replace

import pytest

from proxy.identity.tenant import TenantRecord
from proxy.settings.model import NoCeiling, StreamUsage

ACME = TenantRecord(
    id="acme",
    created_at_ms=1_000,
    updated_at_ms=9_007_199_254_740_991,
    plan="pro.v2",
    timezone="Europe/Berlin",
    no_ceiling=NoCeiling.EXTEND,
    stream_usage=StreamUsage.INJECT,
    allow_unmetered=True,
    count_own_key=True,
)


async def test_a_tenant_that_was_put_is_found_whole(tenants):
    await tenants.put(ACME)
    assert await tenants.find("acme") == ACME


async def test_a_tenant_that_nobody_put_is_none(tenants):
    await tenants.put(ACME)
    for tenant_id in ("nobody", "ACME", "acm", "acme-eu"):
        assert await tenants.find(tenant_id) is None


async def test_putting_again_changes_it(tenants):
    await tenants.put(ACME)
    changed = replace(ACME, plan="free", updated_at_ms=2_000)
    for _ in range(2):
        await tenants.put(changed)
    assert await tenants.find("acme") == changed
    assert list(await tenants.list()) == [changed]


async def test_a_listing_is_whole_and_by_id(tenants):
    records = [TenantRecord(f"t{number:04}", number, number) for number in range(1_203)]
    for start in range(0, len(records), 50):
        await asyncio.gather(*(tenants.put(record) for record in reversed(records[start : start + 50])))
    assert list(await tenants.list()) == records


async def test_nobody_is_an_empty_listing(tenants):
    assert list(await tenants.list()) == []


async def test_a_deleted_tenant_is_gone_and_can_be_put_again(tenants):
    other = TenantRecord("other", 1, 1)
    await tenants.put(ACME)
    await tenants.put(other)
    assert await tenants.delete("acme") is True
    assert await tenants.find("acme") is None
    assert list(await tenants.list()) == [other]
    assert await tenants.delete("acme") is False
    await tenants.put(ACME)
    assert list(await tenants.list()) == [ACME, other]


async def test_a_tenant_that_is_put_while_it_is_deleted_is_listed_if_it_is_there(tenants):
    for _ in range(50):
        await asyncio.gather(tenants.put(ACME), tenants.delete("acme"), tenants.put(ACME), tenants.delete("acme"))
        found = await tenants.find("acme")
        assert list(await tenants.list()) == ([] if found is None else [ACME])


@pytest.mark.parametrize("tenant_id", ["", "a b", "a}:b", "{acme}", "a:b", "a" * 65, "acme\n", "ä", "*"])
async def test_a_text_that_is_no_tenant_id_reaches_no_store(tenants, tenant_id):
    for attempt in (tenants.put(TenantRecord(tenant_id, 1, 1)), tenants.find(tenant_id), tenants.delete(tenant_id)):
        with pytest.raises(ValueError, match="tenant id"):
            await attempt
    assert list(await tenants.list()) == []


async def test_a_tenants_record_and_its_virtual_keys_are_apart(tenants, virtual_keys):
    await tenants.put(ACME)
    assert list(await virtual_keys.list("acme")) == []
    assert await tenants.delete("acme")
