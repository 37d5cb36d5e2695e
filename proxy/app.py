"""The composition root: the only place where objects are wired.

`create_app(settings)` gives an ASGI application for any server, or to be mounted in a host's
own Starlette or FastAPI application; `serve` runs it behind our own HTTP front.
"""

import asyncio
import gc
import io
import logging
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TextIO, TypeAlias

import httpx
import uvloop

from proxy.adapters.http.stock import StockTransport
from proxy.adapters.http.transport import Transport, verified_context
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import URL_PREFIX, SqliteDoor, sqlite_path
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateIncompatible, StateUnavailable
from proxy.edge import server as edge
from proxy.edge.admin import create_admin_app
from proxy.edge.endpoints import DataPlane
from proxy.edge.health import Readiness
from proxy.edge.relay import Receive, Scope, Send
from proxy.identity.authenticator import Authenticator, VirtualKeyCache
from proxy.identity.embedded import EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.ledger.audit import SpentTotal
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.sink import LedgerSink
from proxy.ledger.sinks import SINK_DEFAULT, connect_sink
from proxy.ledger.store import LedgerStore, RedisLedgerStore
from proxy.pipeline.dispatch import Dispatch
from proxy.pipeline.line import Line
from proxy.pipeline.settlement import Settlement
from proxy.pipeline.snapshot import ProviderAccess, Snapshot, SnapshotSlot
from proxy.routing.resolve import Routes
from proxy.settings.consistency import lends_to_strangers
from proxy.settings.model import AuthMode, ProviderSettings, Settings, TransportKind
from proxy.settings.problem import SettingsError
from proxy.simulated.transport import SimulatedTransport
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.error_log import ErrorLog
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.sink import Sink
from proxy.upstream.client import UpstreamClient

_log = logging.getLogger("tollway")

_SETTLE_S: Final = 10.0
_WATCH_S: Final = 1.0
_RETIRED_S: Final = 5.0
_YOUNG_OBJECTS: Final = 20_000  # of some hundred a request; CPython's 700 collects every few requests

Transports: TypeAlias = Mapping[str, httpx.AsyncBaseTransport]


@dataclass(frozen=True, slots=True)
class Stores:
    """What outlives the process."""

    virtual_keys: VirtualKeyStore
    ledger: LedgerStore
    door: SqliteDoor | RedisDoor
    sink: LedgerSink | None
    spent_total_nusd: SpentTotal | None = None


def connect_stores(settings: Settings) -> Stores:
    """The stores that the configuration names. Nothing is opened until the first call."""
    url = settings.state.url
    sink = connect_sink(SINK_DEFAULT, settings.state.folder)
    if url.startswith(URL_PREFIX):
        embedded = SqliteDoor(sqlite_path(url, settings.state.folder))
        return Stores(EmbeddedVirtualKeyStore(embedded), EmbeddedLedgerStore(embedded), embedded, sink)
    shared = RedisDoor(url)
    return Stores(RedisVirtualKeyStore(shared), RedisLedgerStore(shared), shared, sink)


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores, for a command that works beside a running gateway."""
    settings.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stores = connect_stores(settings)
    try:
        yield stores
    finally:
        await stores.door.close()


def peppers_of(settings: Settings) -> tuple[bytes, ...]:
    """The peppers of virtual keys, newest first; one is made in the state folder if none is written."""
    peppers = settings.auth.peppers or (load_or_make_pepper(settings.state.folder),)
    return tuple(pepper_bytes(pepper) for pepper in peppers)


class App:
    """The gateway as an ASGI application. A host that mounts it calls `startup` and `shutdown`."""

    def __init__(self, settings: Settings, transports: Transports, access_log_sink: Sink, clock: Clock) -> None:
        self._given_transports = transports
        self._clock = clock
        self._retired: set[httpx.AsyncBaseTransport] = set()  # of providers that a reload changed
        self._closing: set[asyncio.Task[None]] = set()
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._tls: dict[Path | None, ssl.SSLContext] = {}
        self.stores = connect_stores(settings)
        self._state_failure: str | None = "the state store was not asked yet"
        self._watch: asyncio.Task[None] | None = None
        self.metrics = Metrics()
        self._virtual_key_cache = VirtualKeyCache(partial(self.metrics.state_called, "virtual_key_find"))
        self._access_log = AccessLog(access_log_sink, self.metrics.log_dropped)
        self.settlement = Settlement(self.stores.ledger, self.metrics, self._access_log, clock)
        self.snapshots = SnapshotSlot(self._prepare(settings, {}))
        self.readiness = Readiness(
            config_version=lambda: self.snapshots.current.version,
            checks={"state": lambda: self._state_failure, "ledger": lambda: self.settlement.failure},
        )
        self.admin_app = create_admin_app(self.readiness, self.metrics.render)
        self.data_plane = DataPlane(Line(self.snapshots, Dispatch(clock), self.settlement, clock))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; the lifespan too, where a server sends it to us."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.data_plane(scope, receive, send)

    async def startup(self) -> None:
        """Open what must be open before the first request.

        Raises:
            StateIncompatible: the store belongs to a newer release.
        """
        self._access_log.start()
        await self._ask_store()
        self._watch = asyncio.get_running_loop().create_task(self._watch_on())

    async def shutdown(self) -> None:
        """Write the last rows and let go of everything. Call it once no request is under way."""
        if self._watch is not None:
            self._watch.cancel()
        lost_rows = await self.settlement.drain(_SETTLE_S)
        if lost_rows:
            _log.error("%d ledger rows could not be written before the end", lost_rows)
        for transport in (*self._transports.values(), *self._retired):
            await transport.aclose()
        await self.stores.door.close()
        await asyncio.to_thread(self._access_log.close)

    def reload(self, settings: Settings) -> None:
        """Put a new configuration in force, whole. Requests under way end on the old one; ports,
        stores and drain time stay what they are until the next start.

        Raises:
            ValueError: on the port as it is bound now, the gateway's own keys would be open to anyone.
            OSError: a file that it names cannot be read.
        """
        before = self.snapshots.current
        kept = _kept_until_restart(settings, before.settings)
        if kept != settings:
            _log.warning("[server] or [state] changed: ports, stores and drain time take effect at the next start")
        bind = kept.server.bind
        if lends_to_strangers(kept.auth, bind):
            raise ValueError(
                f"auth.allow_keyless is true, and until the next start this gateway listens on {bind}: anyone who can "
                "reach it could spend its own keys. Restart it instead."
            )
        self.snapshots.current = self._prepare(kept, before.providers)
        _log.info("configuration %s is in force (it was %s)", settings.version, before.version)

    def _prepare(self, settings: Settings, before: Mapping[str, ProviderAccess]) -> Snapshot:
        authenticator = Authenticator(
            auth=settings.auth,
            known_tenants=settings.tenants,
            store=self.stores.virtual_keys,
            cache=self._virtual_key_cache,
            peppers=peppers_of(settings) if settings.auth.mode is AuthMode.VIRTUAL_KEYS else (),
            clock=self._clock,
        )
        return Snapshot(
            settings=settings,
            version_header=(b"x-tollway-config", settings.version.encode()),
            authenticator=authenticator,
            routes=Routes(settings.models, settings.auth.default_provider),
            providers=self._providers(settings, before),
            created_s=self._clock.now_ms() // 1_000,
        )

    def _providers(self, settings: Settings, before: Mapping[str, ProviderAccess]) -> dict[str, ProviderAccess]:
        """Clients for every provider; one that did not change keeps its open connections.

        Everything new is made first: where one cannot be, nothing that is in force was touched.
        """
        accesses: dict[str, ProviderAccess] = {}
        transports: dict[str, httpx.AsyncBaseTransport] = {}
        for name, provider in settings.providers.items():
            known = before.get(name)
            if known is not None and known.settings == provider:
                accesses[name], transports[name] = known, self._transports[name]
                continue
            transport = self._given_transports.get(name) or self._make_transport(provider)
            accesses[name], transports[name] = ProviderAccess(provider, UpstreamClient(provider, transport)), transport
        old, self._transports = self._transports, transports
        for name, transport in old.items():
            if transports.get(name) is not transport:
                self._retire(transport, before[name])
        return accesses

    def _retire(self, transport: httpx.AsyncBaseTransport, access: ProviderAccess) -> None:
        """Let the exchanges of an old snapshot end on it: none may last longer than its total time."""
        if transport in self._given_transports.values():
            return  # whoever handed it in closes it, and it may be in use again
        self._retired.add(transport)
        ending_s = access.settings.timeouts_s.total
        asyncio.get_running_loop().call_later(ending_s + _RETIRED_S, self._close_retired, transport)

    def _close_retired(self, transport: httpx.AsyncBaseTransport) -> None:
        self._retired.discard(transport)
        closing = asyncio.get_running_loop().create_task(transport.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _make_transport(self, provider: ProviderSettings) -> httpx.AsyncBaseTransport:
        if provider.transport is TransportKind.SIMULATED:
            return SimulatedTransport()
        if provider.transport is TransportKind.HTTPX:
            # A context of its own: httpx writes the protocols that it offers into it, and ours speaks but one.
            context = verified_context(provider.ca_file)
            proxy_url = None if provider.proxy_url is None else provider.proxy_url.reveal()
            return StockTransport(connections_max=provider.connections_max, ssl_context=context, proxy_url=proxy_url)
        # Loading the machine's certificate authorities takes longer than all the rest: once.
        if provider.ca_file not in self._tls:
            self._tls[provider.ca_file] = verified_context(provider.ca_file)
        return Transport(connections_max=provider.connections_max, ssl_context=self._tls[provider.ca_file])

    async def _watch_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wake_at_s = loop.time() + _WATCH_S
            await asyncio.sleep(_WATCH_S)
            self.metrics.loop_lag(max(0.0, loop.time() - wake_at_s))
            try:
                await self._ask_store()
            except StateIncompatible as error:  # it was away when this process started
                self._note_state_failure(error)

    async def _ask_store(self) -> None:
        try:
            await self.stores.door.ping()
        except StateUnavailable as error:
            self._note_state_failure(error)
        else:
            self._state_failure = None

    def _note_state_failure(self, error: GatewayError) -> None:
        if self._state_failure != error.message:
            _log.error("the state store cannot be used: %s", error.message)
        self._state_failure = error.message

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.startup()
                except (GatewayError, OSError) as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _kept_until_restart(settings: Settings, running: Settings) -> Settings:
    """A new configuration with what only a start can change: another state folder would mean another
    pepper, under which nobody's virtual key is known."""
    now = running.server
    server = replace(
        settings.server, bind=now.bind, admin_bind=now.admin_bind, drain_s=now.drain_s, workers=now.workers
    )
    return replace(settings, server=server, state=running.state)


def create_app(
    settings: Settings,
    *,
    transports: Transports | None = None,
    access_log_sink: Sink | None = None,
    clock: Clock | None = None,
) -> App:
    """The gateway as an ASGI application.

    Args:
        settings: from `proxy.settings.load.load`.
        transports: by provider's name, instead of the configured ones: any httpx transport fits.
        access_log_sink: where the access log's lines go; standard output by default.
        clock: the time; a test hands in its own.

    Raises:
        OSError: the state folder cannot be made, or the pepper in it not read.
        ValueError: the pepper's file holds something else.
    """
    settings.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return App(settings, transports or {}, access_log_sink or _unbuffered(sys.stdout), clock or Clock())


def serve(settings: Settings, read_settings: Callable[[], Settings]) -> int:
    """Run the gateway until it is told to stop; the process's exit code.

    `read_settings` reads the configuration anew when SIGHUP asks for it; what it raises
    (SettingsError, OSError, ValueError) leaves the old one in force.
    """
    error_log = ErrorLog(_unbuffered(sys.stderr))
    logging.basicConfig(handlers=[error_log], level=logging.INFO)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # at INFO they write whole URLs
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, read_settings, error_log))
    finally:
        error_log.end()
    return 0


async def _serve(settings: Settings, read_settings: Callable[[], Settings], error_log: ErrorLog) -> None:
    app = create_app(settings)

    def reload() -> None:
        try:
            app.reload(read_settings())
        except (SettingsError, OSError, ValueError) as error:
            _log.error("the new configuration is refused; %s stays in force: %s", app.snapshots.current.version, error)

    await app.startup()
    _calm_garbage_collection()
    try:
        await edge.serve(
            data_app=app.data_plane,
            admin_app=app.admin_app,
            server_settings=settings.server,
            readiness=app.readiness,
            on_reload=reload,
            on_refused=lambda error, client: app.settlement.note_refusal(error, client[0] if client else None),
            announce=error_log.say,
        )
    finally:
        await app.shutdown()


def _unbuffered(stream: TextIO) -> Sink:
    try:
        return io.FileIO(stream.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # a host that put its own stream in its place
        return stream.buffer


def _calm_garbage_collection() -> None:
    """What is there at start lives for ever, and a request makes no cycles: the collector need
    not look at the former again, nor after every few requests at the latter."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
