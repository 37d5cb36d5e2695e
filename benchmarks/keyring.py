"""Measures what a stored provider key adds to a call: warm, and cold with a local KEK and with a KMS.

    python -m benchmarks.keyring                 # SQLite, and a Redis of its own
    python -m benchmarks.keyring --colds 2000

Warm is what the line does for nearly every call. Cold is a tenant's first call in 300 s: one round trip to the
store and one unwrap. The KMS is the tests' own over loopback, so its figure is the gateway's part of such a call,
boto3's included, and not the network's; AWS's own adds its few milliseconds.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import machine
from benchmarks.intervals import percentile
from proxy.adapters.kms import KmsDoor
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.core.secret import Secret
from proxy.keyring.aws_kek import AwsKek
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.kek import Kek
from proxy.keyring.keyring import Keyring
from proxy.keyring.local_kek import LocalKek
from proxy.keyring.store import KeyringStore, RedisKeyringStore
from tests.redis_server import RedisServer
from tests.strict_kms import StrictKms

ORIGIN: Final = "https://api.openai.com"
SECRET: Final = Secret("sk-proj-" + "x" * 156)
WARM_BATCH: Final = 1_000
WARM_BATCHES: Final = 200


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table, in microseconds for one call."""

    store: str
    kek: str
    what: str
    p50_us: float
    p99_us: float
    kms_calls: float  # for one call of the line, counted at the KMS


async def measure(store: KeyringStore, names: tuple[str, str], kek: Kek, colds: int, kms: StrictKms) -> list[Figure]:
    """The lines of one store and one KEK, as `names` calls them."""
    tenant_id = f"acme-{names[1]}"
    keyring = Keyring([kek], store, Clock(), print)
    await kek.connect()
    await keyring.put(tenant_id, "openai", None, ORIGIN, SECRET, 1)
    cold_us: list[float] = []
    calls_before = len(kms.calls)
    for _ in range(colds):
        keyring.drop(tenant_id)
        began_ns = time.perf_counter_ns()
        opened = await keyring.open(tenant_id, "openai", None)
        cold_us.append((time.perf_counter_ns() - began_ns) / 1e3)
        assert opened is not None
    kms_calls = len(kms.calls) - calls_before
    warm_us: list[float] = []
    for _ in range(WARM_BATCHES):
        began_ns = time.perf_counter_ns()
        for _ in range(WARM_BATCH):
            keyring.cached(tenant_id, "openai", None)
        warm_us.append((time.perf_counter_ns() - began_ns) / 1e3 / WARM_BATCH)
    await keyring.stop()
    return [_figure(names, "warm", warm_us, 0.0), _figure(names, "cold", cold_us, kms_calls / colds)]


def _figure(names: tuple[str, str], what: str, times_us: list[float], kms_calls: float) -> Figure:
    times_us.sort()
    return Figure(*names, what, round(percentile(times_us, 50), 2), round(percentile(times_us, 99), 2), kms_calls)


async def run(colds: int, folder: Path) -> list[Figure]:
    """Every line."""
    figures: list[Figure] = []
    with StrictKms() as kms:
        async with AsyncExitStack() as stack:
            for store_name, opening in (("SQLite", _sqlite(folder)), ("Redis", _redis())):
                store = await stack.enter_async_context(opening)
                local = LocalKek(Secret(base64.b64encode(os.urandom(32)).decode()))
                arn = kms.add_key()
                remote = AwsKek(arn, KmsDoor(arn, kms.url, lambda _name, _seconds: None))
                figures += await measure(store, (store_name, "local"), local, colds, kms)
                figures += await measure(store, (store_name, "KMS"), remote, colds, kms)
    return figures


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[KeyringStore]:
    async with SqliteDoor(folder / "tollway.db") as door:
        yield EmbeddedKeyringStore(door)


@asynccontextmanager
async def _redis() -> AsyncIterator[KeyringStore]:
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            yield RedisKeyringStore(door)


def table(figures: list[Figure]) -> str:
    """The figures, one a line."""
    heads = ("store", "KEK", "key", "p50 µs", "p99 µs", "KMS calls")
    rows = [
        heads,
        *((f.store, f.kek, f.what, f"{f.p50_us:,.2f}", f"{f.p99_us:,.2f}", f"{f.kms_calls:g}") for f in figures),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="What a stored provider key adds to a call.")
    parser.add_argument("--colds", type=int, default=500, help="cold calls for each line (default: 500)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), help="where keyring.json is written")
    arguments = parser.parse_args()
    # What boto3 needs to sign with; the KMS here takes any name.
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        tempfile.TemporaryDirectory(prefix="tollway-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(run(arguments.colds, Path(folder)))
    print(table(figures))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "keyring.json"
    document = {"machine": machine.describe(), "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
