"""What can be typed: `tollway NOUN VERB`, and the help that says so."""

import argparse
from collections.abc import Callable, Sequence

from proxy import __version__
from proxy.cli.argument_types import (
    dimensions,
    duration_ms,
    model_list,
    moment,
    page_number,
    regions,
    tenant_id,
    time_zone,
)
from proxy.cli.cache_arguments import add_cache
from proxy.cli.command_parser import COMMAND, CommandParser
from proxy.cli.keyring_arguments import TAKE_SECRETS, add_keyring, add_provider_keys, add_shred
from proxy.cli.limits import add_limits
from proxy.cli.peppers import add_pepper_verbs
from proxy.cli.routing_arguments import add_routing
from proxy.cli.tenant_cache_arguments import add_tenant_cache
from proxy.core.consent import Consent
from proxy.ledger.usage import DIMENSIONS
from proxy.settings.model import NoCeiling, OnUnsupported, StreamUsage


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line. `command` is the command's name: `serve`, `check`, `keys issue`, …

    Raises:
        SystemExit: with 2 where it cannot be read, with 0 where help or the version was asked for.
    """
    parser = _parser()
    arguments, unread = parser.parse_known_args(words)
    if unread:
        parser.error(_unread_in_words(arguments.command, unread))
    arguments.config = getattr(arguments, "config", None)
    arguments.as_json = getattr(arguments, "as_json", False)
    return arguments


def _unread_in_words(command: str, unread: Sequence[str]) -> str:
    """What to say of arguments that the command does not have."""
    if command in TAKE_SECRETS:  # it may be the secret, which must not get to a log or a screen
        return (
            f"{command} takes no other arguments (what was typed is not shown here, for it may be the provider key). "
            "The key is typed when asked for, or read from standard input: … < FILE. One that was typed here stands in "
            "the shell's history: take it out there."
        )
    return f"unrecognized arguments: {' '.join(unread)}"


def _parser() -> argparse.ArgumentParser:
    # A default here would overwrite what was typed before the verb, so these have none.
    shared = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument(
        "--config", metavar="PATH", help="the configuration's file (else TOLLWAY_CONFIG, else the quickstart)"
    )
    shared.add_argument("--json", dest="as_json", action="store_true", help="answer with JSON, for programs")

    parser = CommandParser(
        prog="tollway",
        parents=[shared],
        description="An OpenAI-compatible gateway that an app reaches by changing only its base URL.",
        epilog="Start with: tollway serve",
    )
    parser.add_argument("--version", action="version", version=f"tollway {__version__}")
    nouns = parser.add_subparsers(title="commands", metavar=COMMAND, required=True)

    serve = nouns.add_parser("serve", parents=[shared], help="run the gateway", description="Run the gateway.")
    serve.set_defaults(command="serve")

    check = nouns.add_parser(
        "check",
        parents=[shared],
        help="say what is wrong with a configuration",
        description="Say everything that is wrong with a configuration, and what is legal but unwise. "
        "Connects to nothing unless asked.",
    )
    connect = "also try the stores, the ledger's sink, the KEKs and each provider's host"
    check.add_argument("--connect", action="store_true", help=connect)
    check.set_defaults(command="check")

    keys = nouns.add_parser(
        "keys",
        help="issue, list and revoke virtual keys, end a pepper",
        description="Virtual keys: what a tenant's programs present instead of a provider's key.",
    )
    _add_key_verbs(keys, shared)

    add_provider_keys(nouns.add_parser, shared)

    tenants = nouns.add_parser(
        "tenants",
        help="put, list, delete and shred tenants",
        description="Tenants: who owns virtual keys, limits and money. One that the configuration's file names is "
        "changed there.",
    )
    _add_tenant_verbs(tenants, shared)

    add_keyring(nouns.add_parser, shared)
    add_routing(nouns.add_parser, shared)
    add_cache(nouns.add_parser, shared)

    prices = nouns.add_parser(
        "prices",
        help="show what models cost, and renew it",
        description="Prices: what the gateway knows of each model's cost, limits and abilities.",
    )
    _add_price_verbs(prices, shared)

    _add_usage(nouns.add_parser, shared)

    ledger = nouns.add_parser(
        "ledger",
        help="export and verify the rows of all runs",
        description="The ledger: a row for every run. Rows wait in the state store until they are exported, in pages, "
        "to files or S3.",
    )
    _add_ledger_verbs(ledger, shared)
    _add_audit_verbs(nouns.add_parser, shared)
    return parser


def _add_price_verbs(prices: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    verbs = prices.add_subparsers(title="commands", metavar=COMMAND, required=True)
    show = verbs.add_parser(
        "show",
        parents=[shared],
        help="show what a model costs",
        description="Show what models cost now, in dollars for a million tokens. One model alone is shown with all of "
        "its service tiers and lengths of input.",
        epilog="Example: tollway prices show gpt-5-mini --provider openai",
    )
    show.add_argument("model", nargs="?", metavar="MODEL", help="its name, or a part of names; without it, all")
    show.add_argument("--provider", metavar="P", help="only this provider's prices: openai, azure-eu, …")
    show.add_argument("--folder", metavar="PATH", help="the folder of price files (else those that were shipped)")
    show.set_defaults(command="prices show")

    update = verbs.add_parser(
        "update",
        parents=[shared],
        help="make the price files anew from a newer table",
        description="Make the price files anew from the table in a LiteLLM package, so that the diff can be reviewed. "
        "A price that changed is added with today's date, and the old one stays for what ran before. A table with "
        "missing or absurd prices is refused, and the files stay as they were.",
        epilog="Example: pip download --no-deps litellm && tollway prices update --from litellm-*.whl",
    )
    update.add_argument(
        "--from", dest="source", metavar="PATH", help="a wheel, or the table itself (else the installed package)"
    )
    update.add_argument("--folder", metavar="PATH", help="the folder to write (else that of the shipped files)")
    update.add_argument(
        "--keep-lost", action="store_true", help="keep the last price of models that the table has lost the price of"
    )
    update.set_defaults(command="prices update")


def _add_key_verbs(keys: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    verbs = keys.add_subparsers(title="commands", metavar=COMMAND, required=True)
    issue = verbs.add_parser(
        "issue",
        parents=[shared],
        help="make a virtual key and print it once",
        description="Make a virtual key. It is printed once, alone on standard output, and cannot be shown again.",
        epilog="Example: tollway keys issue --tenant acme --models gpt-5,gpt-5-mini --expires 30d",
    )
    issue.add_argument("--tenant", required=True, type=tenant_id, metavar="T", help="whose key it is")
    issue.add_argument("--user", metavar="U", help="the only user that it speaks for")
    issue.add_argument("--feature", metavar="F", help="the only feature that it is for")
    issue.add_argument("--models", type=model_list, metavar="A,B", help="the only models that it opens")
    issue.add_argument("--expires", type=duration_ms, metavar="SPAN", help="when it ends: 30m, 12h, 30d, 4w")
    issue.add_argument(
        "--fallback",
        choices=[consent.value for consent in Consent],
        metavar="HOW",
        help="who else may answer: none, equivalent, lower (default: as the tenant has it)",
    )
    add_limits(issue)
    issue.set_defaults(command="keys issue")

    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show the virtual keys that were issued",
        description="Show the virtual keys that were issued. The keys themselves are not stored.",
    )
    listing.add_argument("--tenant", type=tenant_id, metavar="T", help="only this tenant's")
    listing.set_defaults(command="keys list")

    revoke = verbs.add_parser(
        "revoke",
        parents=[shared],
        help="end a virtual key for ever",
        description="End a virtual key for ever. Gateways that have just seen it stop within seconds.",
    )
    revoke.add_argument("id", metavar="ID", help="as `tollway keys list` shows it")
    revoke.set_defaults(command="keys revoke")
    add_pepper_verbs(verbs, shared)


def _add_tenant_flags(put: argparse.ArgumentParser) -> None:
    put.add_argument(
        "--fallback",
        choices=[consent.value for consent in Consent],
        metavar="HOW",
        help="who may answer where the first choice does not: none, equivalent, lower (default: none)",
    )
    put.add_argument(
        "--residency", type=regions, metavar="A,B", help="the regions that may serve it, or any (default: any)"
    )
    yes_or_no = argparse.BooleanOptionalAction
    put.add_argument(
        "--allow-unmetered", action=yes_or_no, help="let calls of unknown cost pass its caps (default: no)"
    )
    put.add_argument("--zero-retention", action=yes_or_no, help="only providers that keep nothing (default: no)")
    put.add_argument("--count-own-key", action=yes_or_no, help="caps count callers' own provider keys (default: no)")
    add_tenant_cache(put)


def _add_tenant_verbs(tenants: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    verbs = tenants.add_subparsers(title="commands", metavar=COMMAND, required=True)
    put = verbs.add_parser(
        "put",
        parents=[shared],
        help="add a tenant, or change one",
        description="Add a tenant, or change one: what is not typed stays as it is, and is the default for a new "
        "tenant. Running gateways see it within seconds. A tenant that the configuration's file names is refused, "
        "because the file wins.",
        epilog="Example: tollway tenants put acme --plan pro --timezone Europe/Berlin",
    )
    put.add_argument("id", type=tenant_id, metavar="ID", help="1 to 64 letters, digits, _ and -")
    put.add_argument("--plan", metavar="P", help="one that stands under [plans] (default: default)")
    put.add_argument(
        "--timezone", type=time_zone, metavar="Z", help="where its days and months begin: Europe/Berlin (default: UTC)"
    )
    put.add_argument(
        "--no-ceiling",
        choices=[how.value for how in NoCeiling],
        metavar="HOW",
        help="what a call without max_tokens holds under a cap: auto, reserve, extend, insert (default: auto)",
    )
    put.add_argument(
        "--stream-usage",
        choices=[how.value for how in StreamUsage],
        metavar="HOW",
        help="how a stream's usage is learnt: auto, leave, inject, restore (default: auto)",
    )
    put.add_argument(
        "--on-unsupported",
        choices=[how.value for how in OnUnsupported],
        metavar="HOW",
        help="what becomes of a part that another provider's API cannot say: refuse, drop (default: refuse)",
    )
    _add_tenant_flags(put)
    put.set_defaults(command="tenants put")

    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show the tenants of the file and of the store",
        description="Show the tenants that the configuration's file names, and those that were put.",
    )
    listing.set_defaults(command="tenants list")

    delete = verbs.add_parser(
        "delete",
        parents=[shared],
        help="forget a tenant that was put",
        description="Forget a tenant that was put. Refused while virtual keys of it still work, provider keys of it "
        "are stored, or calls are under way. Its rows stay in the ledger, and its id can be put again.",
    )
    delete.add_argument("id", type=tenant_id, metavar="ID", help="as `tollway tenants list` shows it")
    delete.add_argument(
        "--force",
        action="store_true",
        help="revoke its virtual keys and wipe its provider keys first, and wait for no call",
    )
    delete.set_defaults(command="tenants delete")
    add_shred(verbs.add_parser, shared)


def _add_usage(add_parser: Callable[..., argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    usage = add_parser(
        "usage",
        parents=[shared],
        help="show what was used and spent",
        description="Show runs, tokens and dollars, from the exported pages and what waits in the state store.",
        epilog="Example: tollway usage --by tenant,model --since 7d",
    )
    usage.add_argument(
        "--by",
        type=dimensions,
        default=("tenant",),
        metavar="A,B",
        help=f"sum up by these: {', '.join(DIMENSIONS)} (else by tenant)",
    )
    usage.add_argument("--tenant", type=tenant_id, metavar="T", help="only this tenant's")
    usage.add_argument(
        "--since", type=moment, metavar="WHEN", help="runs from then on: 2026-11-01, 2026-11-01T12:00Z, or 7d ago"
    )
    usage.add_argument("--until", type=moment, metavar="WHEN", help="runs before then, in the same words")
    usage.add_argument("--csv", dest="as_csv", action="store_true", help="answer with CSV, in nano-dollars")
    usage.set_defaults(command="usage")


def _add_ledger_verbs(ledger: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    verbs = ledger.add_subparsers(title="commands", metavar=COMMAND, required=True)
    export = verbs.add_parser(
        "export",
        parents=[shared],
        help="export what waits, now",
        description="Export every row that waits in the state store, as a running gateway does by itself. Can be "
        "interrupted and repeated at any time: no row is lost, and none is written twice.",
    )
    export.add_argument(
        "--accept-missing",
        action="store_true",
        help="go on where a tenant's last page is not in the sink, as after it was lost or moved away",
    )
    export.set_defaults(command="ledger export")

    verify = verbs.add_parser(
        "verify",
        parents=[shared],
        help="check that nothing was changed, and that the sums are right",
        description="Follow each tenant's chain of pages to its end, and say what is wrong where it breaks: a row that "
        "was changed, moved, added or taken away, or a page. Then compare the sum of all rows with the counters.",
    )
    verify.add_argument("--tenant", type=tenant_id, metavar="T", help="only this tenant's")
    verify.add_argument(
        "--from-page", type=page_number, default=1, metavar="N", help="begin here, where older pages are kept elsewhere"
    )
    verify.set_defaults(command="ledger verify")


def _add_audit_verbs(add_parser: Callable[..., argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    audit = add_parser(
        "audit",
        help="show who changed what",
        description="Changes: who put, deleted or shredded a tenant, issued or revoked a virtual key, stored or wiped "
        "a provider key, or rotated what seals them, by command or by the API.",
    )
    verbs = audit.add_subparsers(title="commands", metavar=COMMAND, required=True)
    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show changes, the oldest first",
        description="Show changes, the oldest first, from the ledger's exported pages and what waits in the state "
        "store. A change's row is written before the change is made: one that broke off has a row, too.",
        epilog="Example: tollway audit list --tenant acme --since 7d",
    )
    listing.add_argument("--tenant", type=tenant_id, metavar="T", help="only this tenant's")
    listing.add_argument(
        "--since", type=moment, metavar="WHEN", help="changes from then on: 2026-11-01, 2026-11-01T12:00Z, or 7d ago"
    )
    listing.set_defaults(command="audit list")
