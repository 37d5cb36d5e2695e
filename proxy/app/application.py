"""The gateway as an ASGI application: every object that a request meets is made and wired here."""

import asyncio
import logging
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from proxy.adapters.http.transport import Transport
from proxy.administration.desk import Desk, open_desk
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.admission.answers import Settlement as StoreSettlement
from proxy.admission.journal import Journal
from proxy.admission.keeper import Keeper
from proxy.admission.terms import RunStep
from proxy.app.caching import make_shelf
from proxy.app.keyring import connect_keyring
from proxy.app.pressure import PressureGauge
from proxy.app.prices import load_prices
from proxy.app.providers import Providers, Transports
from proxy.app.stores import connect_stores, peppers_of
from proxy.app.switches import SwitchWatch
from proxy.app.until_restart import kept_until_restart
from proxy.cache.shelf import AnswerSealer
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateIncompatible, StateUnavailable
from proxy.edge.admin import create_admin_app
from proxy.edge.admin_api import AdminDoor, admin_routes
from proxy.edge.endpoints import DataPlane
from proxy.edge.health import Readiness
from proxy.edge.place import Place
from proxy.edge.relay import Receive, Scope, Send
from proxy.edge.whole import Crew
from proxy.identity.authenticator import Authenticator, make_virtual_key_cache
from proxy.identity.redigest import Redigest
from proxy.identity.tenants import Tenants, make_tenant_cache
from proxy.keyring.schedule import RotationSchedule
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.pipeline.absorbing import Absorbing
from proxy.pipeline.admittance import Admittance
from proxy.pipeline.allowance import Allowances
from proxy.pipeline.attempts import Attempts
from proxy.pipeline.caching import Caching
from proxy.pipeline.choosing import Choosing
from proxy.pipeline.dispatch import Dispatch
from proxy.pipeline.gates import Gates
from proxy.pipeline.line import Line
from proxy.pipeline.local_limits import LocalLimits
from proxy.pipeline.options import Options
from proxy.pipeline.payment import Payment
from proxy.pipeline.price_list import PriceList
from proxy.pipeline.probes import Probes
from proxy.pipeline.settlement import Settlement
from proxy.pipeline.snapshot import ProviderAccess, Snapshot, SnapshotSlot
from proxy.pipeline.soft_cap import SoftCaps
from proxy.routing.resolve import Routes
from proxy.routing.switches import SwitchSlot
from proxy.settings.model import AuthMode, Settings
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import DeploymentFigures, Metrics
from proxy.telemetry.sink import Sink
from proxy.telemetry.webhook import Webhook
from proxy.telemetry.worker_figures import WorkerFigures
from proxy.upstream.breaker import BreakerState
from proxy.upstream.conditions import Conditions

_log = logging.getLogger("tollway")

_SETTLE_S: Final = 10.0
_CACHE_S: Final = 2.0
_WATCH_S: Final = 1.0
_WEBHOOK_CONNECTIONS_MAX: Final = 4
_READY_S: Final = 5.0
_BREAKER_FIGURES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class App:
    """The gateway as an ASGI application. A host that mounts it calls `startup` and `shutdown`."""

    def __init__(
        self,
        settings: Settings,
        transports: Transports,
        access_log_sink: Sink,
        clock: Clock,
        place: Place | None = None,
    ) -> None:
        """`place`: where this process is one of several workers, which one it is."""
        self.clock = clock
        self.providers = Providers(transports)
        self.stores = connect_stores(settings, clock)
        self._state_url = settings.state.shown_url
        self._state_failure: str | None = "the state store was not asked yet"
        self._state_said = ""  # of its last failure, in the log
        self._watch: asyncio.Task[None] | None = None
        self.metrics = Metrics()
        self._virtual_key_cache = make_virtual_key_cache(partial(self.metrics.state_called, "virtual_key_find"))
        self._redigest = Redigest(self.stores.virtual_keys)
        self._tenant_cache = make_tenant_cache(partial(self.metrics.state_called, "tenant_find"))
        self._access_log = AccessLog(access_log_sink, self.metrics.log_dropped, is_shared=place is not None)
        journal = Journal.open(settings.state.journal_folder, settings.state.url, clock)
        self.keeper = Keeper(self.stores.admission, journal, clock, settings.state.lease_s, self._settled)
        self._absorbing = Absorbing(self.stores.absorption, clock)
        self.settlement = Settlement(
            self.stores.ledger, self.keeper, self._absorbing, self.metrics, self._access_log, clock
        )
        self.snapshots = SnapshotSlot(self._prepare(settings, {}))
        self._exporter = self._make_exporter(settings)
        self.readiness = Readiness(
            config_version=lambda: self.snapshots.current.version,
            checks={
                "state": lambda: self._state_failure,
                "ledger": lambda: self.settlement.failure,
                "admission": lambda: self.keeper.failure,
                "export": self._export_failure,
            },
            warnings={"keyring": self._overdue_rotation, "export": self._failing_export},
        )
        self.keyring = connect_keyring(settings, self.stores.door, clock, self.metrics)
        self.rotation_schedule = self._make_schedule(settings)
        admin_door = AdminDoor(lambda: self.snapshots.current.settings.admin, self._open_desk, self.metrics, clock)
        self._crew = None if place is None else self._make_crew(place)
        self.admin_app = create_admin_app(self.readiness, self.metrics.scrape, admin_routes(admin_door), self._crew)
        self._webhook = Webhook(Transport(connections_max=_WEBHOOK_CONNECTIONS_MAX))
        soft_caps = SoftCaps(self.metrics, self._webhook)
        lease_s = settings.state.lease_s
        admittance = Admittance(self.keeper, LocalLimits(), soft_caps, self.metrics, clock, lease_s)
        self.conditions = Conditions()
        self.metrics.read_deployments(self._deployment_figures)
        self.switches = SwitchSlot()
        self._switch_watch = SwitchWatch(self.stores.switches, self.switches)
        self.gates = Gates(settings.server, self.metrics, clock)
        self._pressure = PressureGauge(self._note_pressure)
        self._probes = Probes(self.snapshots, self.conditions, clock)
        self._shelf = make_shelf(settings, self.stores.cache, self._sealer(), self.metrics, clock)
        payment = Payment(self.keyring)
        self.choosing = Choosing(payment, self.conditions, self.switches, soft_caps, clock)
        self.data_plane = DataPlane(self._make_line(payment, admittance))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; the lifespan too, where a server sends it to us."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.data_plane(scope, receive, send)

    async def startup(self) -> None:
        """Open what must be open before the first request.

        Raises:
            StateIncompatible: the store belongs to a newer release, or may throw away what it holds.
        """
        self._access_log.start()
        if self._crew is not None:  # from now on it says that it is not ready, instead of nothing
            self._crew.start()
        await self._ask_store()
        self.keeper.start()
        await self.keeper.ready(_READY_S)  # a moment; 3 s on a Redis that has just begun. Without it, calls are refused
        if self._exporter is not None:
            self._exporter.start()
        if self.keyring is not None and self.rotation_schedule is not None:
            await self.keyring.connect(_READY_S)
            self.keyring.start()
            self.rotation_schedule.start()
        self._watch = asyncio.get_running_loop().create_task(self._watch_on())
        self._pressure.start()
        self._probes.start()
        await self._switch_watch.start()

    async def shutdown(self) -> None:
        """Write the last rows and let go of everything. Call it once no request is under way."""
        self._pressure.stop()
        await self._probes.stop()
        self._switch_watch.stop()
        if self._watch is not None:
            self._watch.cancel()
        lost_rows, left = await asyncio.gather(self.settlement.drain(_SETTLE_S), self.keeper.drain(_SETTLE_S))
        await self._absorbing.drain(_SETTLE_S)
        await self._shelf.drain(_CACHE_S)
        if lost_rows:
            _log.error("%d ledger rows could not be written before the end", lost_rows)
        if left:
            _log.error("%d settlements wait in the journal for the next start", left)
        await self.keeper.stop()
        if self._exporter is not None:
            await self._exporter.stop()
        if self.keyring is not None and self.rotation_schedule is not None:
            await self.rotation_schedule.stop()
            await self.keyring.stop()
        await self._redigest.stop()
        await self._webhook.aclose()
        await self.providers.aclose()
        await self.stores.door.close()
        await asyncio.to_thread(self._access_log.close)
        if self._crew is not None:
            self._crew.stop()

    def reload(self, settings: Settings) -> None:
        """Put a new configuration in force, whole. Requests under way end on the old one; ports,
        stores and drain time stay what they are until the next start.

        Raises:
            ValueError: on the port as it is bound now, the gateway's own keys would be open to anyone.
            OSError: a file that it names cannot be read.
        """
        before = self.snapshots.current
        kept = kept_until_restart(settings, before.settings)
        if kept != settings:
            what = "[server], [state], [ledger], [keyring] or the bounds of [cache] changed"
            _log.warning("%s: these take effect at the next start", what)
        self.snapshots.current = self._prepare(kept, before.providers)
        self.gates.configure(kept.server)
        _log.info("configuration %s is in force (it was %s)", settings.version, before.version)

    def _prepare(self, settings: Settings, before: Mapping[str, ProviderAccess]) -> Snapshot:
        tenants = Tenants(settings, self.stores.tenants, self._tenant_cache, self.clock)
        authenticator = Authenticator(
            auth=settings.auth,
            tenants=tenants,
            store=self.stores.virtual_keys,
            cache=self._virtual_key_cache,
            peppers=peppers_of(settings) if settings.auth.mode is AuthMode.VIRTUAL_KEYS else (),
            clock=self.clock,
            on_older=self._redigest.soon,
        )
        prices = PriceList(settings, load_prices(settings))
        return Snapshot(
            settings=settings,
            version_header=(b"x-tollway-config", settings.version.encode()),
            authenticator=authenticator,
            tenants=tenants,
            routes=Routes(settings.models, settings.providers, settings.auth.default_provider),
            prices=prices,
            allowances=Allowances(),
            providers=self.providers.prepare(settings, before),
            created_s=self.clock.now_ms() // 1_000,
        )

    def _make_line(self, payment: Payment, admittance: Admittance) -> Line:
        """What each step of a request needs of the others."""
        clock, settlement = self.clock, self.settlement
        caching = Caching(
            self._shelf, self.stores.cache_book, self.keeper, payment, settlement.check_room, self.metrics, clock
        )
        options = Options(self.choosing, payment, admittance, self._absorbing, self.conditions, clock)
        attempts = Attempts(payment, self.gates, options, Dispatch(clock), self.conditions, clock)
        return Line(
            self.snapshots, self.choosing, caching, self.gates, options, admittance, attempts, settlement, clock
        )

    def _sealer(self) -> AnswerSealer | None:
        return None if self.keyring is None else self.keyring.sealer

    def _open_desk(self, actor: str) -> Desk:
        settings = self.snapshots.current.settings
        at_hand = KeyringAtHand(self.stores.keyring, self.keyring)
        pepper = partial(_newest_pepper, settings)
        return open_desk(
            settings,
            self.stores,
            pepper,
            self.clock,
            actor,
            self._changed,
            at_hand,
            on_switched=self._switch_watch.see,
            status_of=self._deployment_statuses,
        )

    def _changed(self, tenant_id: str, virtual_key_id: str | None) -> None:
        """What was changed here is seen here at once, and by this gateway's other workers, which are told before the
        answer goes out; other gateways see it within their caches' 5 s."""
        self._forget(tenant_id, virtual_key_id)
        if self._crew is not None:
            self._crew.tell_changed(tenant_id, virtual_key_id)

    def _forget(self, tenant_id: str, virtual_key_id: str | None) -> None:
        if virtual_key_id is None:
            self._tenant_cache.forget(lambda found: found.tenant.id == tenant_id)
            if self.keyring is not None:
                self.keyring.drop(tenant_id)
        else:
            self._virtual_key_cache.forget(lambda known: known is not None and known.virtual_key.id == virtual_key_id)

    def _make_crew(self, place: Place) -> Crew:
        figures = WorkerFigures(self.metrics.caught_up, place.number, place.keepsakes)
        return Crew(place, self.readiness, figures, self._forget)

    def _make_exporter(self, settings: Settings) -> Exporter | None:
        if self.stores.sink is None:
            return None
        ledger = settings.ledger
        pace = ExportPace(every_s=ledger.export_every_s, seal_rows_max=ledger.seal_rows_max)
        holder = f"gateway-{secrets.token_hex(8)}"
        return Exporter(self.stores.ledger, self.stores.sink, self.metrics, self.clock, holder, pace)

    def _make_schedule(self, settings: Settings) -> RotationSchedule | None:
        if self.keyring is None:
            return None
        return RotationSchedule(self.keyring, settings.keyring.rotate_after_days, self.clock, self.metrics.oldest_dek)

    def _note_pressure(self, lag_ms: float, memory_bytes: int | None) -> None:
        server = self.snapshots.current.settings.server
        self.gates.shedding.measured(lag_ms, server.loop_lag_ms_max, memory_bytes, server.memory_bytes_max)
        self.metrics.loop_lag(lag_ms / 1_000)
        self.metrics.in_flight(self.gates.in_flight, self.gates.waiting)

    def _deployment_figures(self) -> Iterator[DeploymentFigures]:
        for status in self.conditions.statuses(self.clock.monotonic_us()):
            yield DeploymentFigures(status.label, status.health, _BREAKER_FIGURES[status.state], status.in_flight)

    def _deployment_statuses(self) -> dict[str, dict[str, object]]:
        return {
            status.label: {
                "health": round(status.health, 3),
                "breaker": str(status.state),
                "throttled_ms": status.throttled_us // 1_000,
                "in_flight": status.in_flight,
            }
            for status in self.conditions.statuses(self.clock.monotonic_us())
        }

    def _overdue_rotation(self) -> str | None:
        return None if self.rotation_schedule is None else self.rotation_schedule.overdue

    def _export_failure(self) -> str | None:
        """Why so much waits to be exported that no new call is made, or None."""
        exporter, bytes_max = self._exporter, self.snapshots.current.settings.state.ledger_unexported_bytes_max
        if exporter is None or exporter.unexported_bytes <= bytes_max:
            return None
        return f"{exporter.unexported_bytes} bytes of ledger rows wait to be exported: {exporter.failure or 'too slow'}"

    def _failing_export(self) -> str | None:
        """What keeps rows from being exported, while there is room for them in the store."""
        exporter = self._exporter
        return None if exporter is None or self._export_failure() is not None else exporter.failure

    def _settled(self, _run_step: RunStep, settlement: StoreSettlement) -> None:
        if settlement.held_nusd and settlement.overage_nusd:  # what held nothing is under no cap
            self.metrics.overage()

    async def _watch_on(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                self.metrics.settlements_pending(self.keeper.pending)
                self.settlement.export_failure = self._export_failure()
                await self._ask_store()
            except StateIncompatible as error:  # it was away when this process started
                self._note_state_failure(error)
            except Exception:  # noqa: BLE001  whatever it is, the next turn may do
                _log.exception("how this process is could not be seen whole")

    async def _ask_store(self) -> None:
        try:
            await self.stores.door.ping()
            if self._state_failure is not None:  # what answers again may be another server, or be set otherwise
                await self.stores.admission.check()
        except StateUnavailable as error:
            self._note_state_failure(error)
        else:
            self._state_failure = None

    def _note_state_failure(self, error: GatewayError) -> None:
        if self._state_failure is None or self._state_said != error.for_operators:
            _log.error("the state store %s cannot be used: %s", self._state_url, error.for_operators)
            self._state_said = error.for_operators
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


def _newest_pepper(settings: Settings) -> bytes:
    return peppers_of(settings)[0]
