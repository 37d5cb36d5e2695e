"""All workers of a gateway, as the one that is asked on the admin port sees them; and what each does for the others:
it shows that it turns, leaves what it has counted, and forgets what another has changed."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from proxy.core import jsonio
from proxy.edge.health import Readiness, Report, whole
from proxy.edge.place import Place
from proxy.edge.siblings import Siblings
from proxy.telemetry.worker_figures import WorkerFigures

_READINESS: Final = b"readiness"
_FIGURES: Final = b"figures"
_FORGET: Final = b"forget"
_READINESS_S: Final = 0.5  # a probe often waits for a second
_TURN_S: Final = 2.0  # what a killed worker counted in that time is lost

Forget = Callable[[str, str | None], object]
"""Forgets what this worker remembers of a tenant, or of one virtual key of it, by their ids."""


class Crew:
    """Asks the siblings, and answers them. One that is silent delays what is said by less than a second."""

    def __init__(self, place: Place, readiness: Readiness, figures: WorkerFigures, forget: Forget) -> None:
        self._number = place.number
        self._crowd = place.crowd
        self._readiness = readiness
        self._figures = figures
        answers = {_READINESS: lambda: jsonio.encode(self._own()), _FIGURES: figures.tell}
        hears = {_FORGET: lambda about: forget(*jsonio.parse(about))}
        self._siblings = Siblings(place.number, place.lines, answers, hears)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Answer the siblings, and show that this worker turns."""
        self._siblings.start()
        self._turn()

    def stop(self) -> None:
        """Answer no more, and leave what was counted. The last thing that a worker does on its loop."""
        if self._timer is not None:
            self._timer.cancel()
        self._siblings.stop()
        self._figures.keep()

    async def look(self) -> Report:
        """How all are."""
        answers = await self._siblings.ask(_READINESS, _READINESS_S)
        others = {number: None if said is None else jsonio.parse(said) for number, said in answers.items()}
        return whole({**others, self._number: self._own()})

    async def render_metrics(self) -> tuple[bytes, str]:
        """What all have counted."""
        others = await self._siblings.ask(_FIGURES)
        return self._figures.render(others)

    def tell_changed(self, tenant_id: str, virtual_key_id: str | None) -> None:
        """Let the siblings forget what they remember of it. One that cannot hear it now finds out in 5 s."""
        self._siblings.tell(_FORGET, jsonio.encode([tenant_id, virtual_key_id]))

    def _turn(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TURN_S, self._turn)
        self._crowd.turn(self._number)
        self._figures.keep()

    def _own(self) -> dict[str, Any]:
        report = self._readiness.look()
        return {
            "process": os.getpid(),
            "ready": report.ready,
            "config": report.config_version,
            "checks": report.checks,
            "warnings": report.warnings,
        }
