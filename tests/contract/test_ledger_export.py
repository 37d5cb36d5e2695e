"""What every store of the ledger promises to an exporter."""

import asyncio

import pytest

from proxy.ledger.cursor import NO_HASH, Claim, Cursor
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore

LEASE_MS = 60_000


def rows(*run_ids: str, tenant_id: str = "acme", data: bytes = b"{}") -> list[SealedRow]:
    return [SealedRow(tenant_id, run_id, data) for run_id in run_ids]


async def export(ledger, count: int, tenant_id: str = "acme") -> Claim:
    """Move the cursor over the next rows; the claim as it was before."""
    claim = await ledger.claim(tenant_id, "exporter", LEASE_MS)
    page = await ledger.read(tenant_id, after=claim.cursor.position, limit=count)
    number = claim.cursor.pages + 1
    assert await ledger.advance(claim, Cursor(page[-1][0], number, f"{number:064x}"), page[-1][1], LEASE_MS)
    return claim


async def count_of(ledger, tenant_id: str = "acme") -> int:
    return len(await ledger.read(tenant_id, limit=10_000))


async def test_a_tenant_of_whom_nothing_was_exported_has_the_first_cursor(ledger):
    assert await ledger.cursor("acme") == Cursor(0, 0, NO_HASH, 1)
    claim = await ledger.claim("acme", "a", LEASE_MS)
    assert claim == Claim("acme", claim.fence, Cursor(0, 0, NO_HASH, 1))
    assert await ledger.cursor("acme") == Cursor(0, 0, NO_HASH, 1)  # a claim moves nothing


async def test_rows_up_to_the_cursor_leave_and_others_stay(ledger):
    await ledger.append([*rows("a", "b", "c", "d"), *rows("a", "b", tenant_id="other")])
    positions = [position for position, _ in await ledger.read("acme")]
    claim = await ledger.claim("acme", "exporter", LEASE_MS)
    after = Cursor(positions[2], 1, "ab" * 32, 1)
    assert await ledger.advance(claim, after, b"{}", LEASE_MS)
    assert [position for position, _ in await ledger.read("acme")] == positions[3:]
    assert await ledger.cursor("acme") == after
    assert await count_of(ledger, "other") == 2
    assert (await ledger.claim("acme", "exporter", LEASE_MS)).cursor == after


async def test_positions_go_on_after_all_rows_have_left(ledger):
    await ledger.append(rows("a", "b"))
    claim = await export(ledger, 2)
    exported = (await ledger.cursor("acme")).position
    assert await count_of(ledger) == 0
    await ledger.append(rows("c"))
    ((position, _),) = await ledger.read("acme")
    assert position > exported > claim.cursor.position


async def test_an_exported_row_that_is_appended_again_adds_nothing(ledger):
    """Its first append was of unknown outcome: it had happened, and was exported before the repeat."""
    await ledger.append(rows("a", "b", "c"))
    await export(ledger, 2)
    await ledger.append(rows("a", "b", "c", "d"))
    assert await count_of(ledger) == 2
    await export(ledger, 2)
    await ledger.append(rows("c", "e", "d"))
    assert await count_of(ledger) == 1


async def test_run_ids_are_forgotten_some_time_after_the_export(ledger):
    """Or they would fill the store for ever. Here at once; really after ten minutes at least."""
    door = ledger._door
    forgetful = (
        RedisLedgerStore(door, remember_ms=1)
        if isinstance(ledger, RedisLedgerStore)
        else EmbeddedLedgerStore(door, remember_ms=1)
    )
    for number in range(6):
        await forgetful.append(rows(f"r{number}", f"kept{number}"))
        await export(forgetful, 1)
        await asyncio.sleep(0.01)
    await forgetful.append(rows("r0", "kept5"))
    assert await count_of(forgetful) == 7  # six that wait, and r0, which nobody remembers; kept5 waits still


async def test_a_repeated_advance_says_that_it_was_done(ledger):
    await ledger.append(rows("a", "b"))
    claim = await ledger.claim("acme", "exporter", LEASE_MS)
    ((first, _), _) = await ledger.read("acme")
    after = Cursor(first, 1, "ab" * 32, 1)
    assert [await ledger.advance(claim, after, b"{}", LEASE_MS) for _ in range(3)] == [True, True, True]
    assert await ledger.cursor("acme") == after
    assert await count_of(ledger) == 1


async def test_a_claim_is_one_holders_until_it_is_let_go(ledger):
    first = await ledger.claim("acme", "a", LEASE_MS)
    assert await ledger.claim("acme", "b", LEASE_MS) is None
    assert await ledger.claim("other", "b", LEASE_MS) is not None
    assert await ledger.claim("acme", "a", LEASE_MS) == first  # kept: the same fence
    await ledger.let_go(first)
    second = await ledger.claim("acme", "b", LEASE_MS)
    assert second.fence > first.fence
    await ledger.let_go(first)  # too late to mean anything
    assert await ledger.claim("acme", "a", LEASE_MS) is None


async def test_a_claim_whose_holder_vanished_runs_out(ledger):
    first = await ledger.claim("acme", "a", 30)
    assert await ledger.claim("acme", "b", LEASE_MS) is None
    await asyncio.sleep(0.05)
    second = await ledger.claim("acme", "b", LEASE_MS)
    assert second.fence > first.fence


async def test_a_holder_who_slept_moves_nothing(ledger):
    await ledger.append(rows("a", "b"))
    ((first, _), (second, _)) = await ledger.read("acme")
    slept = await ledger.claim("acme", "a", 1)
    await asyncio.sleep(0.01)
    taken_over = await ledger.claim("acme", "b", LEASE_MS)
    assert not await ledger.advance(slept, Cursor(second, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    assert await count_of(ledger) == 2
    assert await ledger.advance(taken_over, Cursor(first, 1, "bb" * 32, 1), b"{}", LEASE_MS)
    assert not await ledger.advance(slept, Cursor(second, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    assert await ledger.cursor("acme") == Cursor(first, 1, "bb" * 32, 1)


async def test_a_cursor_that_has_moved_is_not_moved_by_an_older_claim_of_the_same_holder(ledger):
    await ledger.append(rows("a", "b"))
    ((first, _), (second, _)) = await ledger.read("acme")
    claim = await ledger.claim("acme", "a", LEASE_MS)
    assert await ledger.advance(claim, Cursor(first, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    assert not await ledger.advance(claim, Cursor(second, 1, "bb" * 32, 1), b"{}", LEASE_MS)
    assert await count_of(ledger) == 1


async def test_rows_that_are_not_those_that_were_exported_stay(ledger):
    """The store fell back since they were read, to before the last ones, and took others in their places."""
    await ledger.append(rows("a", "b", data=b"of now"))
    second = (await ledger.read("acme"))[1][0]
    claim = await ledger.claim("acme", "a", LEASE_MS)
    assert not await ledger.advance(claim, Cursor(second, 1, "aa" * 32, 1), b"of then", LEASE_MS)
    assert not await ledger.advance(claim, Cursor(second + 1, 1, "aa" * 32, 1), b"of now", LEASE_MS)
    assert (await ledger.cursor("acme"), await count_of(ledger)) == (Cursor(), 2)
    assert await ledger.advance(claim, Cursor(0, 7, "aa" * 32, 2), None, LEASE_MS)  # no row goes
    assert (await ledger.cursor("acme"), await count_of(ledger)) == (Cursor(0, 7, "aa" * 32, 2), 2)


async def test_a_claim_on_a_store_that_was_emptied_is_no_longer_one(ledger):
    before = await ledger.claim("acme", "a", LEASE_MS)
    door = ledger._door
    if isinstance(ledger, RedisLedgerStore):
        await door.call("FLUSHALL")
    else:
        await door.run(lambda connection: connection.execute("DELETE FROM ledger_cursors").fetchall())
    await ledger.append(rows("x"))
    ((position, _),) = await ledger.read("acme")
    await asyncio.sleep(0.002)
    assert not await ledger.advance(before, Cursor(position, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    await ledger.claim("acme", "b", LEASE_MS)
    assert not await ledger.advance(before, Cursor(position, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    assert await count_of(ledger) == 1


async def test_an_advance_keeps_the_claim_for_longer(ledger):
    await ledger.append(rows("a"))
    ((first, _),) = await ledger.read("acme")
    claim = await ledger.claim("acme", "a", 200)
    assert await ledger.advance(claim, Cursor(first, 1, "aa" * 32, 1), b"{}", LEASE_MS)
    await asyncio.sleep(0.25)
    assert await ledger.claim("acme", "b", LEASE_MS) is None


async def test_of_many_at_once_one_has_the_claim(ledger):
    claims = await asyncio.gather(*(ledger.claim("acme", f"h{number}", LEASE_MS) for number in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_the_backlog_says_what_waits(ledger):
    assert list(await ledger.backlog()) == []
    assert await ledger.unexported_bytes() == 0
    await ledger.append([*rows("a", "b", "c", data=b"x" * 1_000), *rows("a", tenant_id="other", data=b"y" * 500)])
    found = {one.tenant_id: one for one in await ledger.backlog()}
    assert {tenant_id: one.rows for tenant_id, one in found.items()} == {"acme": 3, "other": 1}
    assert 3_000 <= found["acme"].unexported_bytes <= 8_192 + 3_000
    assert 500 <= found["other"].unexported_bytes <= 8_192  # Redis takes 4 KiB for the first rows of a stream
    assert await ledger.unexported_bytes() == sum(one.unexported_bytes for one in found.values())
    await export(ledger, 3)
    assert [(one.tenant_id, one.rows) for one in await ledger.backlog()] == [("other", 1)]
    assert await ledger.unexported_bytes() == found["other"].unexported_bytes


async def test_bytes_that_wait_follow_a_large_backlog_down(ledger):
    await ledger.append([row for number in range(2_000) for row in rows(f"r{number}", data=b"x" * 800)])
    before = await ledger.unexported_bytes()
    assert 0.9 * 1_600_000 < before < 2.5 * 1_600_000
    await export(ledger, 1_500)
    assert 0.15 * before < await ledger.unexported_bytes() < 0.35 * before


async def test_a_tenant_whose_rows_have_all_left_is_still_listed(ledger):
    await ledger.append(rows("a"))
    await export(ledger, 1)
    assert list(await ledger.tenants()) == ["acme"]


@pytest.mark.parametrize("tenant_id", ["", "a b", "a}:b"])
async def test_a_text_that_is_no_tenant_id_is_refused(ledger, tenant_id):
    for asked in (
        ledger.cursor(tenant_id),
        ledger.claim(tenant_id, "a", LEASE_MS),
        ledger.let_go(Claim(tenant_id, 1, Cursor())),
        ledger.advance(Claim(tenant_id, 1, Cursor()), Cursor(1, 1), b"{}", LEASE_MS),
    ):
        with pytest.raises(ValueError, match="tenant id"):
            await asked
