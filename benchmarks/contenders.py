"""Who stands before the upstream, one at a time: this gateway as it is configured, the floors, others that are given.

Each has the gateway's core to itself while it is measured. What a state store or a caller needs is on the other one.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks import setups
from benchmarks.latency import MODEL, body
from benchmarks.targets import StartFailed, config_text, free_port, running
from tests.authority import found
from tests.redis_server import RedisServer

TOKEN: Final = "sk-benchmark"
REDIS, SQLITE = "redis", "sqlite"
STORES: Final = (REDIS, SQLITE)
FIRST_ANSWER_S_MAX: Final = 20.0
_ISSUE_S_MAX: Final = 30.0
_USAGE_S_MAX: Final = 120.0
_PROBE_S: Final = 0.004
_SHOWN_CHARS_MAX: Final = 500
_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Field:
    """What all of them share."""

    folder: Path
    gateway_cpu: int | None
    load_cpu: int | None
    direct: str  # the upstream's base URL
    direct_tls: str | None  # the same over TLS
    ca_file: Path | None  # who certified that
    redis: RedisServer | None


@dataclass(frozen=True, slots=True)
class Contender:
    """One that runs."""

    name: str
    base_url: str
    token: str
    pid: int | None = None  # None: its process is not ours to see
    differs: bool = False  # no two calls may be the same, or it would answer by itself


@dataclass(frozen=True, slots=True)
class Tollway:
    """This gateway."""

    mode: str
    store: str
    speaks_tls: bool = True

    @property
    def name(self) -> str:
        """As the tables call it."""
        mode = "everything, lookups miss" if self.mode == setups.MISSES else self.mode
        return f"{mode}, {'Redis' if self.store == REDIS else 'SQLite'}"

    @property
    def slug(self) -> str:
        """The same, for a folder."""
        return self.name.replace(", ", "-").replace(" ", "-").lower()

    @property
    def keeps_books(self) -> bool:
        """Whether it knows who calls, and what that costs."""
        return self.mode != setups.PASSTHROUGH

    def runs(self, field: Field) -> tuple[int, float]:
        """How many rows its ledger has, and what they cost in dollars, as `tollway usage` tells an operator.

        Raises:
            StartFailed: it does not tell.
        """
        config = field.folder / self.slug / "bench.toml"
        command = [sys.executable, "-m", "proxy", "usage", "--config", str(config), "--json"]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_USAGE_S_MAX, check=False)
        if done.returncode:
            raise StartFailed(f"tollway usage: {done.stderr[-_SHOWN_CHARS_MAX:]}")
        total = json.loads(done.stdout)["total"]
        return total["runs"], total["cost_nusd"] / 1e9

    @contextmanager
    def started(
        self, field: Field, *, tls: bool = False, program: Sequence[str] = ("-m", "proxy")
    ) -> Iterator[Contender]:
        """Start it with a virtual key issued, where it wants one. `program` is what Python runs as the command
        `tollway`. Raises StartFailed."""
        folder = field.folder / self.slug
        folder.mkdir(exist_ok=True)
        port, admin_port = free_port(), free_port()
        redis_url = None
        if self.store == REDIS:
            assert field.redis is not None
            redis_url = f"{field.redis.url.rpartition('/')[0]}/{setups.MODES.index(self.mode)}"
        text = setups.template(self.mode, redis_url, ca_file=str(field.ca_file) if tls else None)
        upstream = field.direct_tls if tls else field.direct
        assert upstream is not None
        config = folder / "bench.toml"
        config.write_text(
            config_text(folder / "state", port=port, admin_port=admin_port, upstream=upstream, template=text),
            encoding="utf-8",
        )
        token = _issued(folder, config) if self.keeps_books else TOKEN
        command = [*program, "serve", "--config", str(config)]
        with running(self.name, command, folder, field.gateway_cpu, port) as pid:
            contender = Contender(
                self.name, f"http://127.0.0.1:{port}/v1", token, pid, differs=self.mode == setups.MISSES
            )
            wait_for_answer(contender)
            yield contender


@dataclass(frozen=True, slots=True)
class BareRelay:
    """The floor of what Python does."""

    name: str = "bare relay"
    speaks_tls: bool = False

    @contextmanager
    def started(self, field: Field, *, tls: bool = False) -> Iterator[Contender]:
        """Start it. Raises StartFailed."""
        assert not tls
        port = free_port()
        command = ["-m", "benchmarks.bare_relay", "--port", str(port), "--upstream", urlsplit(field.direct).netloc]
        with running(self.name, command, field.folder, field.gateway_cpu, port) as pid:
            contender = Contender(self.name, f"http://127.0.0.1:{port}/v1", TOKEN, pid)
            wait_for_answer(contender)
            yield contender


_NGINX: Final = """\
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {files_max};
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections {files_max}; }}
http {{
    access_log off;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream bench {{ server {upstream}; keepalive 8000; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A plain reverse proxy in C; one process, as the gateway is."""

    name: str = "nginx"
    speaks_tls: bool = False

    @contextmanager
    def started(self, field: Field, *, tls: bool = False) -> Iterator[Contender]:
        """Start it. Raises StartFailed."""
        assert not tls
        port, program = free_port(), shutil.which("nginx")
        assert program is not None
        folder = field.folder / "nginx"
        folder.mkdir(exist_ok=True)
        config = folder / "nginx.conf"
        text = _NGINX.format(folder=folder, upstream=urlsplit(field.direct).netloc, port=port, files_max=16_000)
        config.write_text(text, encoding="utf-8")
        with running(self.name, ["-c", str(config)], folder, field.gateway_cpu, port, program) as pid:
            contender = Contender(self.name, f"http://127.0.0.1:{port}/v1", TOKEN, pid)
            wait_for_answer(contender)
            yield contender


@dataclass(frozen=True, slots=True)
class Given:
    """Another gateway, which somebody else started before our upstream."""

    name: str
    base_url: str
    token: str
    speaks_tls: bool = False

    @contextmanager
    def started(self, _field: Field, *, tls: bool = False) -> Iterator[Contender]:
        """It runs already. Raises StartFailed: it does not answer."""
        assert not tls
        contender = Contender(self.name, self.base_url, self.token)
        wait_for_answer(contender)
        yield contender


Candidate = Tollway | BareRelay | Nginx | Given


def chosen(modes: Sequence[str], stores: Sequence[str], given: Sequence[Given], *, floors: bool) -> list[Candidate]:
    """All that will be measured, floors first. Passthrough keeps next to nothing in its store: one of them will do."""
    found_: list[Candidate] = []
    if floors:
        found_ += [Nginx()] if shutil.which("nginx") else []
        found_.append(BareRelay())
    for mode in modes:
        stores_of = stores[-1:] if mode == setups.PASSTHROUGH else stores[:1] if mode == setups.MISSES else stores
        found_ += [Tollway(mode, store) for store in stores_of]
    return [*found_, *given]


@contextmanager
def emptied(field: Field, folder: str) -> Iterator[Field]:
    """The field with a folder of that name, and a Redis in which nothing is yet: to export what another load has left
    is work."""
    own = field.folder / folder
    own.mkdir(exist_ok=True)
    with ExitStack() as stack:
        server = None if field.redis is None else stack.enter_context(RedisServer())
        yield replace(field, folder=own, redis=server)


@contextmanager
def field(
    folder: Path,
    cores: tuple[int | None, int | None],
    *,
    direct: str | None,
    upstream_port: int | None,
    redis: bool,
    tls: bool,
) -> Iterator[Field]:
    """Start what all of them need: the upstream, with and without TLS, and a Redis. Raises StartFailed."""
    gateway_cpu, load_cpu = cores
    with ExitStack() as stack:
        direct_tls = ca_file = None
        if direct is None:
            port = upstream_port or free_port()
            command = ["-m", "benchmarks.simulated_upstream", "--port", str(port), "--by-head", "--stamp-slow-events"]
            stack.enter_context(running("upstream", command, folder, load_cpu, port))
            direct = f"http://127.0.0.1:{port}/v1"
            if tls:
                authority = found(folder)
                ca_file, port = authority.ca_file, free_port()
                command[3:4] = [str(port), "--certificate", str(authority.folder / "good.pem")]
                stack.enter_context(running("upstream with TLS", command, folder, load_cpu, port))
                direct_tls = f"https://127.0.0.1:{port}/v1"
        try:
            server = stack.enter_context(RedisServer()) if redis else None
        except RuntimeError as error:
            raise StartFailed(str(error)) from None
        yield Field(folder, gateway_cpu, load_cpu, direct, direct_tls, ca_file, server)


def wait_for_answer(contender: Contender, wait_s: float = FIRST_ANSWER_S_MAX) -> None:
    """Call until an answer is good: a store that begins admits nothing at first. Raises StartFailed."""
    until_s = time.monotonic() + wait_s
    request = urllib.request.Request(
        f"{contender.base_url}/chat/completions",
        data=body(MODEL, stream=False),
        headers={"authorization": f"Bearer {contender.token}", "content-type": "application/json"},
    )
    while True:
        try:
            urllib.request.urlopen(request, timeout=wait_s).close()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")[:_SHOWN_CHARS_MAX]
            what = f"status {error.code}: {said}"
        except OSError as error:
            what = str(error)
        else:
            return
        if time.monotonic() > until_s:
            raise StartFailed(f"{contender.name} does not answer at {contender.base_url}. {what}")
        time.sleep(_PROBE_S)


def _issued(folder: Path, config: Path) -> str:
    """A virtual key, issued as an operator would; the same one at each further start."""
    kept = folder / "virtual_key"
    if not kept.exists():
        command = [sys.executable, "-m", "proxy", "keys", "issue", "--config", str(config)]
        command += ["--tenant", setups.TENANT, "--user", setups.USER, "--feature", setups.FEATURE]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_ISSUE_S_MAX, check=False)
        if done.returncode:
            raise StartFailed(f"No virtual key could be issued: {done.stderr[-_SHOWN_CHARS_MAX:]}")
        kept.write_text(done.stdout.strip(), encoding="utf-8")
    return kept.read_text(encoding="utf-8")
