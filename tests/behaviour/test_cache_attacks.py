"""Promise: nobody is given what is another's, what is broken, what never ends, or what could not have been kept; and
nobody waits for an answer that will not come."""

import asyncio
import gzip
import io
import json
import os
import time
import zlib
from collections.abc import Awaitable, Callable

import pytest

from proxy.__main__ import main
from proxy.administration.virtual_keys import IssuedVirtualKey, Wanted
from proxy.cache.entry import parse
from proxy.core.errors import StateUnavailable
from tests.behaviour.test_cache import CHAT, USAGE, ask, chat, completion, configuration, said, served
from tests.behaviour.test_cache_shared import kept
from tests.gateway import JSON, Gateway, plain_request, running_gateway
from tests.redis_server import RedisServer, emptied
from tests.scripted_upstream import Do, answer, scripted_upstream

FRESH = completion("fresh")
WAIT_S = 4.0  # what a call that waits for nothing would wait here


@pytest.fixture
async def urls(redis_url, cache_redis_url) -> tuple[str, str]:
    """Of the state, and of kept answers."""
    for url in (redis_url, cache_redis_url):
        await emptied(url)
    return redis_url, cache_redis_url


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def seconds(call: Awaitable[object]) -> float:
    began_s = time.monotonic()
    await call
    return time.monotonic() - began_s


async def rewrite(gateway: Gateway, change: Callable[[bytes], bytes]) -> None:
    """Change acme's entry where all find it, and let this process forget it."""
    await kept(gateway)
    store = gateway.app.stores.cache
    assert store is not None
    ((listed,),) = [page async for page in store.entries("acme")]
    data = await store.find("acme", listed.name)
    assert data is not None
    await store.keep("acme", listed.name, None, change(data), 60_000)
    gateway.app._shelf.drop("acme")


# ── a tenant that was deleted, and put again ─────────────────────────────────────────────


async def test_what_is_asked_for_by_who_is_still_believed_in_is_not_the_next_tenants(urls, tmp_path):
    async with scripted_upstream(answer(completion("of the old tenant"))) as upstream:
        text = configuration(upstream.base_url, more='[cache.endpoints.chat_completions]\nmode = "all"')
        text = text.replace('mode = "trusted-headers"', 'mode = "virtual-keys"')
        both = {"folder": tmp_path, "state_url": urls[0], "cache_url": urls[1]}
        async with running_gateway(text, **both) as gateway, running_gateway(text, **both) as admin:
            desk = admin.app._open_desk("test")

            async def call(issued: IssuedVirtualKey, body: bytes) -> tuple[int, bytes]:
                sent = [*JSON, (b"authorization", b"Bearer " + issued.token.reveal().encode())]
                status, _, got = await plain_request(gateway, "POST", CHAT, body, sent)
                return status, got

            await desk.tenants.put("initech", {})
            old = await desk.virtual_keys.issue(Wanted("initech"))
            await call(old, chat("before"))
            await desk.tenants.delete("initech", force=True)
            assert (await call(old, chat("after")))[0] == 200  # for some seconds
            await desk.tenants.put("initech", {})
            new = await desk.virtual_keys.issue(Wanted("initech"))
            upstream.script = lambda _: answer(FRESH)
            for body in (chat("before"), chat("after")):
                assert await call(new, body) == (200, FRESH)


# ── nobody waits for what will not come ──────────────────────────────────────────────────


async def test_a_store_that_is_full_makes_nobody_wait(urls):
    with RedisServer("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as server:
        async with scripted_upstream(lambda _: answer(completion(os.urandom(300_000).hex()))) as upstream:
            text = configuration(upstream.base_url, more=f"[cache]\nwait_s = {WAIT_S}\nmemory_bytes_max = 0\n")
            async with running_gateway(text, state_url=urls[0], cache_url=server.url) as gateway:
                for number in range(10):
                    for _ in range(2):
                        assert await seconds(ask(gateway, chat(f"{number}"))) < WAIT_S / 2
                        await kept(gateway)
                assert gateway.metric('tollway_cache_failures_total{step="keep"}') > 0


async def test_what_cannot_be_sealed_makes_nobody_wait(tmp_path, monkeypatch):
    async with scripted_upstream(answer(completion())) as upstream:
        more = f'[keyring]\nkek = "file:kek"\n[cache]\nwait_s = {WAIT_S}\nmemory_bytes_max = 0\n'
        async with running_gateway(configuration(upstream.base_url, more=more), folder=tmp_path) as gateway:
            await ask(gateway, chat("warm"))
            await kept(gateway)

            async def refuse(*_: object) -> bytes:
                raise StateUnavailable("the KEK is away")

            monkeypatch.setattr(type(gateway.app._shelf._sealer), "seal", refuse)
            await ask(gateway)
            await kept(gateway)
            assert await seconds(ask(gateway)) < WAIT_S / 2


async def test_who_hangs_up_while_it_claims_makes_nobody_wait(urls, monkeypatch):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url, more=f"[cache]\nwait_s = {WAIT_S}")
        async with running_gateway(text, state_url=urls[0], cache_url=urls[1]) as gateway:
            await ask(gateway, chat("warm"))
            await kept(gateway)
            store = gateway.app.stores.cache
            assert store is not None
            claim, claimed = type(store).find_or_claim, asyncio.Event()

            async def slowly(self, *which):
                found = await claim(self, *which)
                if not claimed.is_set():
                    claimed.set()
                    await asyncio.sleep(0.03)
                return found

            monkeypatch.setattr(type(store), "find_or_claim", slowly)
            first = asyncio.create_task(ask(gateway))
            await claimed.wait()
            first.cancel()
            await asyncio.sleep(0.1)
            await gateway.idle()
            assert await seconds(ask(gateway)) < WAIT_S / 2


async def test_nobody_waits_twice():
    async with served(more="[cache]\nwait_s = 1.0") as (gateway, upstream):
        delays = iter([0.7, 5.0])
        upstream.script = lambda _: [next(delays, 0.0), *answer(completion())]
        first = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(seconds(ask(gateway))) for _ in range(4)]
        await asyncio.sleep(0.3)
        await gateway.app.stores.cache_book.purge("acme", None, now_ms() + 1)
        waited = sorted([await each for each in others])
        assert waited[2] < 1.6  # one of them asks anew, and the others wait for that one as long as they may
        await first


# ── what others wrote into the store ─────────────────────────────────────────────────────


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]


def with_words(data: bytes, **changed: object) -> bytes:
    stored = parse(data)
    content = zlib.decompress(stored.content) if stored.is_compressed else stored.content
    words_end = 36 + int.from_bytes(content[32:36], "big")
    words = json.dumps({**json.loads(content[36:words_end]), **changed}).encode()
    clear = stored.clear[:5] + b"\0" + stored.clear[6:]
    return clear + content[:32] + len(words).to_bytes(4, "big") + words + content[words_end:]


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "an instant that no calendar has": flipped(6),
    "a fortune": flipped(14),
    "cut": lambda data: data[:-1],
    "longer than any": lambda data: data + bytes(2_000_000),
    "no text": lambda data: with_words(data, deployment=1),
    "a header of another answer": lambda data: with_words(data, headers=[["content-length", "3"]]),
    "two headers in one": lambda data: with_words(data, headers=[["content-type", "a\r\nset-cookie: b=c"]]),
    "nobody's key": lambda data: with_words(data, key_source="nobody"),
}


@pytest.mark.parametrize("forged", list(FORGED))
async def test_what_could_not_have_been_kept_is_a_miss_and_counted(forged, tmp_path):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url)
        async with running_gateway(text, folder=tmp_path) as gateway:
            await ask(gateway)
            await rewrite(gateway, FORGED[forged])
            status, head, body = await ask(gateway)
            assert (status, said(head), body) == (200, "miss", completion())
            assert gateway.metric('tollway_cache_failures_total{step="unreadable"}') == 1
            assert said((await ask(gateway))[1]) == "hit"


async def test_its_statistics_do_not_fail_of_an_instant_that_no_calendar_has(tmp_path):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url)
        async with running_gateway(text, folder=tmp_path) as gateway:
            await ask(gateway)
            await rewrite(gateway, lambda data: data[:6] + b"\xff" * 8 + data[14:])
        path = tmp_path / "tollway.toml"
        path.write_text(f'[state]\nfolder = "{tmp_path}"\n{text}')
        output, errors = io.StringIO(), io.StringIO()
        typed = ["cache", "stats", "--json", "--config", str(path)]
        assert await asyncio.to_thread(main, typed, environ={}, output=output, errors=errors) == 0, errors.getvalue()
        (group,) = json.loads(output.getvalue())["groups"]
        assert (group["tenant"], group["answers"]) == ("acme", 1)


@pytest.mark.parametrize("where", ["memory", "store"])
async def test_what_claims_to_be_of_the_future_is_given_to_nobody(where, tmp_path):
    async with scripted_upstream(answer(completion())) as upstream:
        async with running_gateway(configuration(upstream.base_url), folder=tmp_path) as gateway:
            await ask(gateway)
            later = now_ms() + 3_600_000
            if where == "store":
                await rewrite(gateway, lambda data: data[:6] + later.to_bytes(8, "big") + data[14:])
            else:
                await kept(gateway)
                memory, store = gateway.app._shelf._memory, gateway.app.stores.cache
                assert store is not None
                (((tenant_id, name), entry),) = memory._entries.items()
                memory.keep(tenant_id, name, entry._replace(head=entry.head._replace(asked_at_ms=later)))
                await store.drop("acme", [name])
            assert said((await ask(gateway))[1]) == "miss"
            assert said((await ask(gateway))[1]) == "hit"  # what has come since
            assert len(upstream.received) == 2


# ── what looks whole ─────────────────────────────────────────────────────────────────────

WHOLE = json.dumps({"choices": [{"message": {"content": "hello " * 100}}], "usage": USAGE}).encode()
LONG = json.dumps({"choices": [{"message": {"content": "hello " * 40_000}}], "usage": USAGE}).encode()
GZIP = (b"content-encoding", b"gzip")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (WHOLE, [], "hit"),
        (gzip.compress(WHOLE), [GZIP], "hit"),
        (gzip.compress(WHOLE)[:-8], [GZIP], "miss"),
        (gzip.compress(WHOLE) + b"x", [GZIP], "miss"),
        (gzip.compress(b'{"ok":true,"usage":{"prompt_tokens":1,"completion_tokens":1}}'), [GZIP], "miss"),
        (LONG, [], "hit"),
        (LONG[:-1], [], "miss"),
        (LONG.replace(b'"choices": [{', b'"choices": [{"finish_reason": "error", '), [], "miss"),
        (gzip.compress(LONG, 0), [GZIP], "hit"),
        (gzip.compress(LONG, 0)[:-8], [GZIP], "miss"),
    ],
    ids=[
        "plain",
        "gzip",
        "cut",
        "more",
        "another's",
        "long",
        "long, cut",
        "long, failed",
        "long gzip",
        "long gzip, cut",
    ],
)
async def test_an_answer_is_looked_at_however_long_it_is_and_however_it_is_encoded(body, headers, expected):
    async with served() as (gateway, upstream):
        upstream.script = lambda _: answer(body, headers=headers)
        for _ in range(2):
            status, head, got = await ask(gateway, None, (b"accept-encoding", b"gzip"))
            assert (status, got) == (200, body)
        assert said(head) == expected
        if expected == "miss":
            await kept(gateway)
            assert gateway.metric('tollway_cache_not_kept_total{reason="not_whole"}') == 2


@pytest.mark.parametrize("status", ["failed", "in_progress", "incomplete", "completed"])
async def test_of_responses_only_what_is_complete_is_kept(status):
    async with served() as (gateway, upstream):
        upstream.script = lambda _: answer(json.dumps({"status": status, "error": None, "output": []}).encode())
        for _ in range(2):
            _, head, _ = await ask(gateway, chat(input="x", store=False), path="/v1/responses")
        assert said(head) == ("hit" if status == "completed" else "miss")


SPEECH = b"ID3" + b"x" * 500


@pytest.mark.parametrize(
    ("framing", "body", "expected"),
    [
        (b"content-length: 503\r\n", SPEECH, "hit"),
        (b"transfer-encoding: chunked\r\n", b"1f7\r\n" + SPEECH + b"\r\n0\r\n\r\n", "hit"),
        (b"connection: close\r\n", SPEECH, "miss"),  # it may have been cut
    ],
)
async def test_speech_is_kept_where_its_end_is_known(framing, body, expected):
    async with served() as (gateway, upstream):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n" + framing + b"\r\n"
        upstream.script = lambda _: [head + body, *([Do.CLOSE] if expected == "miss" else [])]
        for _ in range(2):
            status, fields, got = await ask(gateway, chat(input="x", voice="a"), path="/v1/audio/speech")
            assert (status, got) == (200, SPEECH)
            await kept(gateway)
        assert said(fields) == expected


# ── who, and what, is meant ──────────────────────────────────────────────────────────────


async def test_who_has_no_virtual_key_shares_with_nobody():
    async with served(cache='{ mode = "all", share = "virtual_key" }') as (gateway, upstream):
        for user in (b"ada", b"bob", b"ada"):
            assert said((await ask(gateway, None, (b"x-tollway-user", user)))[1]) == "bypass"
        assert len(upstream.received) == 3


async def test_the_lines_of_one_header_have_an_order():
    async with served() as (gateway, _):
        await ask(gateway, None, (b"x-a", b"1"), (b"x-a", b"2"))
        assert said((await ask(gateway, None, (b"x-a", b"2"), (b"x-a", b"1")))[1]) == "miss"


@pytest.mark.parametrize("twice", [b'"store":true,"store":false', b'"Store":true'])
async def test_what_a_provider_may_read_otherwise_is_not_kept(twice):
    async with served() as (gateway, _):
        body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],%b}' % twice
        for _ in range(2):
            _, head, _ = await ask(gateway, body)
        assert said(head) == "bypass"
        assert gateway.metric('tollway_cache_total{reason="ambiguous",result="bypass"}') == 2
