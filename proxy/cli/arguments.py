"""What can be typed: `tollway NOUN VERB`, and the help that says so."""

import argparse
import re
from collections.abc import Sequence

from proxy import __version__
from proxy.core.tenant import is_tenant_id

DAYS_MAX = 36_500
_DURATION = re.compile(r"([1-9][0-9]{0,8})([mhdw])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line. `command` is the command's name: `serve`, `check`, `keys issue`, …

    Raises:
        SystemExit: with 2 where it cannot be read, with 0 where help or the version was asked for.
    """
    arguments = _parser().parse_args(words)
    arguments.config = getattr(arguments, "config", None)
    arguments.as_json = getattr(arguments, "as_json", False)
    return arguments


def tenant_id(text: str) -> str:
    """A tenant's id."""
    if not is_tenant_id(text):
        raise argparse.ArgumentTypeError("a tenant's id is 1 to 64 letters, digits, _ and -")
    return text


def duration_ms(text: str) -> int:
    """`30m`, `12h`, `30d` or `4w`, in milliseconds; at most 100 years."""
    match = _DURATION.fullmatch(text)
    span_ms = int(match[1]) * _UNIT_MS[match[2]] if match else 0
    if not 0 < span_ms <= DAYS_MAX * _UNIT_MS["d"]:
        raise argparse.ArgumentTypeError(f"{text!r} is no time span: write 30m, 12h, 30d or 4w, at most 100 years")
    return span_ms


def model_list(text: str) -> frozenset[str]:
    """Model names between commas."""
    models = frozenset(name.strip() for name in text.split(","))
    if "" in models:
        raise argparse.ArgumentTypeError("write model names with commas between them: gpt-5,gpt-5-mini")
    return models


def _parser() -> argparse.ArgumentParser:
    # A default here would overwrite what was typed before the verb, so these have none.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument(
        "--config", metavar="PATH", help="the configuration's file (else TOLLWAY_CONFIG, else the quickstart)"
    )
    shared.add_argument("--json", dest="as_json", action="store_true", help="answer with JSON, for programs")

    parser = argparse.ArgumentParser(
        prog="tollway",
        parents=[shared],
        description="An OpenAI-compatible gateway that an app reaches by changing only its base URL.",
        epilog="Start with: tollway serve",
    )
    parser.add_argument("--version", action="version", version=f"tollway {__version__}")
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = nouns.add_parser("serve", parents=[shared], help="run the gateway", description="Run the gateway.")
    serve.set_defaults(command="serve")

    check = nouns.add_parser(
        "check",
        parents=[shared],
        help="say what is wrong with a configuration",
        description="Say everything that is wrong with a configuration, and what is legal but unwise. "
        "Connects to nothing unless asked.",
    )
    check.add_argument("--connect", action="store_true", help="also try the state store and each provider's host")
    check.set_defaults(command="check")

    keys = nouns.add_parser(
        "keys",
        help="issue, list and revoke virtual keys",
        description="Virtual keys: what a tenant's programs present instead of a provider's key.",
    )
    _add_key_verbs(keys, shared)

    prices = nouns.add_parser(
        "prices",
        help="show what models cost, and renew it",
        description="Prices: what the gateway knows of each model's cost, limits and abilities.",
    )
    _add_price_verbs(prices, shared)
    return parser


def _add_price_verbs(prices: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    verbs = prices.add_subparsers(title="commands", metavar="COMMAND", required=True)
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
    verbs = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
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
