"""What the cache saves on a trace of calls, and what a hit costs.

    python -m benchmarks.cache
    python -m benchmarks.cache --calls 8000 --repeats 25

The trace: chats, classifications and embeddings of four tenants, of which so many per cent were sent before. It is
played to a gateway with the cache off, with `deterministic` and with `all`; then one call is sent again and again (for
misses with another number in each), and its time set beside a direct call to the same provider, by turns in one run.
"""

import argparse
import asyncio
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import httpx

from benchmarks import comparison, machine
from benchmarks.intervals import Interval
from benchmarks.load import NUMBER, LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.report import Progress
from benchmarks.simulated_upstream import COUNT_PATH
from benchmarks.targets import StartFailed, Targets, own_targets
from tests.redis_server import RedisServer

TENANTS: Final = ("acme", "globex", "initech", "umbrella")
CONNECTIONS: Final = 8
WORDS: Final = "toll lane bridge ticket axle barrier coach ferry gate highway invoice journey kerb lorry".split()
PAIRS: Final = 9
ROUND_S: Final = 0.8

_COMMON: Final = """\
[server]
bind = "127.0.0.1:{{port}}"
admin_bind = "127.0.0.1:{{admin_port}}"
drain_s = 1
[auth]
mode = "trusted-headers"
[providers.bench]
base_url = "{{upstream}}"
[[models.simulated.deployments]]
provider = "bench"
model = "simulated"
price = {{{{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 4.0 }}}}
[[models.simulated-embedding.deployments]]
provider = "bench"
model = "simulated-embedding"
price = {{{{ input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.0 }}}}
[state]
folder = "{{folder}}"
{state}
[cache]
{cache}
{tenants}
"""


@dataclass(frozen=True, slots=True)
class Played:
    """A trace under one mode."""

    mode: str
    calls: int
    repeats_pct: float
    hits: int
    hit_pct: float
    asked: int  # calls that reached the provider, by its own count
    spent_usd: float
    saved_usd: float
    saved_pct: float


@dataclass(frozen=True, slots=True)
class Added:
    """What a call through the gateway takes more than a direct one. Milliseconds, with 95 % intervals."""

    what: str
    p50_ms: Interval
    p99_ms: Interval
    per_s: Interval


def trace(calls: int, repeats_pct: int, seed: int) -> list[tuple[str, str, bytes]]:
    """Calls as (tenant, path, body): so many per cent were sent before by the same tenant, popular ones more often."""
    rng = random.Random(seed)
    sent: dict[str, list[tuple[str, bytes]]] = {tenant: [] for tenant in TENANTS}
    played = []
    for number in range(calls):
        tenant = rng.choice(TENANTS)
        before = sent[tenant]
        if before and rng.random() * 100 < repeats_pct:
            path, body = before[int(len(before) * rng.random() ** 3)]  # the older, the more popular
        else:
            path, body = _call(rng, number)
            before.append((path, body))
        played.append((tenant, path, body))
    return played


def _call(rng: random.Random, number: int) -> tuple[str, bytes]:
    text = f"{number}: " + " ".join(rng.choices(WORDS, k=rng.randrange(20, 200)))
    kind = rng.random()
    if kind < 0.4:
        return "/embeddings", json.dumps({"model": "simulated-embedding", "input": text}).encode()
    messages = [{"role": "system", "content": "Say in one word what this is about."}, {"role": "user", "content": text}]
    document: dict[str, object] = {"model": "simulated", "messages": messages}
    if kind < 0.7:
        document["temperature"] = 0
    return "/chat/completions", json.dumps(document).encode()


def configuration(mode: str, *, state: str = "", cache: str = "") -> str:
    """A gateway's configuration, for `own_targets` to fill in."""
    tenants = "\n".join(f'[tenants.{tenant}]\ncache = {{{{ mode = "{mode}" }}}}' for tenant in (*TENANTS, "default"))
    return _COMMON.format(state=state, cache=cache, tenants=tenants)


async def play(at: Targets, calls: list[tuple[str, str, bytes]]) -> tuple[int, int, float, float]:
    """The trace, over a few connections: how many were hits and how many the provider was asked, what the others cost,
    what was saved."""
    waiting, hits, spent_usd, saved_usd = iter(calls), 0, 0.0, 0.0

    async def connection(client: httpx.AsyncClient) -> None:
        nonlocal hits, spent_usd, saved_usd
        for tenant, path, body in waiting:
            headers = {"x-tollway-tenant": tenant, "content-type": "application/json"}
            answer = await client.post(at.gateway + path, content=body, headers=headers)
            answer.raise_for_status()
            hits += answer.headers.get("x-tollway-cache") == "hit"
            spent_usd += float(answer.headers.get("x-tollway-cost-usd", 0))
            saved_usd += float(answer.headers.get("x-tollway-saved-usd", 0))

    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(*(connection(client) for _ in range(CONNECTIONS)))
        asked = int((await client.get(at.direct.removesuffix("/v1") + COUNT_PATH)).text)
    return hits, asked, spent_usd, saved_usd


def traced(arguments: argparse.Namespace, progress: Progress) -> list[Played]:
    """The trace under each mode."""
    calls = trace(arguments.calls, arguments.repeats, arguments.seed)
    repeats = len(calls) - len(set(calls))
    found = []
    for mode in ("off", "deterministic", "all"):
        progress.show(f"the trace, {mode}")
        with own_targets(template=configuration(mode)) as at:
            hits, asked, spent_usd, saved_usd = asyncio.run(play(at, calls))
        whole_usd = spent_usd + saved_usd
        found.append(
            Played(
                mode,
                len(calls),
                100 * repeats / len(calls),
                hits,
                100 * hits / len(calls),
                asked,
                spent_usd,
                saved_usd,
                100 * saved_usd / whole_usd if whole_usd else 0.0,
            )
        )
        progress.step()
    return found


@contextmanager
def _places() -> Iterator[dict[str, tuple[str, bool]]]:
    """Where an answer comes from: the configuration for it, and whether no two calls may be the same."""
    with ExitStack() as stack:
        state, kept = stack.enter_context(RedisServer()), stack.enter_context(RedisServer())
        url = f'url = "{state.url}"'
        cached = f'{url}\ncache_url = "{kept.url}"'
        yield {
            "a call that is made, caching off, state in Redis": (configuration("off", state=url), False),
            "a miss, kept in the process and in Redis, state in Redis": (configuration("all", state=cached), True),
            "a hit from the process, state in Redis": (configuration("all", state=url), False),
            "a hit from Redis, state in Redis": (
                configuration("all", state=cached, cache="memory_bytes_max = 0"),
                False,
            ),
            "a hit from the process, state in SQLite": (configuration("all"), False),
        }


def added(load: LoadProcess, arguments: argparse.Namespace, progress: Progress) -> list[Added]:
    """One call again and again, against a direct call, by turns."""
    found = []
    messages = [{"role": "user", "content": "What does a tollway cost? " * 36 + NUMBER.decode()}]
    body = json.dumps({"model": "simulated", "temperature": 0, "messages": messages}).encode()
    with _places() as places:
        for what, (text, is_numbered) in places.items():
            progress.show(what)
            with own_targets(template=text) as at:
                direct, gateway = (
                    Round(url, body, "", 1, ROUND_S, tenant="default", is_numbered=is_numbered)
                    for url in (at.direct, at.gateway)
                )
                pairs = comparison.alternate(load, direct, gateway, arguments.pairs, progress.step)
            each = comparison.compare(what, "to the last byte", pairs, lambda sample: sample.latencies_ns)
            found.append(Added(what, each.added_ms[50], each.added_ms[99], each.gateway_per_s))
    return found


def tables(played: list[Played], figures: list[Added]) -> str:
    """Both, as text."""
    heads = ("mode", "calls", "repeats", "hits", "hit rate", "asked of the provider", "spent", "saved", "of all")
    rows = [
        (
            each.mode,
            f"{each.calls:,}",
            f"{each.repeats_pct:.1f} %",
            f"{each.hits:,}",
            f"{each.hit_pct:.1f} %",
            f"{each.asked:,}",
            f"${each.spent_usd:.4f}",
            f"${each.saved_usd:.4f}",
            f"{each.saved_pct:.1f} %",
        )
        for each in played
    ]
    added_heads = ("against a direct call", "added p50 ms", "added p99 ms", "calls/s")
    added_rows = [(each.what, _ms(each.p50_ms), _ms(each.p99_ms), f"{each.per_s.value:,.0f}") for each in figures]
    return "\n\n".join((_aligned([heads, *rows]), _aligned([added_heads, *added_rows])))


def _ms(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cache", description="What the cache saves on a trace, and what a hit costs."
    )
    parser.add_argument("--calls", type=int, default=4_000, help="in the trace (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=25, metavar="PCT", help="sent before (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the trace (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="rounds on each side (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    arguments = parser.parse_args()
    progress = Progress(3 + 5 * arguments.pairs)
    try:
        with LoadProcess(max(os.sched_getaffinity(0))) as load:
            played, figures = traced(arguments, progress), added(load, arguments, progress)
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    print(tables(played, figures))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "cache.json"
    document = {"machine": machine.describe(), "trace": [asdict(each) for each in played]}
    document["added"] = [asdict(each) for each in figures]
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
