"""Measures what `tollway usage` over a long ledger costs the calls that are made meanwhile.

    python -m benchmarks.usage                     # 340,000 rows in the sink, beside the embedded store
    python -m benchmarks.usage --redis             # the same beside a Redis of its own

The gateway has a rate limit on, so each call is admitted and settled in the store that the command
reads. Direct and gateway calls alternate, with the command and without it: the command runs on the
core of the load generator, so what it costs the generator shows in the direct calls as well.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks import comparison, report
from benchmarks.comparison import Pair
from benchmarks.latency import MODEL, ROUND_S, body
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.targets import StartFailed, Targets, config_text, free_port, running
from proxy.ledger.cursor import Cursor
from proxy.ledger.entry import Entry, encode
from proxy.ledger.page import seal
from proxy.ledger.sink import page_name
from tests.redis_server import RedisServer

PAGE_ROWS: Final = 1_000
TENANTS: Final = ("acme", "default", "globex", "initech")
BLOCKS: Final = 3  # of rounds without the command and beside it, by turns
_LIMITS: Final = """
[plans.default.tenant]
requests_per_minute = 60_000_000
"""
_ROOT: Final = Path(__file__).resolve().parent.parent


def row(tenant_id: str, number: int) -> bytes:
    """One run's row, as a gateway writes it."""
    at_s = 1_790_000_000 + number * 7
    entry = Entry(
        run_id=f"run_{at_s * 1_000:012x}{number:020x}",
        started_at=time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at_s)),
        kind="run",
        adjusts=None,
        tenant=tenant_id,
        user=f"user-{number % 500}",
        feature=("report", "chat", "search")[number % 3],
        virtual_key_id=f"vk_{number % 20:016x}",
        prompt_id=None,
        prompt_version=None,
        config_version="0123456789ab",
        endpoint="chat_completions",
        requested_model=("gpt-5", "gpt-5-mini")[number % 2],
        rule=None,
        split=None,
        served_model="gpt-5-2026-08-07",
        provider="openai",
        deployment="openai/gpt-5",
        attempts=1,
        given_up=None,
        fallback_reason=None,
        translated=None,
        dropped_fields=None,
        stream=False,
        status=200,
        error_source=None,
        input_tokens=1_000 + number % 777,
        cached_input_tokens=0,
        cache_write_tokens=0,
        output_tokens=200,
        reasoning_tokens=64,
        usage_source="exact",
        price_version="2026-11-20",
        held_nusd=90_000_000,
        cost_nusd=3_250_000,
        charged_nusd=3_250_000,
        absorbed_nusd=0,
        saved_nusd=None,
        key_source="gateway",
        cache=None,
        latency_ms=812.3,
        first_byte_ms=790.1,
        overhead_us=310,
    )
    return encode(entry).data


def fill(folder: Path, rows: int) -> None:
    """Write a sink's pages: so many rows, spread over the tenants."""
    for tenant_id in TENANTS:
        (folder / tenant_id).mkdir(parents=True, mode=0o700)
        cursor = Cursor()
        for first in range(0, rows // len(TENANTS), PAGE_ROWS):
            some = [(first + n + 1, row(tenant_id, first + n)) for n in range(PAGE_ROWS)]
            page = seal(tenant_id, cursor, some)
            (folder / tenant_id / page_name(page.header.number)).write_bytes(page.data)
            cursor = page.header.cursor


class Command:
    """`tollway usage`, again and again, on a core."""

    def __init__(self, config: Path, cpu: int | None) -> None:
        self._command = [
            sys.executable,
            "-m",
            "proxy",
            "usage",
            "--config",
            str(config),
            "--by",
            "user,model,day",
            "--json",
        ]
        self._cpu = cpu
        self.seconds: list[float] = []

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """It runs for as long as the block does, and to its end."""
        ending = threading.Event()
        thread = threading.Thread(target=self._repeat, args=(ending,))
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def _repeat(self, ending: threading.Event) -> None:
        while not ending.is_set():
            begun_s = time.monotonic()
            process = subprocess.Popen(self._command, cwd=_ROOT, stdout=subprocess.DEVNULL)
            if self._cpu is not None:
                os.sched_setaffinity(process.pid, {self._cpu})
            if process.wait() != 0:
                raise StartFailed("`tollway usage` failed")
            self.seconds.append(time.monotonic() - begun_s)


@contextmanager
def beside(arguments: argparse.Namespace) -> Iterator[tuple[Targets, Command]]:
    """The upstream, the gateway with its long ledger, and the command. Raises StartFailed."""
    load_average = os.getloadavg()[0]
    cpus = sorted(os.sched_getaffinity(0))
    gateway_cpu, load_cpu = (cpus[0], cpus[-1]) if len(cpus) > 1 else (None, None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollway-bench-")))
        fill(folder / "state" / "ledger", arguments.rows)
        url = ""
        if arguments.redis:
            os.sched_setaffinity(0, {cpus[-1]})
            url = f'\nurl = "{stack.enter_context(RedisServer()).url}"'
            os.sched_setaffinity(0, set(cpus))
        upstream_port, port, admin_port = free_port(), free_port(), free_port()
        command = ["-m", "benchmarks.simulated_upstream", "--port", str(upstream_port)]
        stack.enter_context(running("upstream", command, folder, load_cpu, upstream_port))
        upstream = f"http://127.0.0.1:{upstream_port}/v1"
        text = config_text(folder / "state", port=port, admin_port=admin_port, upstream=upstream)
        config = folder / "bench.toml"
        config.write_text(text.replace("[auth]", f"{url}\n[auth]".lstrip(), 1) + _LIMITS, encoding="utf-8")
        command = ["-m", "proxy", "serve", "--config", str(config)]
        pid = stack.enter_context(running("gateway", command, folder, gateway_cpu, port))
        layout = f"gateway on core {gateway_cpu}; load generator, upstream, store and command on core {load_cpu}"
        at = Targets(upstream, f"http://127.0.0.1:{port}/v1", load_cpu, layout, load_average, pid)
        yield at, Command(config, load_cpu)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.usage", description="What `tollway usage` costs the calls that are made meanwhile."
    )
    parser.add_argument("--rows", type=int, default=340_000, help="in the sink (default: %(default)s)")
    parser.add_argument("--redis", action="store_true", help="beside a Redis of its own, instead of the embedded store")
    parser.add_argument("--pairs", type=int, default=12, help="of rounds in each block (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=1, help="with a request outstanding (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    arguments = parser.parse_args()
    progress = report.Progress(2 * BLOCKS * arguments.pairs)
    alone: list[Pair] = []
    meanwhile: list[Pair] = []
    try:
        with beside(arguments) as (at, command), LoadProcess(at.load_cpu) as load:
            sent = body(MODEL, stream=False)
            direct = Round(at.direct, sent, "sk-benchmark", arguments.connections, ROUND_S)
            gateway = Round(at.gateway, sent, "sk-benchmark", arguments.connections, ROUND_S)
            for _ in range(BLOCKS):
                progress.show("without the command")
                alone += comparison.alternate(load, direct, gateway, arguments.pairs, progress.step)
                progress.show("beside the command")
                with command.repeated():
                    meanwhile += comparison.alternate(load, direct, gateway, arguments.pairs, progress.step)
            found = [
                comparison.compare(name, "to the last byte", pairs, lambda sample: sample.latencies_ns)
                for name, pairs in (("without the command", alone), ("beside `tollway usage`", meanwhile))
            ]
            facts = report.circumstances(at, found, ROUND_S, comparison.busiest_pct(alone + meanwhile))
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    facts["command"] = (
        f"run {len(command.seconds)} times over {arguments.rows:,} rows, {min(command.seconds):.1f} s at best"
    )
    report.publish("usage", "Calls beside `tollway usage`", found, facts, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
