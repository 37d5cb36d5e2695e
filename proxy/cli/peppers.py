"""`tollway keys peppers` and `keys retire-pepper`: what virtual keys are digested under, and the end of one."""

import argparse
import re
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from proxy.administration.descriptions import described_virtual_key
from proxy.administration.desk import open_desk
from proxy.administration.peppers import PepperAdministration, Standing, Survey
from proxy.administration.refusals import PepperIsNewest, PeppersUnnoted, PepperUnknown
from proxy.cli.composition import Composition
from proxy.cli.desk import system_user
from proxy.cli.progress import Progress
from proxy.cli.terminal import EXIT_OK, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.identity.virtual_key import UNKNOWN_PEPPER, VirtualKey
from proxy.settings.model import Settings

_HEADINGS = ("PEPPER", "STANDS", "VIRTUAL KEYS", "ONLY HERE")
_REST_HEADINGS = ("ID", "TENANT", "USER", "FEATURE", "CREATED", "ENDS IN")
_SHOWN_MAX: Final = 50
_UNKNOWN: Final = "unknown"


class Verbs(Protocol):
    """Where verbs of `tollway keys` are added."""

    def add_parser(
        self, name: str, *, parents: Sequence[argparse.ArgumentParser], help: str, description: str
    ) -> argparse.ArgumentParser:
        """A new verb."""
        ...


def fingerprint(text: str) -> str:
    """A pepper's fingerprint."""
    if not re.fullmatch("[0-9a-f]{12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no fingerprint of a pepper: `tollway keys peppers` shows them")
    return text


def add_pepper_verbs(verbs: Verbs, shared: argparse.ArgumentParser) -> None:
    """What can be typed after `tollway keys` about peppers."""
    peppers = verbs.add_parser(
        "peppers",
        parents=[shared],
        help="show which pepper the virtual keys are under",
        description="Show how many virtual keys that work are under each pepper, by its fingerprint, and those that an "
        "older one alone opens. A key moves on to the newest pepper when it is used.",
    )
    peppers.set_defaults(command="keys peppers")

    retire = verbs.add_parser(
        "retire-pepper",
        parents=[shared],
        help="revoke what only an older pepper opens",
        description="End an older pepper, before it is taken out of the configuration: show the virtual keys that it "
        "alone opens, revoke them once that is confirmed, and forget all digests under it. Every gateway has to know "
        "the newest pepper by then. Can be interrupted and repeated.",
    )
    retire.add_argument("pepper", metavar="FINGERPRINT", type=fingerprint, help="as `tollway keys peppers` shows it")
    retire.add_argument("--yes", action="store_true", help="do it without asking")
    retire.add_argument(
        "--unknown-too",
        action="store_true",
        help="also revoke the keys whose pepper nobody has noted: those from an earlier release, not used since",
    )
    retire.set_defaults(command="keys retire-pepper")


async def show_peppers(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show every pepper, and what older ones alone open."""
    async with _open_peppers(settings, composition, clock) as peppers:
        survey = await _survey(peppers, terminal, clock)
    now_ms = clock.now_ms()
    left_behind = [standing for standing in survey.standings if standing.place != 0 and standing.only_here]
    terminal.answer(
        {
            "peppers": [_described(standing) for standing in survey.standings],
            "only_under_older": [
                {"pepper": standing.pepper or None, **described_virtual_key(virtual_key, now_ms)}
                for standing in left_behind
                for virtual_key in survey.rest[standing.pepper]
            ],
        }
    )
    terminal.table(_HEADINGS, [_row(standing) for standing in survey.standings], right=(2, 3))
    for standing in left_behind:
        terminal.say(f"\nOnly under {standing.pepper or 'a pepper that nobody has noted'}:")
        _show(survey.rest[standing.pepper], terminal)
    return EXIT_OK


async def retire_pepper(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Revoke what an older pepper alone opens, and forget the digests under it."""
    pepper, unnoted_too = arguments.pepper, arguments.unknown_too
    async with _open_peppers(settings, composition, clock) as peppers:
        survey = await _survey(peppers, terminal, clock)
        try:
            peppers.check(pepper, survey, unnoted_too=unnoted_too)
        except (PepperIsNewest, PepperUnknown, PeppersUnnoted) as refused:
            raise CommandFailed(_why_not(refused)) from None
        rest = [*survey.rest.get(pepper, ()), *(survey.rest.get(UNKNOWN_PEPPER, ()) if unnoted_too else ())]
        if rest:
            terminal.note(f"{len(rest)} virtual keys are opened by no other pepper, and are to be revoked:")
            _show(rest, terminal)
        if not arguments.yes:
            _confirm(pepper, terminal)
        progress = Progress(terminal, clock, "virtual keys seen to")
        retired = await peppers.retire(pepper, survey, progress.add, unnoted_too=unnoted_too)
        progress.end()
    terminal.answer({"pepper": pepper, "revoked": retired.revoked, "forgotten": retired.forgotten})
    terminal.say(f"Retired {pepper}: {retired.revoked} virtual keys revoked, {retired.forgotten} go on without it.")
    terminal.note("Now take it out of [auth] peppers, wherever it stands.")
    return EXIT_OK


@asynccontextmanager
async def _open_peppers(
    settings: Settings, composition: Composition, clock: Clock
) -> AsyncIterator[PepperAdministration]:
    async with composition.open_stores(settings) as stores:
        listed = composition.peppers_of(settings)
        desk = open_desk(settings, stores, lambda: listed[0], clock, f"cli:{system_user()}")
        yield PepperAdministration(stores.virtual_keys, desk.virtual_keys, listed, clock)


async def _survey(peppers: PepperAdministration, terminal: Terminal, clock: Clock) -> Survey:
    progress = Progress(terminal, clock, "virtual keys seen")
    survey = await peppers.survey(progress.add)
    progress.end()
    return survey


def _confirm(pepper: str, terminal: Terminal) -> None:
    if terminal.as_json or not sys.stdin.isatty():
        raise CommandFailed("nothing was changed: confirm it with --yes, or on a terminal.")
    terminal.note(f"Gateways that do not know the newest pepper will refuse every virtual key. Type {pepper} to go on:")
    if sys.stdin.readline().strip() != pepper:
        raise CommandFailed("nothing was changed.")


def _why_not(refused: PepperIsNewest | PepperUnknown | PeppersUnnoted) -> str:
    match refused:
        case PepperIsNewest():
            return (
                f"{refused.pepper} is the newest pepper: new virtual keys are issued under it. Put another one before "
                "it in [auth] peppers first."
            )
        case PepperUnknown():
            return f"no pepper has the fingerprint {refused.pepper}. `tollway keys peppers` shows them."
        case PeppersUnnoted():
            return (
                f"nobody has noted the pepper of {refused.virtual_keys} virtual keys: they were issued by an earlier "
                "release and not used since, and may be under this one. Wait until they were used, or revoke them "
                "with --unknown-too."
            )


def _show(virtual_keys: Sequence[VirtualKey], terminal: Terminal) -> None:
    rows = [
        (
            virtual_key.id,
            virtual_key.tenant_id,
            virtual_key.user or "any",
            virtual_key.feature or "any",
            instant(virtual_key.created_at_ms),
            f"…{virtual_key.last_four}",
        )
        for virtual_key in virtual_keys[:_SHOWN_MAX]
    ]
    terminal.table(_REST_HEADINGS, rows)
    if len(virtual_keys) > _SHOWN_MAX:
        terminal.say(f"and {len(virtual_keys) - _SHOWN_MAX:,} more: `tollway keys peppers --json` has them all")


def _described(standing: Standing) -> dict[str, object]:
    return {
        "fingerprint": standing.pepper or None,
        "is_newest": standing.place == 0,
        "in_configuration": standing.place is not None,
        "virtual_keys": standing.virtual_keys,
        "only_here": standing.only_here,
    }


def _row(standing: Standing) -> tuple[str, ...]:
    if standing.place is None:
        stands = "not noted" if standing.pepper == UNKNOWN_PEPPER else "taken out"
    else:
        stands = "newest" if standing.place == 0 else "older"
    return (standing.pepper or _UNKNOWN, stands, f"{standing.virtual_keys:,}", f"{standing.only_here:,}")
