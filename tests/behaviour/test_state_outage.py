"""Promise: while the state store is away, who was known a minute ago goes on, everybody else is told
503 and never 401, and no row is lost or written twice."""

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from proxy.core.clock import Clock
from proxy.identity.virtual_key import digest, issue, mint, mint_id
from tests.gateway import JSON, Gateway, error_of, passthrough_to, plain_request, running_gateway
from tests.redis_server import RedisServer
from tests.scripted_upstream import answer, scripted_upstream, until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"alias","messages":[]}'
PEPPER = b"p" * 32
KNOWN, OTHER = mint(b"k" * 32), mint(b"o" * 32)
NOBODYS = mint(b"n" * 32)
LOOKED_UP = 'tollway_state_seconds_count{operation="virtual_key_find"}'
OUTAGE_S = 20.0  # generous: the store is asked once a second, and given up after a quarter of one


class AdvancingClock(Clock):
    """The real clock, and what a test adds to it."""

    added_us = 0

    def monotonic_us(self) -> int:
        return super().monotonic_us() + self.added_us


def presenting(token) -> list[tuple[bytes, bytes]]:
    return [*JSON, (b"authorization", b"Bearer " + token.reveal().encode())]


async def issue_to(gateway: Gateway, tenant_id: str, token) -> None:
    virtual_key = issue(
        tenant_id=tenant_id, token=token, virtual_key_id=mint_id(token.reveal()[4:20].encode()), now_ms=1
    )
    await gateway.app.stores.virtual_keys.put(virtual_key, digest(token.reveal(), PEPPER))


@asynccontextmanager
async def gateway_on(server: RedisServer, base_url: str, clock: Clock | None = None) -> AsyncIterator[Gateway]:
    """A gateway with its state in Redis, and two virtual keys of which it has seen one."""
    text = f"""
[auth]
mode = "virtual-keys"
peppers = ["env:PEPPER"]
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateways"
[models.alias]
deployments = [{{ provider = "scripted", model = "m-2026" }}]
"""
    environ = {"PEPPER": base64.b64encode(PEPPER).decode()}
    async with running_gateway(text, environ=environ, state_url=server.url, clock=clock) as gateway:
        await issue_to(gateway, "acme", KNOWN)
        await issue_to(gateway, "umbrella", OTHER)
        for _ in range(5):  # it has to be seen once before the store goes, however busy this machine is
            if await status_of(gateway, KNOWN) == 200:
                break
        else:
            raise AssertionError("the store does not answer in time although nothing holds it")
        await gateway.idle()
        await gateway.rows("acme")
        yield gateway


async def status_of(gateway: Gateway, token) -> int:
    return (await plain_request(gateway, "POST", CHAT, BODY, presenting(token)))[0]


async def assert_unavailable(gateway: Gateway, token) -> None:
    """The store's fault is said to be the store's, with when to come back."""
    status, head, body = await plain_request(gateway, "POST", CHAT, BODY, presenting(token))
    assert (status, error_of(body)["code"]) == (503, "state_unavailable")
    assert head[b"x-tollway-error-source"] == b"gateway"
    assert 0 < int(head[b"retry-after"]) <= 60
    assert 0 < int(head[b"retry-after-ms"]) <= 60_000


async def readyz(gateway: Gateway) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(gateway.app.admin_app), base_url="http://admin"
    ) as admin:
        response = await admin.get("/readyz")
        return response.status_code, response.json()["checks"]


async def until_readyz(gateway: Gateway, status: int, *failing: str) -> None:
    """Wait until `/readyz` has this status, and exactly these checks fail."""
    seen = await readyz(gateway)
    for _ in range(int(OUTAGE_S / 0.1)):
        if seen[0] == status and {name for name, said in seen[1].items() if said != "ok"} == set(failing):
            return
        await asyncio.sleep(0.1)
        seen = await readyz(gateway)
    raise AssertionError(f"/readyz stays at {seen}")


async def all_rows(gateway: Gateway, count: int) -> list[dict]:
    """The tenant's rows, once the settlement has nothing left to write."""
    await gateway.idle()
    await until(lambda: gateway.metric("tollway_settlements_pending") == 0, OUTAGE_S)
    rows = await gateway.rows("acme")
    assert len(rows) == count
    assert len({row["run_id"] for row in rows}) == count
    return rows


def stopped(server: RedisServer) -> None:
    server.stop()


def killed(server: RedisServer) -> None:
    server.kill()


@pytest.mark.parametrize("fail", [stopped, killed])
async def test_who_is_known_goes_on_and_who_is_not_is_told_503(fail):
    clock = AdvancingClock()
    with RedisServer() as server:
        async with (
            scripted_upstream(answer(b"{}")) as upstream,
            gateway_on(server, upstream.base_url, clock) as gateway,
        ):
            assert (await readyz(gateway))[0] == 200
            fail(server)
            # Known, and fresh; known, and to be looked up again; not known here; issued to nobody.
            assert await status_of(gateway, KNOWN) == 200
            assert gateway.metric(LOOKED_UP) == 1  # before the outage
            clock.added_us += 10_000_000
            assert [await status_of(gateway, KNOWN) for _ in range(3)] == [200, 200, 200]
            await assert_unavailable(gateway, OTHER)
            await assert_unavailable(gateway, NOBODYS)
            assert gateway.metric(LOOKED_UP) >= 4  # one in vain for each of the three
            await until_readyz(gateway, 503, "state", "ledger", "admission")
            # What is no virtual key at all needs no store to be refused.
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, [*JSON, (b"x-api-key", b"sk-else")])
            assert (status, error_of(body)["code"]) == (401, "invalid_api_key")
            # A minute after the store last confirmed it, it could have been revoked long ago.
            clock.added_us += 51_000_000
            await assert_unavailable(gateway, KNOWN)
            assert len(upstream.received) == 5
            server.resume() if fail is stopped else server.restart()


async def test_rows_wait_for_a_store_that_stands_still_and_none_is_written_twice():
    with RedisServer() as server:
        async with scripted_upstream(answer(b"{}")) as upstream, gateway_on(server, upstream.base_url) as gateway:
            server.stop()
            told = [
                (await plain_request(gateway, "POST", CHAT, BODY, presenting(KNOWN)))[1][b"x-tollway-run-id"].decode()
                for _ in range(20)
            ]
            await until(lambda: gateway.app.settlement.failure is not None, OUTAGE_S)
            # Time for a second attempt: Redis gets the same rows several times, and answers none.
            await asyncio.sleep(1.0)
            assert gateway.metric("tollway_settlements_pending") == 20
            server.resume()
            rows = await all_rows(gateway, 21)
            assert [row["run_id"] for row in rows[1:]] == told
            await until_readyz(gateway, 200)
            assert await status_of(gateway, OTHER) == 200
            assert await status_of(gateway, NOBODYS) == 401


async def test_rows_wait_for_a_store_that_was_killed():
    with RedisServer() as server:
        async with scripted_upstream(answer(b"{}")) as upstream, gateway_on(server, upstream.base_url) as gateway:
            server.kill()
            assert [await status_of(gateway, KNOWN) for _ in range(5)] == [200] * 5
            await until(lambda: gateway.app.settlement.failure is not None, OUTAGE_S)
            server.restart()  # empty: this one keeps nothing on the disk
            assert len(await all_rows(gateway, 5)) == 5
            await until_readyz(gateway, 200)


async def test_rows_are_written_through_stalls_in_the_middle_of_traffic():
    """Five stalls while calls run: each run has one row, whatever Redis was doing at its end."""
    with RedisServer() as server:
        async with scripted_upstream(answer(b"{}")) as upstream, gateway_on(server, upstream.base_url) as gateway:
            going = True

            async def call_on() -> list[int]:
                seen = []
                while going:
                    seen.append(await status_of(gateway, KNOWN))
                return seen

            callers = [asyncio.ensure_future(call_on()) for _ in range(4)]
            for _ in range(5):
                server.stop()
                await asyncio.sleep(0.3)
                server.resume()
                await asyncio.sleep(0.1)
            going = False
            statuses = [status for seen in await asyncio.gather(*callers) for status in seen]
            assert set(statuses) == {200}
            await all_rows(gateway, 1 + len(statuses))


async def test_a_start_without_the_store_waits_for_it_and_serves_then():
    with RedisServer() as server:
        async with scripted_upstream(answer(b"{}")) as upstream:
            server.kill()
            async with running_gateway(passthrough_to(upstream.base_url), state_url=server.url) as gateway:
                assert (await readyz(gateway))[0] == 503
                server.restart()
                await until_readyz(gateway, 200)


async def test_a_redis_that_may_forget_and_comes_late_is_said():
    with RedisServer("--maxmemory-policy", "allkeys-lru") as server:
        server.kill()
        async with running_gateway(passthrough_to("http://127.0.0.1:9/v1"), state_url=server.url) as gateway:

            def state() -> str:
                return gateway.app.readiness.look().checks["state"]

            assert "did not answer" in state()
            server.restart()
            await until(lambda: "maxmemory-policy allkeys-lru" in state(), OUTAGE_S)
            server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await until(lambda: state() == "ok", OUTAGE_S)


async def test_a_store_of_a_newer_release_that_comes_late_is_said_and_its_place_watched_on(tmp_path, caplog):
    file = tmp_path / "tollway.db"
    file.mkdir()  # no file can be opened there: the store is away
    async with running_gateway(passthrough_to("http://127.0.0.1:9/v1"), folder=tmp_path) as gateway:

        def state() -> str:
            return gateway.app.readiness.look().checks["state"]

        assert "did not answer" in state()
        assert str(file) not in state()
        assert f"the state store sqlite:tollway.db cannot be used: {file} cannot be used: Is a directory" in caplog.text
        file.rmdir()
        newer = sqlite3.connect(file)
        newer.execute("PRAGMA user_version=99")
        newer.close()
        await until(lambda: "newer release" in state(), OUTAGE_S)
        file.unlink()
        await until(lambda: state() == "ok", OUTAGE_S)
