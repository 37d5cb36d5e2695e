"""The gateway as a process: behind our own HTTP front, until it is told to stop."""

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
from proxy.app.providers import Transports
from proxy.core.clock import Clock
from proxy.edge import server as edge
from proxy.settings.model import Settings
from proxy.settings.problem import SettingsError
from proxy.telemetry.error_log import ErrorLog
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
    settings.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return App(settings, transports or {}, access_log_sink or _unbuffered(sys.stdout), clock or Clock())


def serve(settings: Settings, read_settings: Callable[[], Settings]) -> int:
    """Run the gateway until it is told to stop; the process's exit code.

    `read_settings` reads the configuration anew when SIGHUP asks for it; what it raises
    (SettingsError, OSError, ValueError) leaves the old one in force.
    """
    error_log = ErrorLog(_unbuffered(sys.stderr))
    logging.basicConfig(handlers=[error_log], level=logging.INFO)
    if not core_dumps.forbid():
        _log.warning("core dumps of this process cannot be turned off here: one would hold keys in the clear")
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
    sys.setswitchinterval(_SWITCH_S)
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
