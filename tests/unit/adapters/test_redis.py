import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys

import pytest

from proxy.adapters.redis import RedisDoor, Script, shared_name, tenant_name
from proxy.adapters.redis_wire import WireAddress
from proxy.core.errors import StateIncompatible, StateUnavailable
from tests.redis_server import RedisServer


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


def test_a_tenants_names_share_one_hash_tag():
    assert tenant_name("acme", "ledger") == "tollway:1:{acme}:ledger"
    assert shared_name("x") == "tollway:1:@:x"


@pytest.mark.parametrize("tenant_id", ["", "a}b", "{a", "a:b", "a\n", "a" * 65])
def test_a_name_that_could_reach_elsewhere_is_refused(tenant_id):
    with pytest.raises(ValueError, match="tenant id"):
        tenant_name(tenant_id, "ledger")


async def test_replies_come_as_redis_sends_them(door):
    assert await door.call("SET", "a", b"\x00\xff") == b"OK"
    assert await door.call("GET", "a") == b"\x00\xff"
    assert await door.call("GET", "none") is None
    assert await door.call("HSET", "h", "f", 5) == 1
    assert await door.call("HGETALL", "h") == [b"f", b"5"]
    assert await door.call("SMEMBERS", "none") == []


async def test_several_commands_are_answered_in_order(door):
    assert await door.call_many([("SET", "a", 1), ("INCR", "a"), ("GET", "a")]) == [b"OK", 2, b"2"]
    assert await door.call_many([]) == []


async def test_an_error_among_several_commands_is_not_passed_over(door):
    await door.call("SET", "a", "text")
    with pytest.raises(StateUnavailable):
        await door.call_many([("GET", "a"), ("INCR", "a"), ("GET", "a")])


async def test_a_script_runs_whether_redis_knows_it_or_not(door):
    script = Script("return {KEYS[1], ARGV[1], 5}")
    await door.call("SCRIPT", "FLUSH")
    for _ in range(2):
        assert await door.run(script, ["{a}x"], ["y"]) == [b"{a}x", b"y", 5]
    await door.call("SCRIPT", "FLUSH")
    calls = [([f"{{t{n}}}x"], [n]) for n in range(5)]
    for _ in range(2):
        assert await door.run_many(script, calls) == [[f"{{t{n}}}x".encode(), f"{n}".encode(), 5] for n in range(5)]


async def test_a_script_that_fails_is_an_error_alone_and_among_others(door):
    script = Script("if ARGV[1] == 'bad' then error('no') end return 1")
    with pytest.raises(StateUnavailable):
        await door.run(script, ["{a}x"], ["bad"])
    with pytest.raises(StateUnavailable):
        await door.run_many(script, [(["{a}x"], ["good"]), (["{b}x"], ["bad"])])


async def test_of_several_scripts_one_that_fails_costs_the_others_nothing(door):
    script = Script("if ARGV[1] == 'bad' then error('no') end return ARGV[1]")
    await door.call("SCRIPT", "FLUSH")
    for _ in range(2):  # at first Redis does not know it
        good, bad, last = await door.run_each(script, [(["{a}x"], [word]) for word in ("good", "bad", "last")])
        assert (good, last) == (b"good", b"last")
        assert isinstance(bad, StateUnavailable)
    assert await door.run_each(script, []) == []


async def test_a_refused_port_is_unavailable():
    async with RedisDoor("redis://127.0.0.1:1/0") as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
        assert "127.0.0.1" not in refused.value.message


async def test_a_wrong_password_is_unavailable_and_not_shown(redis_url):
    async with RedisDoor(redis_url.replace("redis://", "redis://:hunter2@")) as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
        assert "hunter2" not in refused.value.message


CALLERS_READ = "The gateway's state store did not answer in time. Try again shortly."


async def refused_by(url: str) -> StateUnavailable:
    async with RedisDoor(url) as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
    assert "hunter2" not in refused.value.for_operators
    return refused.value


@pytest.mark.parametrize(
    ("password", "scheme", "who", "database", "cause"),
    [
        ("", "redis", "", 99, "Redis at {} refuses: ERR DB index is out of range"),
        ("pw", "redis", "", 0, "Redis refuses: NOAUTH Authentication required."),
        ("pw", "redis", ":hunter2@", 0, "Redis at {} refuses: WRONGPASS invalid username-password pair"),
        ("", "rediss", "", 0, "no TLS connection to Redis at {}: none within 250 ms. Does it speak TLS (rediss://)?"),
    ],
)
async def test_its_operators_read_what_redis_said_and_its_callers_do_not(password, scheme, who, database, cause):
    with RedisServer() as server:
        server.ask("CONFIG", "SET", "requirepass", password)
        at = f"127.0.0.1:{server.port}"
        refused = await refused_by(f"{scheme}://{who}{at}/{database}")
    assert refused.for_operators.startswith(cause.format(at))
    assert "Try again" not in refused.for_operators
    assert refused.message == str(refused) == CALLERS_READ


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://u:hunter2@127.0.0.1:1", "no connection to Redis at 127.0.0.1:1: Connection refused"),
        ("rediss://127.0.0.1:1", "no TLS connection to Redis at 127.0.0.1:1: Connection refused"),
        ("redis://[::1]:1", "no connection to Redis at [::1]:1: "),
    ],
)
async def test_its_operators_read_why_there_is_no_connection(url, cause):
    refused = await refused_by(url)
    assert refused.for_operators.startswith(cause)
    assert refused.message == CALLERS_READ


async def test_a_name_that_leads_nowhere_is_said(monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused = await refused_by("redis://nowhere.invalid")
    assert refused.for_operators == "no connection to Redis at nowhere.invalid:6379: Name or service not known"


async def test_a_redis_that_was_only_slow_may_be_asked_again():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            await door.ping()
            server.stop()
            with pytest.raises(StateUnavailable) as refused:
                await door.ping()
            server.resume()
    assert refused.value.for_operators == refused.value.message == CALLERS_READ


async def test_a_server_that_does_not_know_auth_shows_the_password_to_nobody():
    async def echo(reader, writer):
        await reader.read(1_000)
        writer.write(b"-ERR unknown command `AUTH`, with args beginning with: `hunter2`\r\n-ERR no\r\n")
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        refused = await refused_by(f"redis://:hunter2@127.0.0.1:{port}")
    assert refused.for_operators.endswith("refuses: ERR unknown command `AUTH`, with args beginning with: `…`")


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://127.0.0.1", "sqlite:x.db", "redis+unknown://x"])
def test_another_scheme_is_refused_without_showing_the_url(url):
    with pytest.raises(ValueError, match="redis://") as refused:
        RedisDoor(url + "?password=hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1", ("127.0.0.1", 6379, 0, None, None)),
        ("redis://cache.internal:7000/3", ("cache.internal", 7000, 3, None, None)),
        ("redis://[::1]:6380/", ("::1", 6380, 0, None, None)),
        ("redis://:p%40ss%2Fword@h/1", ("h", 6379, 1, None, "p@ss/word")),
        ("redis://us%3Aer:pw@h", ("h", 6379, 0, "us:er", "pw")),
    ],
)
def test_a_url_says_where_redis_is_and_who_asks(url, address):
    assert WireAddress.of(url) == (*address, None)


def test_over_tls_the_server_is_verified():
    context = WireAddress.of("rediss://h").ssl_context
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_closing_can_be_repeated(redis_url):
    door = RedisDoor(redis_url)
    await door.ping()
    await door.close()
    await door.close()


def test_its_parser_is_imported_only_where_redis_is_configured():
    program = (
        "import sys, proxy.adapters.redis, proxy.identity.store, proxy.ledger.store, proxy.identity.authenticator;"
        "sys.exit('hiredis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


async def test_another_server_behind_the_same_address_is_noticed_on_a_new_connection():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            await door.ping()
            first = door.server_run_id
            assert len(first) == 40
            assert door.server_changes == 0
            await asyncio.gather(*(door.ping() for _ in range(10)))  # more connections, the same server
            assert door.server_changes == 0
            server.restart()
            for _ in range(100):
                with contextlib.suppress(StateUnavailable):
                    await door.ping()
                    break
                await asyncio.sleep(0.05)
            assert door.server_changes == 1
            assert door.server_run_id not in ("", first)


async def test_a_user_who_may_not_ask_for_the_server_is_served_all_the_same():
    with RedisServer() as server:
        server.ask("ACL", "SETUSER", "default", "-info")
        async with RedisDoor(server.url) as door:
            await door.ping()
            assert door.server_run_id == ""


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
async def test_a_redis_that_throws_things_away_is_refused(policy):
    with RedisServer("--maxmemory-policy", policy) as server:
        async with RedisDoor(server.url) as door:
            with pytest.raises(StateIncompatible, match=policy):
                await door.check_keeps_everything()


async def test_a_redis_that_keeps_everything_is_taken(door):
    await door.check_keeps_everything()
