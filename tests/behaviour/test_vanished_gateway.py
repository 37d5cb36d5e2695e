"""Promise: a gateway that vanishes in the middle of streams leaves nothing held, and each run its one row.

`TOLLWAY_KILLS=50` kills it fifty times; `make test` does it three times.
"""

import asyncio
import json
import os
import signal
import time

import pytest

from proxy.app import open_stores
from proxy.app.stores import Stores
from proxy.cli.configuration import read_configuration
from tests.command import Command
from tests.gateway import JSON, priced_to, raw_request
from tests.scripted_upstream import Do, scripted_upstream, stream, until

KILLS = int(os.environ.get("TOLLWAY_KILLS", "3"))
STREAMS = 4
LEASE_S = 2
ENDED_WITHIN_S = LEASE_S + 2
CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "priced", "stream": True, "max_tokens": 50, "messages": []}).encode()
HELD_NUSD = (len(BODY) + 2_048) * 1_000 + 50 * 4_000
EVENT = b'data: {"id":"c","model":"priced","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'


def configuration(upstream_url: str, state_url: str | None) -> str:
    url = "" if state_url is None else f'url = "{state_url}"\n'
    return f"""lease_s = {LEASE_S}
{url}
{priced_to(upstream_url)}
[plans.default.tenant]
usd_per_day = 100
"""


async def begun(gateway: Command, many: int) -> list[asyncio.Task[None]]:
    """So many streams, each of which has got its first event."""
    got = 0

    async def listen() -> None:
        nonlocal got
        has_event = False
        async for piece in raw_request(gateway, "POST", CHAT, BODY, [*JSON, (b"x-tollway-tenant", b"acme")]):
            if b"choices" in piece and not has_event:
                has_event = True
                got += 1

    streams = [asyncio.create_task(listen()) for _ in range(many)]
    await until(lambda: got == many, 20.0)
    return streams


async def held(stores: Stores) -> tuple[int, int]:
    scope = await stores.admission.read("acme", "tenant")
    return sum(amounts.held_nusd for amounts in scope.periods.values()), scope.periods["t"].spent_nusd


@pytest.mark.timeout(60 + 15 * KILLS)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_what_a_killed_gateway_held_is_free_within_its_lease(store, tmp_path, request):
    state_url = request.getfixturevalue("redis_url") if store == "redis" else None
    async with scripted_upstream(lambda _request: stream(EVENT, Do.HANG)) as upstream:
        command = Command(tmp_path, configuration(upstream.base_url, state_url))
        async with open_stores(read_configuration(str(command.path), {}).settings) as stores:
            if state_url is not None:
                await stores.door.call("FLUSHALL")  # type: ignore[union-attr]
            for kill in range(1, KILLS + 1):
                with command.serving(exit_code=-signal.SIGKILL):
                    streams = await begun(command, STREAMS)
                    assert (await held(stores))[0] // HELD_NUSD in (STREAMS, 2 * STREAMS)  # by day, and in all
                    command.signal(signal.SIGKILL)
                    killed_at_s = time.monotonic()
                    await asyncio.gather(*streams, return_exceptions=True)
                with command.serving():  # its successor, and nobody else, is there to sweep
                    while (await held(stores))[0]:
                        assert time.monotonic() - killed_at_s < ENDED_WITHIN_S + 3  # and what a start takes
                        await asyncio.sleep(0.05)
                _, spent_nusd = await held(stores)
                assert spent_nusd == kill * STREAMS * HELD_NUSD
            rows = [json.loads(data) for _, data in await stores.ledger.read("acme", limit=10_000)]
            assert len(rows) == len({row["run_id"] for row in rows}) == KILLS * STREAMS
            assert {row["usage_source"] for row in rows} == {"worst_case"}
            assert sum(row["charged_nusd"] for row in rows) == spent_nusd
