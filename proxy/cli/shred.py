"""`tollway tenants shred`, beside a running gateway."""

from argparse import Namespace

from proxy.administration.refusals import TenantUnknown
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.settings.model import Settings


async def shred_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Make all that a tenant stored unreadable, once a person has typed its id again."""
    if not arguments.yes:
        _confirm(arguments.id, terminal)
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            done = await desk.shredding.shred(arguments.id)
    except TenantUnknown:
        message = f"nobody has heard of a tenant {arguments.id}. `tollway tenants list` shows them."
        raise CommandFailed(message) from None
    revoked = f", and {len(done.revoked)} of its virtual keys revoked" if done.revoked else ""
    terminal.say(f"Shredded {done.tenant_id} ({instant(done.shredded_at_ms)}): its provider keys are gone{revoked}.")
    terminal.answer(
        {
            "id": done.tenant_id,
            "shredded_at": instant(done.shredded_at_ms),
            "revoked": list(done.revoked),
            "notes": list(done.notes),
        }
    )
    for note in done.notes:
        terminal.note(f"Note: {note}")
    return EXIT_OK


def _confirm(tenant_id: str, terminal: Terminal) -> None:
    typed = terminal.ask(
        f"All that {tenant_id} stored becomes unreadable, and its id is used up. This cannot be undone.\n"
        f"Type {tenant_id} to go on: "
    )
    if typed is None:
        message = "standard input is no terminal, so nobody can be asked. Say --yes if you mean it."
        raise CommandFailed(message, exit_code=EXIT_USAGE)
    if typed != tenant_id:
        raise CommandFailed(f"that is not {tenant_id}. Nothing was done.")
