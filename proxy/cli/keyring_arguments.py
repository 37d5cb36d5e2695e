"""What can be typed of provider keys and what seals them."""

import argparse
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.cli.argument_types import duration_ms, tenant_id
from proxy.cli.command_parser import COMMAND

AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]

TAKE_SECRETS: Final = frozenset({"provider-keys put", "provider-keys rotate"})
"""Commands that read a secret, which somebody may type as an argument."""


def add_provider_keys(add_parser: AddParser, shared: argparse.ArgumentParser) -> None:
    """`tollway provider-keys`."""
    noun = add_parser(
        "provider-keys",
        help="put, list, rotate and delete provider keys of tenants",
        description="Provider keys: what a provider issued to a tenant, stored sealed, to pay for the tenant's calls. "
        "Needs [keyring] kek. None is ever shown again.",
    )
    verbs = noun.add_subparsers(title="commands", metavar=COMMAND, required=True)
    put = verbs.add_parser(
        "put",
        parents=[shared],
        help="store a provider key",
        description="Store a provider key, which is typed unseen, or read from standard input where that is no "
        "terminal; never from an argument. It is sent to the provider's present address and nowhere else. Where one "
        "is stored already, it becomes the next version, and the one before is wiped.",
        epilog="Example: tollway provider-keys put --tenant acme --provider openai < key.txt",
    )
    _add_place(put)
    put.set_defaults(command="provider-keys put")

    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show what a tenant stored",
        description="Show a tenant's provider keys: fingerprints and last four characters, never the keys. With "
        "--json earlier versions are shown, too.",
    )
    listing.add_argument("--tenant", required=True, type=tenant_id, metavar="T", help="whose keys")
    listing.set_defaults(command="provider-keys list")

    rotate = verbs.add_parser(
        "rotate",
        parents=[shared],
        help="put another in the place of one that is stored",
        description="Put another provider key, read as `put` does, in the place of one that is stored, for the same "
        "address, and wipe that one. Refused where none is stored. No call fails meanwhile.",
    )
    _add_place(rotate)
    rotate.set_defaults(command="provider-keys rotate")

    delete = verbs.add_parser(
        "delete",
        parents=[shared],
        help="wipe a provider key",
        description="Wipe a provider key. Running gateways stop using it with the tenant's next call, or in seconds.",
    )
    _add_place(delete)
    delete.set_defaults(command="provider-keys delete")


def add_shred(add_parser: AddParser, shared: argparse.ArgumentParser) -> None:
    """`tollway tenants shred`."""
    shred = add_parser(
        "shred",
        parents=[shared],
        help="make all that a tenant stored unreadable, for ever",
        description="Make all that a tenant stored unreadable, for ever: its data keys and provider keys are wiped, "
        "its virtual keys revoked, and its id is used up. It waits for no call, and CANNOT BE UNDONE. Its rows stay in "
        "the ledger. Asks for the id again on a terminal.",
    )
    shred.add_argument("id", type=tenant_id, metavar="ID", help="as `tollway tenants list` shows it")
    shred.add_argument("--yes", action="store_true", help="do not ask: needed where nobody types")
    shred.set_defaults(command="tenants shred")


def add_keyring(add_parser: AddParser, shared: argparse.ArgumentParser) -> None:
    """`tollway keyring`."""
    noun = add_parser(
        "keyring",
        help="show and rotate what seals provider keys",
        description="The keyring: KEKs, which wrap the tenants' data keys (DEKs), which seal their provider keys. "
        "Every rotation runs while calls go on, and may be broken off: run it again, and it goes on.",
    )
    verbs = noun.add_subparsers(title="commands", metavar=COMMAND, required=True)
    status = verbs.add_parser(
        "status",
        parents=[shared],
        help="show what is sealed by what, and what is due",
        description="Show how many data keys each KEK wraps, how old the oldest is, and how many tenants are due.",
    )
    status.set_defaults(command="keyring status")

    prepare = verbs.add_parser(
        "prepare",
        parents=[shared],
        help="make a tenant's data key, unseen",
        description="Make a tenant's data key without seeing it, so that a gateway whose role in the KMS may only "
        "decrypt can store the tenant's provider keys.",
    )
    prepare.add_argument("--tenant", required=True, type=tenant_id, metavar="T", help="whose data key")
    prepare.set_defaults(command="keyring prepare")

    rotate_kek = verbs.add_parser(
        "rotate-kek",
        parents=[shared],
        help="have the current KEK wrap every data key",
        description="Have the first KEK of [keyring] kek wrap every data key. Put the new one first, restart the "
        "gateways, run this, and take the old one out once `tollway keyring status` shows 0 for it.",
    )
    rotate_kek.set_defaults(command="keyring rotate-kek")

    rotate_dek = verbs.add_parser(
        "rotate-dek",
        parents=[shared],
        help="seal provider keys by new data keys",
        description="Make new data keys, seal the tenants' provider keys by them, and delete the old ones.",
        epilog="Example: tollway keyring rotate-dek --due",
    )
    which = rotate_dek.add_mutually_exclusive_group(required=True)
    which.add_argument("--tenant", type=tenant_id, metavar="T", help="this tenant's, however old it is")
    which.add_argument(
        "--due", action="store_true", help="all that are older than keyring.rotate_after_days, or were broken off"
    )
    which.add_argument(
        "--older-than", type=duration_ms, metavar="SPAN", help="all that are older than that: 30m, 12h, 30d, 4w"
    )
    rotate_dek.set_defaults(command="keyring rotate-dek")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", required=True, type=tenant_id, metavar="T", help="whose key it is")
    parser.add_argument("--provider", required=True, metavar="P", help="as under [providers] in the configuration")
    parser.add_argument("--user", metavar="U", help="the only user whose calls it pays for (else all of the tenant's)")
