"""The gateway as a process, or as several: behind our own HTTP front, until it is told to stop."""

import asyncio
import gc
import io
import logging
import sys
from collections.abc import Callable
from typing import Final, TextIO

import uvloop

from proxy.adapters import core_dumps
from proxy.app.application import App
from proxy.app.handover import Handover
from proxy.app.providers import Transports
from proxy.app.rereading import Rereading
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError
from proxy.edge import server as edge
from proxy.edge.place import Place, Places
from proxy.edge.sockets import both_bound, url_of
from proxy.edge.supervisor import Supervisor
from proxy.settings.load import ReadSettings
from proxy.settings.model import Settings
from proxy.settings.problem import SettingsError
from proxy.telemetry.error_log import ErrorLog, ThreadlessErrorLog
from proxy.telemetry.sink import Sink

_log = logging.getLogger("tollway")

# How long the store's thread waits for the interpreter while requests keep it busy, each time that
# SQLite gives it up: a dozen times in a transaction. CPython's 5 ms would make that 60 ms.
_SWITCH_S: Final = 0.0005
_YOUNG_OBJECTS: Final = 20_000  # of some hundred a request; CPython's 700 collects every few requests


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
    return _make_app(settings, transports or {}, access_log_sink or _unbuffered(sys.stdout), clock or Clock())


def serve(settings: Settings, read_settings: ReadSettings) -> int:
    """Run the gateway until it is told to stop; the process's exit code.

    `read_settings` reads the configuration anew when SIGHUP asks for it, in a thread of its own; what it
    raises (SettingsError, OSError, ValueError) leaves the old one in force.
    """
    if settings.server.workers > 1:
        return _supervise(settings, read_settings)
    error_log = ErrorLog(_unbuffered(sys.stderr))
    _log_to(error_log)
    _forbid_core_dumps()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, read_settings, error_log))
    finally:
        error_log.end()
    return 0


def _supervise(settings: Settings, read_settings: ReadSettings) -> int:
    """Several workers: this process serves nothing, and keeps them running."""
    error_log = ThreadlessErrorLog(sys.stderr.fileno())
    _log_to(error_log)
    _forbid_core_dumps()  # which holds for those that are forked, too
    in_force = settings
    handover = Handover(read_settings)

    def reload() -> bool:
        nonlocal in_force
        try:
            in_force = handover.read(in_force)
        except (SettingsError, OSError, ValueError) as error:
            _log.error("the new configuration is refused; %s stays in force: %s", in_force.version, error)
            return False
        except Exception:  # noqa: BLE001  a fault of ours must not be the end of every call
            _log.exception("the reload failed; %s stays in force", in_force.version)
            return False
        return True

    def begun() -> None:
        error_log.say(f"Tollway listens on {url_of(data_socket)}")
        error_log.say(f"Health and metrics: {url_of(admin_socket)}")

    with both_bound(settings.server) as (data_socket, admin_socket):
        places = Places(settings.server.workers, data_socket, admin_socket)
        gc.collect()
        gc.freeze()  # what is there now, the workers share
        supervisor = Supervisor(
            places, lambda place: _work(in_force, handover.load, place), reload, begun, settings.server.drain_s
        )
        return supervisor.run()


def _work(settings: Settings, read_settings: Callable[[], Settings], place: Place) -> int:
    """A worker's life, in its own process; the exit code."""
    logging.getLogger().handlers.clear()  # the supervisor's
    error_log = ErrorLog(_unbuffered(sys.stderr), place.number)
    _log_to(error_log)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, read_settings, error_log, place))
    except (GatewayError, OSError, ValueError) as error:  # what a gateway of one process ends with, too
        _log.error("%s", error.for_operators if isinstance(error, GatewayError) else error)
        return 1
    except Exception:  # noqa: BLE001  said here, while there is a log of this worker's own
        _log.exception("this worker ends of a fault of ours")
        return 1
    finally:
        error_log.end()
    return 0


async def _serve(
    settings: Settings, read_settings: Callable[[], Settings], error_log: ErrorLog, place: Place | None = None
) -> None:
    app = _make_app(settings, {}, _unbuffered(sys.stdout), Clock(), place)

    rereading = Rereading(read_settings, app.reload, lambda: app.snapshots.current.version)
    await app.startup()
    sys.setswitchinterval(_SWITCH_S)
    _calm_garbage_collection()
    try:
        await edge.serve(
            data_app=app.data_plane,
            admin_app=app.admin_app,
            server_settings=settings.server,
            readiness=app.readiness,
            on_reload=rereading.ask,
            on_refused=lambda error, client: app.settlement.note_refusal(error, client[0] if client else None),
            announce=error_log.say,
            place=place,
        )
    finally:
        await rereading.stop()
        await app.shutdown()


def _log_to(handler: logging.Handler) -> None:
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # at INFO they write whole URLs


def _forbid_core_dumps() -> None:
    if not core_dumps.forbid():
        _log.warning("core dumps of this process cannot be turned off here: one would hold keys in the clear")


def _make_app(
    settings: Settings, transports: Transports, access_log_sink: Sink, clock: Clock, place: Place | None = None
) -> App:
    settings.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return App(settings, transports, access_log_sink, clock, place)


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
