"""Promise: gateways that share a Redis share its caps: 500 calls over four of them, for a cap that fits 10, are 10."""

import asyncio
import json
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.command import Command
from tests.gateway import JSON, plain_request, priced_to
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream, until

CHAT = "/v1/chat/completions"
PROCESSES, CALLS, FIT = 4, 500, 10
BODY = json.dumps({"model": "priced", "max_tokens": 100, "messages": []}).encode()
HELD_NUSD = (len(BODY) + 2_048) * 1_000 + 100 * 4_000
USED = answer(b'{"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}')
COST_NUSD = 5 * 1_000 + 9 * 4_000


def configuration(upstream: ScriptedUpstream, redis_url: str, ledger: Path) -> str:
    return f"""url = "{redis_url}"
{priced_to(upstream.base_url)}
[plans.default.tenant]
usd_per_day = {FIT * HELD_NUSD / 1e9:.9f}
[ledger]
sink = "folder:{ledger}"
"""


async def until_decided(gateway: Command) -> tuple[int, bytes]:
    """A call as the SDKs make it: 503 is no decision, and is tried again."""
    while True:
        status, _, body = await plain_request(gateway, "POST", CHAT, BODY, [*JSON, (b"x-tollway-tenant", b"four")])
        if status != 503:
            return status, body
        await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
async def test_four_gateways_admit_what_fits_and_not_one_more(tmp_path, redis_url):
    decided = asyncio.Event()
    async with scripted_upstream(USED) as upstream:
        original = upstream.serve

        async def waiting(reader, writer):
            await decided.wait()
            await original(reader, writer)

        upstream.serve = waiting  # type: ignore[method-assign]
        with ExitStack() as stack:
            gateways = []
            text = configuration(upstream, redis_url, tmp_path / "ledger")
            for number in range(PROCESSES):
                folder = tmp_path / str(number)
                folder.mkdir()
                gateways.append(stack.enter_context(Command(folder, text).serving()))
            calls = [asyncio.ensure_future(until_decided(one)) for one in islice(cycle(gateways), CALLS)]
            await until(lambda: sum(call.done() for call in calls) >= CALLS - FIT, 120.0)
            await asyncio.sleep(0.5)
            assert sum(call.done() for call in calls) == CALLS - FIT  # the others are held up at the provider
            decided.set()
            statuses = [status for status, _ in await asyncio.gather(*calls)]
            assert statuses.count(200) == FIT
            assert statuses.count(429) == CALLS - FIT
        rows = gateways[0].run("usage", "--tenant", "four")["groups"]
        assert [(row["runs"], row["charged_nusd"]) for row in rows] == [(FIT, FIT * COST_NUSD)]
