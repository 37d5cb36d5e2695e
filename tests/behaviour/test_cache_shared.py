"""Promise: what one process keeps, every process gives out; what is revoked, shredded or purged is given to nobody, at
once and everywhere."""

import asyncio
import io
import json
import zlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.__main__ import main
from proxy.administration import tenants
from proxy.administration.virtual_keys import Wanted
from proxy.cache.entry import parse
from tests.behaviour.test_cache import CHAT, ask, chat, completion, configuration, rows, said
from tests.gateway import JSON, Gateway, plain_request, running_gateway
from tests.redis_server import emptied
from tests.scripted_upstream import answer, scripted_upstream, until


@pytest.fixture
async def urls(redis_url, cache_redis_url) -> tuple[str, str]:
    """Of the state, and of kept answers."""
    for url in (redis_url, cache_redis_url):
        await emptied(url)
    return redis_url, cache_redis_url


async def two(stack: AsyncExitStack, text: str, urls: tuple[str, str]) -> tuple[Gateway, Gateway]:
    one, other = [
        await stack.enter_async_context(running_gateway(text, state_url=urls[0], cache_url=urls[1])) for _ in range(2)
    ]
    return one, other


async def command(folder: Path, text: str, urls: tuple[str, str], *words: str) -> dict[str, Any]:
    path = folder / "tollway.toml"
    path.write_text(f'[state]\nfolder = "{folder}"\nurl = "{urls[0]}"\ncache_url = "{urls[1]}"\n{text}')
    output, errors = io.StringIO(), io.StringIO()
    typed = ["cache", *words, "--json", "--config", str(path)]
    code = await asyncio.to_thread(main, typed, environ={}, output=output, errors=errors)
    assert code == 0, errors.getvalue()
    found: dict[str, Any] = json.loads(output.getvalue())
    return found


async def kept(gateway: Gateway) -> None:
    """Wait until nothing is on its way to the store."""
    await until(lambda: not gateway.app._shelf._tasks)


async def test_what_one_process_keeps_another_gives_out(urls):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted_upstream(answer(completion())))
        one, other = await two(stack, configuration(upstream.base_url), urls)
        await ask(one)
        await kept(one)
        status, head, body = await ask(other)
        assert (status, said(head), body) == (200, "hit", completion())
        assert said((await ask(other, tenant="other"))[1]) == "miss"
        assert len(upstream.received) == 2


async def test_a_hundred_at_once_at_two_processes_make_one_call(urls):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted_upstream(lambda _: [0.3, *answer(completion())]))
        both = await two(stack, configuration(upstream.base_url), urls)
        answers = await asyncio.gather(*(ask(both[number % 2]) for number in range(100)))
        assert {(status, body) for status, _, body in answers} == {(200, completion())}
        assert sorted(said(head) or "" for _, head, _ in answers) == ["hit"] * 99 + ["miss"]
        assert len(upstream.received) == 1
        await both[1].app.settlement.drain(5.0)
        assert len(await rows(both[0])) == 100


async def test_whoever_hangs_up_keeps_nobody_waiting(urls):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted_upstream(lambda _: [5.0, *answer(completion())]))
        one, other = await two(stack, configuration(upstream.base_url), urls)
        first = asyncio.create_task(ask(one))
        await asyncio.sleep(0.2)
        waiting = asyncio.create_task(ask(other))
        await asyncio.sleep(0.1)
        upstream.script = lambda _: answer(completion())
        first.cancel()
        status, head, _ = await asyncio.wait_for(waiting, 3)
        assert (status, said(head)) == (200, "miss")


async def test_sqlite_keeps_over_a_restart(tmp_path):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url)
        async with running_gateway(text, folder=tmp_path) as gateway:
            await ask(gateway)
        async with running_gateway(text, folder=tmp_path) as gateway:
            assert said((await ask(gateway))[1]) == "hit"
        assert len(upstream.received) == 1


async def test_beside_a_redis_that_holds_money_it_is_in_memory_alone(urls):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url)
        async with running_gateway(text, state_url=urls[0]) as gateway:
            await ask(gateway)
            assert said((await ask(gateway))[1]) == "hit"
        async with running_gateway(text, state_url=urls[0]) as gateway:
            assert said((await ask(gateway))[1]) == "miss"


# ── given to nobody any more ─────────────────────────────────────────────────────────────


async def test_what_is_purged_is_given_to_nobody(urls, tmp_path):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(scripted_upstream(answer(completion())))
        text = configuration(upstream.base_url)
        one, other = await two(stack, text, urls)
        bodies = [chat(), chat(model="n")]
        for gateway in (one, other):
            for body in bodies:
                await ask(gateway, body)
            await ask(gateway, tenant="other")
            await kept(gateway)
        stats = await command(tmp_path, text, urls, "stats", "--tenant", "acme")
        assert [(each["tenant"], each["model"], each["answers"]) for each in stats["groups"]] == [
            ("acme", "m", 1),
            ("acme", "n", 1),
        ]
        purged = await command(tmp_path, text, urls, "purge", "--tenant", "acme", "--model", "m")
        assert (purged["tenants"], purged["deleted"]) == (["acme"], 1)
        upstream.received.clear()
        for gateway in (one, other):  # each had it in its memory
            assert said((await ask(gateway, bodies[1]))[1]) == "hit"
            assert said((await ask(gateway, tenant="other"))[1]) == "hit"
        assert said((await ask(one))[1]) == "miss"
        await kept(one)
        assert said((await ask(other))[1]) == "hit"  # what came after it
        assert len(upstream.received) == 1
        assert (await command(tmp_path, text, urls, "purge", "--all", "--older-than", "1h"))["deleted"] == 0
        assert said((await ask(one))[1]) == "hit"
        purged = await command(tmp_path, text, urls, "purge", "--all")
        assert (purged["deleted"], set(purged["tenants"])) == (3, {"acme", "other", "default"})
        assert said((await ask(one, bodies[1]))[1]) == "miss"
        assert said((await ask(other, tenant="other"))[1]) == "miss"
        assert (await command(tmp_path, text, urls, "stats"))["groups"] != []


@pytest.mark.parametrize("end", ["revoked", "expired", "shredded"])
@pytest.mark.parametrize("where", ["redis", "sqlite"])
async def test_whoever_may_no_longer_call_gets_no_hit(end, where, urls, tmp_path):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url).replace('mode = "trusted-headers"', 'mode = "virtual-keys"')
        urls_used = {"state_url": urls[0], "cache_url": urls[1]} if where == "redis" else {}
        async with running_gateway(text, folder=tmp_path, **urls_used) as gateway:
            desk = gateway.app._open_desk("test")
            wanted = Wanted("acme", expires_in_ms=1_500 if end == "expired" else None)
            issued, other = await desk.virtual_keys.issue(wanted), await desk.virtual_keys.issue(Wanted("acme"))

            async def call(token) -> tuple[int, str | None]:
                sent = [*JSON, (b"authorization", b"Bearer " + token.reveal().encode())]
                status, head, _ = await plain_request(gateway, "POST", CHAT, chat(), sent)
                return status, said(head)

            assert [await call(issued.token), await call(issued.token)] == [(200, "miss"), (200, "hit")]
            if end == "revoked":  # as another process would: this one still believes in it
                await gateway.app.stores.virtual_keys.revoke(issued.virtual_key.id, 1)
            elif end == "expired":
                await asyncio.sleep(1.6)
            else:
                await gateway.app.stores.keyring.shred("acme", 1)
            assert await call(issued.token) == ((410, None) if end == "shredded" else (401, None))
            if end != "shredded":
                assert await call(other.token) == (200, "hit")
            assert len(upstream.received) == 1


async def test_whoever_is_put_under_the_id_of_a_deleted_tenant_starts_with_nothing(urls, tmp_path, monkeypatch):
    monkeypatch.setattr(tenants, "BELIEVED_MS", 0)
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url, more='[cache.endpoints.chat_completions]\nmode = "all"')
        async with running_gateway(text, folder=tmp_path, state_url=urls[0], cache_url=urls[1]) as gateway:
            desk = gateway.app._open_desk("test")
            for expected in (["miss", "hit"], ["miss", "hit"]):
                await desk.tenants.put("initech", {})
                assert [said((await ask(gateway, tenant="initech"))[1]) for _ in range(2)] == expected
                await desk.tenants.delete("initech", force=True)
                await asyncio.sleep(0.002)  # what is asked for in that very millisecond is purged
            assert len(upstream.received) == 2


# ── at rest ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["redis", "sqlite"])
async def test_where_there_is_a_keyring_it_is_sealed(where, urls, tmp_path):
    canary = "what nobody else may read"
    async with scripted_upstream(answer(completion(canary))) as upstream:
        text = configuration(upstream.base_url, more='[keyring]\nkek = "file:kek"\n')
        urls_used = {"state_url": urls[0], "cache_url": urls[1]} if where == "redis" else {}
        async with running_gateway(text, folder=tmp_path, **urls_used) as gateway:
            await ask(gateway)
            await kept(gateway)
            store = gateway.app.stores.cache
            assert store is not None
            ((listed,),) = [page async for page in store.entries(None)]
            data = await store.find(listed.tenant_id, listed.name)
            assert data is not None
            assert canary.encode() not in data
            with pytest.raises(zlib.error):
                zlib.decompress(parse(data).content)
        async with running_gateway(text, folder=tmp_path, **urls_used) as gateway:
            status, head, body = await ask(gateway)
            assert (status, said(head), body) == (200, "hit", completion(canary))
            await store_elsewhere(gateway)
            assert said((await ask(gateway, tenant="other"))[1]) == "miss"
            assert len(upstream.received) == 2
            assert gateway.app.keyring is not None
            await gateway.app.keyring.shred("acme", 1)
            status, _, body = await ask(gateway)
            assert (status, json.loads(body)["error"]["code"]) == (410, "tenant_shredded")
    if where == "sqlite":
        assert canary.encode() not in (tmp_path / "cache.db").read_bytes()


async def store_elsewhere(gateway: Gateway) -> None:
    """Put acme's entry where another tenant's would be, as somebody could who writes to the store."""
    store = gateway.app.stores.cache
    assert store is not None
    async for page in store.entries("acme"):
        for each in page:
            data = await store.find("acme", each.name)
            assert data is not None
            await store.keep("other", each.name, None, data, 60_000)
