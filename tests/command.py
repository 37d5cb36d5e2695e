"""`python -m proxy`, as it is typed: the real command, in processes of its own."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parent.parent
_BOUND_S = 20.0
_DIRECT = build_opener(ProxyHandler({}))


@dataclass
class Command:
    """One configuration in one folder, and what is run with it. Ports are free ones.

    `first` is Python that runs in the gateway's process before the command does: a fault, or shorter times.
    """

    folder: Path
    text: str
    drain_s: float = 2
    workers: int = 1
    first: str = ""
    url: str = ""
    admin_url: str = ""

    def __post_init__(self) -> None:
        self.path = self.folder / "tollway.toml"
        self.write(self.text)

    def write(self, text: str) -> None:
        """Put another configuration in the file; ports and folder stay."""
        server = f'[server]\nbind = "127.0.0.1:0"\nadmin_bind = "127.0.0.1:0"\ndrain_s = {self.drain_s}\n'
        server += f"workers = {self.workers}\n" if self.workers > 1 else ""
        state = f'[state]\nfolder = "{self.folder / "state"}"\n'
        # Rows stay in the store, where tests read them.
        ledger = "" if "[ledger]" in text else '\n[ledger]\nsink = "none"\n'
        self.path.write_text(server + state + text + ledger)

    @property
    def port(self) -> int:
        """Of the data plane."""
        return int(self.url.rpartition(":")[2])

    @property
    def admin_port(self) -> int:
        """Of health and metrics."""
        return int(self.admin_url.rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        """Tell the gateway something."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the gateway's end; its exit code. The loop turns on meanwhile."""
        return await asyncio.to_thread(self.process.wait, _BOUND_S)

    @property
    def errors(self) -> str:
        """What it said on standard error."""
        return (self.folder / "stderr.txt").read_text()

    def run(self, *words: str) -> dict[str, Any]:
        """A command that ends by itself: what it answers for programs."""
        typed = [sys.executable, "-m", "proxy", *words, "--json", "--config", str(self.path)]
        done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, timeout=_BOUND_S, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextmanager
    def launched(self) -> Iterator["Command"]:
        """The gateway, from when its process is there. Whoever waits for nothing finds it at any point of its start."""
        run = [sys.executable, "-m", "proxy"]
        if self.first:
            command = "import runpy; runpy.run_module('proxy', run_name='__main__', alter_sys=True)"
            run = [sys.executable, "-c", f"{self.first}\n{command}"]
        with (self.folder / "stdout.txt").open("wb") as output, (self.folder / "stderr.txt").open("wb") as error_output:
            typed = [*run, "serve", "--config", str(self.path)]
            self.process = subprocess.Popen(typed, cwd=ROOT, stdout=output, stderr=error_output)
        try:
            yield self
        finally:
            self.process.kill()
            self.process.wait(_BOUND_S)

    @contextmanager
    def serving(self, exit_code: int = 0) -> Iterator["Command"]:
        """The gateway, from both ports' being open until it has ended, on SIGTERM if not before."""
        with self.launched():
            self.url, self.admin_url = _announced(self.process, self.folder / "stderr.txt")
            yield self
            self.process.terminate()
            assert self.process.wait(_BOUND_S) == exit_code, self.errors

    def metric(self, line: str) -> float:
        """A metric's value as the admin port tells it, by its line less the value."""
        with _DIRECT.open(f"{self.admin_url}/metrics", timeout=_BOUND_S) as answer:
            rows = answer.read().decode().splitlines()
        return next((float(row.rsplit(" ", 1)[1]) for row in rows if row.startswith(line + " ")), 0.0)

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log. Whole once the gateway has ended."""
        return [json.loads(line) for line in (self.folder / "stdout.txt").read_text().splitlines()]


def _announced(process: subprocess.Popen[bytes], errors: Path) -> tuple[str, str]:
    deadline_s = time.monotonic() + _BOUND_S
    while time.monotonic() < deadline_s:
        lines = errors.read_text().splitlines()
        told = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(("Tollway listens", "Health and metrics"))]
        if len(told) == 2:
            return told[0], told[1]
        assert process.poll() is None, errors.read_text()
        time.sleep(0.01)
    raise AssertionError(f"it did not start in time: {errors.read_text()}")
