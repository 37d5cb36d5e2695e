"""Whether this process should get traffic, or all of one gateway's workers: what `/readyz` says, without HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.core import jsonio

_OK: Final = "ok"
_SILENT: Final = "no answer in time: it hangs, or another is just starting in its place"


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found. `checks` holds a check's name and what is wrong, or "ok"; `warnings` holds what an
    operator should do soon, and nothing where there is none."""

    ready: bool
    config_version: str
    checks: dict[str, str]
    warnings: dict[str, str]
    workers: tuple[dict[str, object], ...] = ()  # each on its own, where there are several

    def encode(self) -> bytes:
        """As JSON."""
        said = {"ready": self.ready, "config": self.config_version, "checks": self.checks, "warnings": self.warnings}
        return jsonio.encode({**said, "workers": self.workers} if self.workers else said)


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
        said = {name: failure or _OK for name, failure in failures.items()}
        if self.draining:
            said["draining"] = "this process was asked to stop, and finishes what is under way"
        warned = {name: warning for name, look in self.warnings.items() if (warning := look()) is not None}
        return Report(ready, self.config_version(), said, warned)


def whole(told: Mapping[int, dict[str, Any] | None]) -> Report:
    """One report of all workers, by their numbers: what each said of itself, or None where it said nothing in time.

    They are ready where one is. Who hangs or stops accepts nothing, and the next call goes to another; so what is amiss
    with a part of them is a warning, with the number of whom it is about.
    """
    heard = {number: said for number, said in sorted(told.items()) if said is not None}
    versions = sorted({said["config"] for said in heard.values()})
    ready = [said for said in heard.values() if said["ready"]]
    checks = dict(ready[0]["checks"]) if ready else _united({number: said["checks"] for number, said in heard.items()})
    checks["workers"] = _OK if ready else f"none of {len(told)} is ready"
    warnings = _united({number: said["warnings"] for number, said in heard.items()})
    for number, said in sorted(told.items()):
        if said is None:
            warnings[f"worker {number}"] = _SILENT
        elif ready and not said["ready"]:
            warnings[f"worker {number}"] = "; ".join(
                f"{name}: {what}" for name, what in said["checks"].items() if what != _OK
            )
    if len(versions) > 1:
        warnings["workers"] = f"they run {len(versions)} configurations"
    return Report(
        ready=bool(ready),
        config_version=", ".join(versions),
        checks=checks,
        warnings=warnings,
        workers=tuple(_in_short(number, told[number]) for number in sorted(told)),
    )


def _united(said: Mapping[int, dict[str, str]]) -> dict[str, str]:
    """By name, what is wrong; in the words of all where all agree, else with whose they are."""
    united = {}
    for name in {name: None for of_one in said.values() for name in of_one}:
        wrong = {number: of_one[name] for number, of_one in said.items() if of_one.get(name, _OK) != _OK}
        if len(wrong) == len(said) and len(set(wrong.values())) == 1:
            united[name] = next(iter(wrong.values()))
        else:
            united[name] = "; ".join(f"worker {number}: {what}" for number, what in wrong.items()) or _OK
    return united


def _in_short(number: int, said: dict[str, Any] | None) -> dict[str, object]:
    if said is None:
        return {"worker": number, "ready": False}
    return {"worker": number, "process": said["process"], "ready": said["ready"], "config": said["config"]}
