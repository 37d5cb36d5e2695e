"""What every store of the ledger promises."""

import asyncio

import pytest

from proxy.ledger.entry import SealedRow


def row(run_id: str, data: bytes = b"{}", tenant_id: str = "acme") -> SealedRow:
    return SealedRow(tenant_id, run_id, data)


async def data_of(ledger, tenant_id: str = "acme") -> list[bytes]:
    return [data for _, data in await ledger.read(tenant_id, limit=10_000)]


async def test_rows_are_read_in_the_order_in_which_they_came(ledger):
    await ledger.append([row("z", b"1"), row("a", b"2")])
    await ledger.append([row("m", b"3")])
    assert await data_of(ledger) == [b"1", b"2", b"3"]


async def test_appending_again_adds_no_second_row_and_changes_none(ledger):
    await ledger.append([row("a", b"first")])
    await ledger.append([row("a", b"second"), row("b", b"other")])
    await ledger.append([row("a", b"first")])
    assert await data_of(ledger) == [b"first", b"other"]


async def test_the_same_run_twice_in_one_batch_is_one_row(ledger):
    await ledger.append([row("a", b"first"), row("a", b"second")])
    assert await data_of(ledger) == [b"first"]


async def test_the_same_run_id_of_two_tenants_is_two_rows(ledger):
    await ledger.append([row("a", b"1", "acme"), row("a", b"2", "other")])
    assert await data_of(ledger, "acme") == [b"1"]
    assert await data_of(ledger, "other") == [b"2"]


async def test_nothing_to_append_is_nothing(ledger):
    await ledger.append([])
    assert list(await ledger.tenants()) == []
    assert list(await ledger.read("acme")) == []


async def test_reading_goes_on_after_a_position(ledger):
    await ledger.append([row(f"r{number}", b"%d" % number) for number in range(10)])
    seen = []
    position = 0
    for _ in range(5):
        page = await ledger.read("acme", after=position, limit=3)
        if not page:
            break
        assert len(page) <= 3
        assert page[0][0] > position
        seen += [data for _, data in page]
        position = page[-1][0]
    assert seen == [b"%d" % number for number in range(10)]
    await ledger.append([row("late", b"late")])
    assert [data for _, data in await ledger.read("acme", after=position)] == [b"late"]


async def test_positions_grow_within_a_tenant_whatever_others_append(ledger):
    for number in range(5):
        await ledger.append([row(f"r{number}", b"", "acme"), row(f"r{number}", b"", "other")])
    positions = [position for position, _ in await ledger.read("acme")]
    assert len(positions) == 5
    assert positions == sorted(set(positions))


async def test_a_batch_larger_than_one_call_arrives_whole_and_in_order(ledger):
    rows = [row(f"r{number}", b"%d" % number, f"t{number % 3}") for number in range(3_900)]
    await ledger.append(rows)
    for tenant_number in range(3):
        expected = [one.data for one in rows if one.tenant_id == f"t{tenant_number}"]
        assert await data_of(ledger, f"t{tenant_number}") == expected


async def test_concurrent_appends_lose_nothing_and_double_nothing(ledger):
    # Twenty writers, each with rows of its own, and rows that all of them post.
    batches = [
        [row(f"own-{writer}-{number}", b"%d %d" % (writer, number)) for number in range(20)]
        + [row(f"shared-{number}", b"shared %d" % number) for number in range(20)]
        for writer in range(20)
    ]
    await asyncio.gather(*(ledger.append(batch) for batch in batches))
    found = await data_of(ledger)
    expected = {one.data for batch in batches for one in batch}
    assert len(found) == len(expected) == 420
    assert set(found) == expected
    for writer in range(20):
        own = [data for data in found if data.startswith(b"%d " % writer)]
        assert own == [b"%d %d" % (writer, number) for number in range(20)]


async def test_many_tenants_in_one_batch(ledger):
    tenant_ids = [f"tenant-{number:03}" for number in range(200)]
    await ledger.append([row("r", tenant_id.encode(), tenant_id) for tenant_id in tenant_ids])
    assert list(await ledger.tenants()) == tenant_ids
    for tenant_id in tenant_ids:
        assert await data_of(ledger, tenant_id) == [tenant_id.encode()]


@pytest.mark.parametrize("run_id", ["", " ", "0", "-1", "{x}", "a:b", "ü" * 100, "a\r\nb", "nan", "1" * 64])
async def test_any_text_names_a_run(ledger, run_id):
    await ledger.append([row(run_id, b"1"), row(run_id + "x", b"2")])
    await ledger.append([row(run_id, b"3")])
    assert await data_of(ledger) == [b"1", b"2"]


async def test_bytes_come_back_as_they_went(ledger):
    contents = [b"", b"\x00", bytes(range(256)), b"\r\n", b"9" * 200_000]
    await ledger.append([row(f"r{number}", data) for number, data in enumerate(contents)])
    assert await data_of(ledger) == contents


@pytest.mark.parametrize("tenant_id", ["", "a b", "a}:b", "{acme}", "a" * 65, "acme\n"])
async def test_a_text_that_is_no_tenant_id_stops_the_whole_batch(ledger, tenant_id):
    with pytest.raises(ValueError, match="tenant id"):
        await ledger.append([row("a", b"1", "acme"), row("b", b"2", tenant_id)])
    with pytest.raises(ValueError, match="tenant id"):
        await ledger.read(tenant_id)
    assert await data_of(ledger, "acme") == []


async def test_ping_answers(ledger):
    await ledger.ping()
