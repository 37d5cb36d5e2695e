"""`tollway provider-keys put`, `list`, `rotate` and `delete`, beside a running gateway."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.administration.descriptions import described_provider_key
from proxy.administration.provider_keys import StoredProviderKey
from proxy.administration.refusals import KeyringMissing, ProviderKeyUnknown, ProviderTakesNoKey, ProviderUnknown
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.errors import InvalidParameter, ProviderKeyUnreadable
from proxy.core.instants import instant
from proxy.settings.model import Settings

_HEADINGS = ("ID", "PROVIDER", "USER", "STATE", "VERSION", "FINGERPRINT", "ENDS IN", "SINCE", "SENT TO")


async def put_provider_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Store one, read unseen."""
    secret = terminal.ask_secret(_prompt(arguments))
    with refusals_in_words(arguments.tenant):
        async with open_command_desk(settings, composition, clock) as desk:
            stored = await desk.provider_keys.put(arguments.tenant, arguments.provider, arguments.user, secret)
    _tell("Stored", stored, terminal)
    return EXIT_OK


async def rotate_provider_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Put another in its place."""
    secret = terminal.ask_secret(_prompt(arguments))
    with refusals_in_words(arguments.tenant):
        async with open_command_desk(settings, composition, clock) as desk:
            stored = await desk.provider_keys.rotate(arguments.tenant, arguments.provider, arguments.user, secret)
    _tell("Rotated", stored, terminal)
    return EXIT_OK


async def delete_provider_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Wipe one."""
    with refusals_in_words(arguments.tenant):
        async with open_command_desk(settings, composition, clock) as desk:
            ended = await desk.provider_keys.delete(arguments.tenant, arguments.provider, arguments.user)
    record = ended.newest
    terminal.say(f"Deleted {record.credential_id} of {record.tenant_id} for {record.provider}.")
    terminal.answer(described_provider_key(ended))
    return EXIT_OK


async def list_provider_keys(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show what a tenant stored."""
    async with open_command_desk(settings, composition, clock) as desk:
        found = await desk.provider_keys.list(arguments.tenant)
    terminal.answer({"provider_keys": [described_provider_key(stored) for stored in found]})
    if found:
        terminal.table(_HEADINGS, [_row(stored) for stored in found])
    else:
        terminal.note(
            f"No provider keys. `tollway provider-keys put --tenant {arguments.tenant} --provider P` stores one."
        )
    return EXIT_OK


@contextmanager
def refusals_in_words(tenant_id: str) -> Iterator[None]:
    """Says why nothing was changed, and what to do, where a command is typed."""
    try:
        yield
    except KeyringMissing:
        message = "the configuration names no KEK, so nothing can be sealed. Write [keyring] kek first."
        raise CommandFailed(message) from None
    except ProviderUnknown as refused:
        message = f"there is no provider of that name. {refused.suggestion or 'Write it under [providers] first.'}"
        raise CommandFailed(message, exit_code=EXIT_USAGE) from None
    except ProviderTakesNoKey as refused:
        message = f"the provider {refused.provider} is the built-in one, and asks for no key."
        raise CommandFailed(message, exit_code=EXIT_USAGE) from None
    except ProviderKeyUnknown:
        message = f"none is stored there. `tollway provider-keys list --tenant {tenant_id}` shows what is."
        raise CommandFailed(message) from None
    except InvalidParameter as error:
        raise CommandFailed(error.message, exit_code=EXIT_USAGE) from None
    except ProviderKeyUnreadable as error:
        why = unreadable_in_words(error)
        message = f"the tenant's data key cannot be used: {why}. docs/provider-keys.md says what to do."
        raise CommandFailed(message) from None


def unreadable_in_words(error: ProviderKeyUnreadable) -> str:
    """The reason, and what the KMS said where it was asked."""
    return error.reason.value if error.cause is None else f"{error.reason.value} ({error.cause})"


def _prompt(arguments: Namespace) -> str:
    whose = f"{arguments.tenant}'s" if arguments.user is None else f"{arguments.user}'s (of {arguments.tenant})"
    shown = "".join(each if each.isprintable() else "\ufffd" for each in whose)
    return f"{shown} key for {arguments.provider} (not shown): "


def _tell(done: str, stored: StoredProviderKey, terminal: Terminal) -> None:
    record = stored.newest
    ending = f", ends in {record.last_four}" if record.last_four else ""
    terminal.say(
        f"{done} {record.credential_id} of {record.tenant_id} for {record.provider}: version {record.version}, "
        f"fingerprint {record.fingerprint}{ending}. It is sent to {record.origin} alone."
    )
    terminal.answer(described_provider_key(stored))
    for note in stored.notes:
        terminal.note(f"Note: {note}")


def _row(stored: StoredProviderKey) -> tuple[str, ...]:
    record = stored.newest
    return (
        record.credential_id,
        record.provider,
        record.user or "all",
        str(record.state),
        str(record.version),
        record.fingerprint,
        f"…{record.last_four}" if record.last_four else "(short)",
        instant(record.created_at_ms if record.ended_at_ms is None else record.ended_at_ms),
        record.origin,
    )
