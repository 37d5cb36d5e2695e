"""`tollway keys issue`, `list` and `revoke`: virtual keys, beside a running gateway."""

from argparse import Namespace

from proxy.administration.descriptions import described_virtual_key
from proxy.administration.refusals import VirtualKeyUnknown
from proxy.administration.virtual_keys import Wanted
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.limits import typed_limits
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.consent import Consent
from proxy.core.errors import InvalidParameter
from proxy.core.instants import instant
from proxy.identity.virtual_key import ID_PREFIX, LAST_CHARACTERS, TOKEN_PREFIX, VirtualKey, is_well_formed
from proxy.settings.model import Settings

_HEADINGS = ("ID", "TENANT", "STATE", "USER", "FEATURE", "MODELS", "CREATED", "EXPIRES", "ENDS IN")


async def issue_virtual_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Make a virtual key, keep its digest, and print it once."""
    wanted = Wanted(
        tenant_id=arguments.tenant,
        user=arguments.user,
        feature=arguments.feature,
        allowed_models=arguments.models,
        expires_in_ms=arguments.expires,
        limits=typed_limits(arguments),
        fallback=None if arguments.fallback is None else Consent(arguments.fallback),
    )
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            issued = await desk.virtual_keys.issue(wanted)
    except InvalidParameter as error:
        raise CommandFailed(error.message, exit_code=EXIT_USAGE) from None
    # Stored first: a key that was printed and is not known would look like an outage later.
    virtual_key, token = issued.virtual_key, issued.token.reveal()
    terminal.say(token)
    terminal.answer({"virtual_key": token, **described_virtual_key(virtual_key, clock.now_ms())})
    expiry = "" if virtual_key.expires_at_ms is None else f", until {instant(virtual_key.expires_at_ms)}"
    terminal.note(f"Issued {virtual_key.id} for {virtual_key.tenant_id}{expiry}. The key is shown only this once.")
    for note in issued.notes:
        terminal.note(f"Note: {note}")
    return EXIT_OK


async def list_virtual_keys(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show what was issued."""
    async with open_command_desk(settings, composition, clock) as desk:
        virtual_keys = await desk.virtual_keys.list(arguments.tenant)
    now_ms = clock.now_ms()
    terminal.answer({"virtual_keys": [described_virtual_key(virtual_key, now_ms) for virtual_key in virtual_keys]})
    if virtual_keys:
        terminal.table(_HEADINGS, [_row(virtual_key, now_ms) for virtual_key in virtual_keys])
    else:
        terminal.note("No virtual keys. `tollway keys issue --tenant T` makes one.")
    return EXIT_OK


async def revoke_virtual_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """End a virtual key."""
    _refuse_token(arguments.id)
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            virtual_key = await desk.virtual_keys.revoke(arguments.id)
    except VirtualKeyUnknown:
        # What does not begin as ids do may be another secret.
        named = f"the id {arguments.id!r}" if arguments.id.startswith(ID_PREFIX) else "this id: they begin with vk_"
        message = f"no virtual key has {named}. `tollway keys list` shows them."
        raise CommandFailed(message) from None
    terminal.say(f"Revoked {virtual_key.id} of {virtual_key.tenant_id}.")
    terminal.answer(described_virtual_key(virtual_key, clock.now_ms()))
    return EXIT_OK


def _refuse_token(typed: str) -> None:
    """Whoever wants a leaked key gone has the key at hand, not its id. Shown once more, it would stand in a log.

    Raises:
        CommandFailed: it is the key.
    """
    if typed.startswith(TOKEN_PREFIX):
        ending = f"; of this one …{typed[-LAST_CHARACTERS:]}" if is_well_formed(typed) else ""
        message = "that is the key itself, not its id. `tollway keys list` shows the ids, and what each key ends in"
        raise CommandFailed(f"{message}{ending}.", exit_code=EXIT_USAGE)


def _row(virtual_key: VirtualKey, now_ms: int) -> tuple[str, ...]:
    models = virtual_key.allowed_models
    return (
        virtual_key.id,
        virtual_key.tenant_id,
        str(virtual_key.state(now_ms)),
        virtual_key.user or "any",
        virtual_key.feature or "any",
        "all" if models is None else ",".join(sorted(models)),
        instant(virtual_key.created_at_ms),
        "never" if virtual_key.expires_at_ms is None else instant(virtual_key.expires_at_ms),
        f"…{virtual_key.last_four}",
    )
