"""Whether this process should get traffic: what `/readyz` says, without HTTP."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found. `checks` holds a check's name and what is wrong, or "ok"; `warnings` holds what an
    operator should do soon, and nothing where there is none."""

    ready: bool
    config_version: str
    checks: dict[str, str]
    warnings: dict[str, str]


@dataclass(slots=True)
class Readiness:
    """The process's own view of itself.

    A check gives None where all is well, else what is wrong, in words. It is asked on the
    event loop and must not wait: it reads what others have found out. A warning is asked alike, and
    never takes traffic away.
    """

    config_version: Callable[[], str]
    checks: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    warnings: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    draining: bool = False  # set once, by the server, when it is asked to stop

    def look(self) -> Report:
        """Ask every check."""
        failures = {name: check() for name, check in self.checks.items()}
        ready = not self.draining and not any(failures.values())
        said = {name: failure or "ok" for name, failure in failures.items()}
        if self.draining:
            said["draining"] = "this process was asked to stop, and finishes what is under way"
        warned = {name: warning for name, look in self.warnings.items() if (warning := look()) is not None}
        return Report(ready, self.config_version(), said, warned)
