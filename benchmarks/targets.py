"""What is measured: two addresses that were given, or an upstream and a gateway started for it."""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 10.0
_POLL_S: Final = 0.005
_CPUCLOCK_SCHED: Final = 2
_LOG_SHOWN_CHARS_MAX: Final = 2_000
_ROOT: Final = Path(__file__).resolve().parent.parent
PASSTHROUGH: Final = """\
[server]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin_port}"
drain_s = 1

[state]
folder = "{folder}"

[auth]
mode = "passthrough"
default_provider = "bench"

[providers.bench]
dialect = "openai"
base_url = "{upstream}"
"""


class StartFailed(Exception):
    """A process that the benchmark needs did not start."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where to send, and which core the load generator has."""

    direct: str
    gateway: str
    load_cpu: int | None
    layout: str  # who ran where, in words
    load_average: float  # of the machine, over the minute before the benchmark
    gateway_pid: int | None = None

    def gateway_cpu_s(self) -> float | None:
        """The CPU time that the gateway has used so far; None where it is not ours to see."""
        return None if self.gateway_pid is None else cpu_s(self.gateway_pid)

    def gateway_rss_mb(self) -> float | None:
        """The gateway's memory, in MB; None where it is not ours to see."""
        return None if self.gateway_pid is None else rss_mb(self.gateway_pid)


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used so far, all its threads together."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)  # clock_getcpuclockid(3), which Python does not have


def rss_mb(pid: int) -> float:
    """A process's resident memory, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1_024 / 1_000_000 for line in status if line.startswith("VmRSS"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every benchmark takes to name what it measures."""
    parser.add_argument("--gateway", metavar="URL", help="a gateway's base URL, ending in /v1")
    parser.add_argument("--direct", metavar="URL", help="the upstream's base URL that this gateway sends to")
    parser.add_argument("--model", help="the model to name (default: one of the simulated provider)")
    parser.add_argument("--token", default="sk-benchmark", help="the bearer token (default: %(default)s)")
    parser.add_argument("--load-cpu", type=int, metavar="N", help="the core to keep the load generator on")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write (default: %(default)s)"
    )


@contextmanager
def targets(arguments: argparse.Namespace, *, stamps_events: bool = False) -> Iterator[Targets]:
    """What the arguments name; with neither address, our own gateway before the simulated provider.

    Raises:
        StartFailed: a process did not start.
    """
    if (arguments.gateway is None) != (arguments.direct is None):
        raise StartFailed("Give both --gateway and --direct, or neither.")
    if arguments.gateway is not None:
        place = "where the system put it" if arguments.load_cpu is None else f"on core {arguments.load_cpu}"
        layout = f"load generator {place}; the rest as it was found"
        yield Targets(arguments.direct, arguments.gateway, arguments.load_cpu, layout, os.getloadavg()[0])
        return
    with own_targets(stamps_events=stamps_events) as own:
        yield own


@contextmanager
def own_targets(
    *, stamps_events: bool = False, template: str = PASSTHROUGH, gateway: Sequence[str] = ("-m", "proxy")
) -> Iterator[Targets]:
    """The simulated upstream and `tollway serve` in front of it, with that configuration. `gateway` is what Python
    runs as the command `tollway`."""
    load_average = os.getloadavg()[0]
    gateway_cpu, load_cpu = cores()
    layout = layout_of(gateway_cpu, load_cpu)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollway-bench-")))
        flags = ["--stamp-events"] if stamps_events else []
        upstream_port, port, admin_port = free_port(), free_port(), free_port()
        command = ["-m", "benchmarks.simulated_upstream", "--port", str(upstream_port), *flags]
        stack.enter_context(running("upstream", command, folder, load_cpu, upstream_port))
        upstream = f"http://127.0.0.1:{upstream_port}/v1"
        config = folder / "bench.toml"
        text = config_text(folder / "state", port=port, admin_port=admin_port, upstream=upstream, template=template)
        config.write_text(text, encoding="utf-8")
        command = [*gateway, "serve", "--config", str(config)]
        pid = stack.enter_context(running("gateway", command, folder, gateway_cpu, port))
        yield Targets(upstream, f"http://127.0.0.1:{port}/v1", load_cpu, layout, load_average, pid)


def cores() -> tuple[int | None, int | None]:
    """The gateway's core and the load generator's; None where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return (cpus[0], cpus[-1]) if len(cpus) > 1 else (None, None)


def layout_of(gateway_cpu: int | None, load_cpu: int | None) -> str:
    """Who runs where, in words."""
    if gateway_cpu is None:
        return "gateway, load generator and upstream share the one core"
    return f"gateway (1 process) on core {gateway_cpu}, load generator and upstream on core {load_cpu}"


def config_text(state_folder: Path, *, port: int, admin_port: int, upstream: str, template: str = PASSTHROUGH) -> str:
    """The gateway's configuration; as it comes, passthrough to one provider, the embedded store, nothing else on."""
    return template.format(port=port, admin_port=admin_port, folder=state_folder, upstream=upstream)


@contextmanager
def running(
    name: str, command: list[str], folder: Path, cpu: int | None, port: int, program: str = sys.executable
) -> Iterator[int]:
    """A process, of Python if nothing else is named, that listens on a port until the block ends. Gives its id.

    Raises:
        StartFailed: it ended, or did not listen in time; with the end of what it printed.
    """
    log_path = folder / f"{name}.log"
    # What is installed has its bytecode: a process that compiles itself starts in twice the time, and larger.
    environ = {variable: value for variable, value in os.environ.items() if variable != "PYTHONDONTWRITEBYTECODE"}
    with log_path.open("wb") as log:
        process = subprocess.Popen([program, *command], cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT, env=environ)
    try:
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        _wait_until_listening(name, process, port, log_path)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(name: str, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    until_s = time.monotonic() + START_S_MAX
    while time.monotonic() < until_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return
    printed = log_path.read_text(encoding="utf-8", errors="replace")[-_LOG_SHOWN_CHARS_MAX:]
    raise StartFailed(f"The {name} did not start. It printed:\n{printed}")
