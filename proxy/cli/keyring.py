"""`tollway keyring status`, `prepare`, `rotate-kek` and `rotate-dek`, beside a running gateway."""

from argparse import Namespace

from proxy.administration.descriptions import described_keyring
from proxy.administration.keyring_rotations import RotationDone
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.progress import Progress
from proxy.cli.provider_keys import refusals_in_words
from proxy.cli.terminal import EXIT_OK, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.settings.model import Settings

_HEADINGS = ("KEK", "ID", "STATE", "DATA KEYS")


async def show_keyring(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show what is sealed by what, and what is due."""
    with refusals_in_words(""):
        async with open_command_desk(settings, composition, clock) as desk:
            status = await desk.keyring.status()
    terminal.answer(described_keyring(status))
    rows = [
        (kek.place or "(not configured)", kek.kek_id, _state(kek.place, kek.is_current), str(kek.data_keys))
        for kek in status.keks
    ]
    terminal.table(_HEADINGS, rows, right=(3,))
    if status.oldest_at_ms is not None:
        terminal.say(f"The oldest data key was made at {instant(status.oldest_at_ms)}.")
    if status.due:
        terminal.note(
            f"Due by rotate_after_days ({status.rotate_after_days}): {status.due} tenants. "
            "Run `tollway keyring rotate-dek --due`."
        )
    return EXIT_OK


async def prepare_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Make a tenant's data key, unseen."""
    with refusals_in_words(arguments.tenant):
        async with open_command_desk(settings, composition, clock) as desk:
            is_new = await desk.keyring.prepare(arguments.tenant)
    terminal.say(f"{arguments.tenant} has a data key{' now' if is_new else ' already'}.")
    terminal.answer({"tenant": arguments.tenant, "is_new": is_new})
    return EXIT_OK


async def rotate_kek(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Have the current KEK wrap every data key."""
    progress = Progress(terminal, clock, "tenants visited")
    try:
        with refusals_in_words(""):
            async with open_command_desk(settings, composition, clock) as desk:
                done = await desk.keyring.rotate_kek(progress.add)
    finally:
        progress.end()
    return _tell(done, "Data keys that the current KEK wraps now", terminal)


async def rotate_dek(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Have provider keys sealed by new data keys."""
    progress = Progress(terminal, clock, "tenants visited")
    try:
        with refusals_in_words(arguments.tenant or ""):
            async with open_command_desk(settings, composition, clock) as desk:
                if arguments.tenant is not None:
                    done = await desk.keyring.rotate_dek(arguments.tenant)
                else:
                    before_ms = desk.keyring.due_before_ms()
                    if arguments.older_than is not None:
                        before_ms = clock.now_ms() - arguments.older_than
                    done = await desk.keyring.rotate_old_deks(before_ms, progress.add)
    finally:
        progress.end()
    return _tell(done, "Provider keys that new data keys seal now", terminal)


def _tell(done: RotationDone, what: str, terminal: Terminal) -> int:
    terminal.answer(
        {"tenants": done.tenants, "rotated": done.rotated, "changed": done.changed, "failed": list(done.failed)}
    )
    if done.failed:
        named = ", ".join(done.failed[:10])
        raise CommandFailed(
            f"of {len(done.failed)} tenants something cannot be read, and stays as it was: {named}. What is above says "
            "why; docs/provider-keys.md says what to do."
        )
    terminal.say(f"{what}: {done.changed:,}, of {done.rotated:,} of {done.tenants:,} tenants.")
    return EXIT_OK


def _state(place: str | None, is_current: bool) -> str:
    if place is None:
        return "MISSING: what it wraps cannot be opened"
    return "current" if is_current else "only unwraps"
