"""All workers of a gateway, as the one that is asked on the admin port sees them."""

import os
from typing import Any, Final

from proxy.core import jsonio
from proxy.edge.health import Readiness, Report, whole
from proxy.edge.place import Place
from proxy.edge.siblings import Siblings
from proxy.telemetry.worker_figures import WorkerFigures

_READINESS: Final = b"readiness"
_FIGURES: Final = b"figures"


class Crew:
    """Asks the siblings, and answers them. One that is silent delays what is said by less than a second."""

    def __init__(self, place: Place, readiness: Readiness, figures: WorkerFigures) -> None:
        self._number = place.number
        self._readiness = readiness
        self._figures = figures
        tell = {_READINESS: lambda: jsonio.encode(self._own()), _FIGURES: figures.tell}
        self._siblings = Siblings(place.number, place.lines, tell)

    def start(self) -> None:
        """Answer the siblings."""
        self._siblings.start()

    def stop(self) -> None:
        """Answer no more."""
        self._siblings.stop()

    async def look(self) -> Report:
        """How all are."""
        answers = await self._siblings.ask(_READINESS)
        others = {number: None if said is None else jsonio.parse(said) for number, said in answers.items()}
        return whole({**others, self._number: self._own()})

    async def render_metrics(self) -> tuple[bytes, str]:
        """What all have counted."""
        others = await self._siblings.ask(_FIGURES)
        return self._figures.render(others)

    def _own(self) -> dict[str, Any]:
        report = self._readiness.look()
        return {
            "process": os.getpid(),
            "ready": report.ready,
            "config": report.config_version,
            "checks": report.checks,
            "warnings": report.warnings,
        }
