"""A gateway of a given size: its configuration, its virtual keys, its process, and what can be seen of that."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.latency import body
from benchmarks.load import Round
from benchmarks.targets import StartFailed, config_text, free_port, running
from proxy.adapters.redis import RedisDoor
from proxy.adapters.redis_wire import Argument, Reply
from proxy.adapters.sqlite import Result, SqliteDoor, Step
from proxy.core.errors import StateUnavailable
from proxy.core.secret import Secret
from proxy.identity.embedded import EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.identity.virtual_key import (
    ID_RANDOM_BYTES,
    TOKEN_RANDOM_BYTES,
    digest,
    issue,
    mint,
    mint_id,
    pepper_fingerprint,
)
from proxy.settings.load import VERSION_CHARS

RELOAD_S_MAX: Final = 20.0
LOOK_EVERY_S: Final = 0.01  # at /readyz, between two calls
AFTER_RELOAD_S: Final = 0.3  # watched as well: what the old snapshot leaves is freed then
_ANSWER_S_MAX: Final = 20.0
_TOGETHER: Final = 2_000  # virtual keys that are put in one transaction
_TOGETHER_REDIS: Final = 100  # or sent to Redis at once: it answers within a call's 250 ms
_TRIES_MAX: Final = 20  # on a busy machine; a put can be repeated
_DATABASE: Final = "tollway.db"

_HEAD: Final = """\
[server]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin_port}"
drain_s = 1

[state]
folder = "{folder}"
url = "URL"

[providers.bench]
base_url = "{upstream}"

[plans.default.tenant]
requests_per_minute = 60_000_000
usd_per_day = 1_000_000

[plans.default.virtual_key]
requests_per_minute = 60_000_000

[plans.pro.tenant]
requests_per_minute = 60_000_000
usd_per_month = 4_000_000
"""


class Size(NamedTuple):
    """How much a gateway has to know."""

    tenants: int  # in the configuration
    virtual_keys: int  # in the state store, by turns of these tenants
    models: int  # in the configuration, a deployment each

    def __str__(self) -> str:
        return f"{self.tenants:,} / {self.virtual_keys:,} / {self.models:,}"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """One reload, and how its callers fared. Milliseconds."""

    in_force_ms: float  # from the signal until `/readyz` shows the version
    stall_ms: float  # the longest that a call, or a look at `/readyz`, took meanwhile and just after
    refused: int  # calls that were answered otherwise than 200


def tenant_id(number: int) -> str:
    """A tenant's id."""
    return f"tenant-{number:05}"


def alias(number: int) -> str:
    """A model's alias."""
    return f"model-{number:04}"


def configuration(size: Size, state_url: str = f"sqlite:{_DATABASE}") -> str:
    """A template of `targets.config_text`. No two models are the same deployment: the simulated provider answers
    a plain call to `simulated-every7ms` like any other."""
    parts = [_HEAD.replace("URL", state_url)]
    for number in range(size.tenants):
        plan = "pro" if number % 2 else "default"
        parts.append(
            f'\n[tenants.{tenant_id(number)}]\nplan = "{plan}"\ntimezone = "Europe/Berlin"\nfallback = "equivalent"\n'
        )
    for number in range(size.models):
        parts.append(
            f'\n[[models."{alias(number)}".deployments]]\nprovider = "bench"\nmodel = "simulated-every{number}ms"\n'
            f"price = {{{{ input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.4 }}}}\nmax_output_tokens = 4_096\n"
        )
    return "".join(parts)


# ── its virtual keys ─────────────────────────────────────────────────────────────────────


class _OneTransaction(SqliteDoor):
    """Runs each step at once, in the transaction that whoever made it has begun."""

    __slots__ = ("_open_connection",)

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(path)
        self._open_connection = connection

    async def run(self, step: Step[Result]) -> Result:
        return step(self._open_connection)


class _Collected(RedisDoor):
    """Keeps commands, to be sent together; what they answer nobody hears."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commands: list[Sequence[Argument]] = []

    async def call(self, *command: Argument) -> Reply:
        self.commands.append(command)
        return None

    async def send(self) -> None:
        for _ in range(_TRIES_MAX - 1):
            with contextlib.suppress(StateUnavailable):
                await self.call_many(self.commands)
                break
        else:
            await self.call_many(self.commands)
        self.commands.clear()


async def store_virtual_keys(size: Size, folder: Path, redis_url: str | None) -> list[str]:
    """Issue them, and put them into the store as the store itself does, many at once. Gives their tokens.

    `folder` is the state folder, and is there.
    """
    pepper = pepper_bytes(load_or_make_pepper(folder))
    chance, tokens = random.Random(size.virtual_keys), []
    if redis_url is not None:
        async with _Collected(redis_url) as collected:
            for first in range(0, size.virtual_keys, _TOGETHER_REDIS):
                numbers = range(first, min(first + _TOGETHER_REDIS, size.virtual_keys))
                tokens += await _put_some(RedisVirtualKeyStore(collected), size, numbers, pepper, chance)
                await collected.send()
        return tokens
    path = folder / _DATABASE
    async with SqliteDoor(path) as door:
        await door.ping()  # makes the tables
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        store = EmbeddedVirtualKeyStore(_OneTransaction(connection, path))
        for first in range(0, size.virtual_keys, _TOGETHER):
            connection.execute("BEGIN")
            numbers = range(first, min(first + _TOGETHER, size.virtual_keys))
            tokens += await _put_some(store, size, numbers, pepper, chance)
            connection.execute("COMMIT")
    finally:
        connection.close()
    return tokens


async def _put_some(
    store: VirtualKeyStore, size: Size, numbers: range, pepper: bytes, chance: random.Random
) -> list[str]:
    tokens = []
    for number in numbers:
        token: Secret = mint(chance.randbytes(TOKEN_RANDOM_BYTES))
        virtual_key = issue(
            tenant_id=tenant_id(number % size.tenants),
            token=token,
            virtual_key_id=mint_id(chance.randbytes(ID_RANDOM_BYTES)),
            now_ms=1_790_000_000_000,
        )
        await store.put(virtual_key, digest(token.reveal(), pepper), pepper_fingerprint(pepper))
        tokens.append(token.reveal())
    return tokens


# ── its process ──────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class ScaledGateway:
    """A gateway that runs, and its callers' tokens."""

    size: Size
    port: int
    admin_port: int
    pid: int
    config: Path
    text: str
    tokens: Sequence[str] = field(repr=False)
    start_s: float  # from the start of the process to the first answer
    reloads: int = 0

    def bodies(self) -> list[bytes]:
        """A call to each model, all of one length."""
        return [body(alias(number), stream=False) for number in range(self.size.models)]

    def round(
        self,
        callers: int,
        *,
        seconds: float,
        connections: int,
        seed: int | None,
    ) -> Round:
        """A round of calls of the first so many virtual keys, to every model."""
        bodies = self.bodies()
        return Round(
            f"http://127.0.0.1:{self.port}/v1",
            bodies[0],
            "",
            connections,
            seconds,
            tokens=self.tokens[:callers],
            bodies=bodies,
            seed=seed,
        )

    def rss_mb(self) -> float:
        """Its memory."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1_024 / 1e6 for line in status if line.startswith("VmRSS"))

    def cpu_ns(self) -> int:
        """The CPU time of all its threads so far."""
        # clock_getcpuclockid(3): the kernel's number of a process's clock; finer than /proc's hundredths of a second.
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def scrape_ms(self) -> float:
        """How long the metrics take to be read."""
        connection = _connection(self.admin_port)
        try:
            return _timed_ms(connection, "GET", "/metrics")[0]
        finally:
            connection.close()

    def watch(self, seconds: float) -> float:
        """One call after the other for so long; the longest, in ms."""
        with _watcher(self) as watcher:
            until_s = time.perf_counter() + seconds
            while time.perf_counter() < until_s:
                watcher.call()
        return watcher.longest_ms

    def reload(self) -> Reloaded:
        """Write the configuration anew and send SIGHUP, while one call follows the other.

        Raises:
            StartFailed: the new one was not in force in time.
        """
        self.reloads += 1
        text = f"{self.text}\n# {self.reloads}\n"
        version = hashlib.sha256(text.encode()).hexdigest()[:VERSION_CHARS]
        self.config.write_text(text, encoding="utf-8")
        with _watcher(self) as watcher:
            for _ in range(20):
                watcher.call()
            watcher.longest_ms, watcher.refused = 0.0, 0
            begun_s = looked_s = time.perf_counter()
            os.kill(self.pid, signal.SIGHUP)
            while True:
                watcher.call()
                now_s = time.perf_counter()
                if now_s - looked_s >= LOOK_EVERY_S:
                    looked_s = now_s
                    if watcher.version() == version:
                        break
                if now_s - begun_s > RELOAD_S_MAX:
                    raise StartFailed(f"the reload of {self.size} was not in force after {RELOAD_S_MAX:.0f} s")
            in_force_ms = (time.perf_counter() - begun_s) * 1_000
            until_s = time.perf_counter() + AFTER_RELOAD_S
            while time.perf_counter() < until_s:
                watcher.call()
        return Reloaded(in_force_ms, watcher.longest_ms, watcher.refused)


class _Watcher:
    """One caller, which also looks at `/readyz`."""

    def __init__(self, gateway: ScaledGateway) -> None:
        self.longest_ms = 0.0
        self.refused = 0
        self.data, self.admin = _connection(gateway.port), _connection(gateway.admin_port)
        self._body = body(alias(0), stream=False)
        self._token = gateway.tokens[0]

    def call(self) -> None:
        took_ms, status, _ = _timed_ms(self.data, "POST", "/v1/chat/completions", self._body, self._token)
        self.longest_ms = max(self.longest_ms, took_ms)
        self.refused += status != 200

    def version(self) -> str:
        took_ms, _, answer = _timed_ms(self.admin, "GET", "/readyz")
        self.longest_ms = max(self.longest_ms, took_ms)
        return str(json.loads(answer)["config"])


@contextlib.contextmanager
def _watcher(gateway: ScaledGateway) -> Iterator[_Watcher]:
    watcher = _Watcher(gateway)
    try:
        yield watcher
    finally:
        watcher.data.close()
        watcher.admin.close()


@contextlib.contextmanager
def scaled_gateway(
    size: Size, folder: Path, cpu: int | None, upstream: str, redis_url: str | None
) -> Iterator[ScaledGateway]:
    """Fill its store, start it, and make the first call. Raises StartFailed."""
    (folder / "state").mkdir(parents=True, mode=0o700)
    tokens = asyncio.run(store_virtual_keys(size, folder / "state", redis_url))
    port, admin_port = free_port(), free_port()
    template = configuration(size) if redis_url is None else configuration(size, redis_url)
    text = config_text(folder / "state", port=port, admin_port=admin_port, upstream=upstream, template=template)
    config = folder / "bench.toml"
    config.write_text(text, encoding="utf-8")
    begun_s = time.perf_counter()
    with running("gateway", ["-m", "proxy", "serve", "--config", str(config)], folder, cpu, port) as pid:
        gateway = ScaledGateway(size, port, admin_port, pid, config, text, tokens, 0.0)
        with _watcher(gateway) as watcher:
            watcher.call()
            if watcher.refused:
                raise StartFailed(f"the gateway of {size} refused the first call")
        gateway.start_s = time.perf_counter() - begun_s
        yield gateway


def _connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S_MAX)


def _timed_ms(
    connection: http.client.HTTPConnection, method: str, path: str, sent: bytes | None = None, token: str = ""
) -> tuple[float, int, bytes]:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"} if sent else {}
    begun_ns = time.perf_counter_ns()
    connection.request(method, path, sent, headers)
    with connection.getresponse() as response:
        answer = response.read()
    took_ms = (time.perf_counter_ns() - begun_ns) / 1e6
    return took_ms, response.status, answer
