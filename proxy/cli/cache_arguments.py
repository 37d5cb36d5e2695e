"""What is typed after `tollway cache`."""

from argparse import ArgumentParser
from collections.abc import Callable

from proxy.cli.argument_types import duration_ms, model_name, tenant_id
from proxy.cli.command_parser import COMMAND


def add_cache(add_parser: Callable[..., ArgumentParser], shared: ArgumentParser) -> None:
    """The noun and its verbs."""
    noun = add_parser(
        "cache",
        help="show and purge kept answers",
        description="The cache: answers that are kept, to be given again to whoever asks the same.",
    )
    verbs = noun.add_subparsers(title="commands", metavar=COMMAND, required=True)
    stats = verbs.add_parser(
        "stats",
        parents=[shared],
        help="show how much is kept",
        description="Show how many answers are kept, by tenant and model. What each process has in its memory besides "
        "is in its metrics.",
    )
    stats.add_argument("--tenant", type=tenant_id, metavar="T", help="only this tenant's")
    stats.set_defaults(command="cache stats")

    purge = verbs.add_parser(
        "purge",
        parents=[shared],
        help="give kept answers to nobody any more",
        description="Give kept answers to nobody any more, at every running gateway and at once, and delete them.",
        epilog="Example: tollway cache purge --tenant acme --model gpt-5 --older-than 12h",
    )
    whose = purge.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", type=tenant_id, metavar="T", help="this tenant's")
    whose.add_argument("--all", dest="is_all", action="store_true", help="every tenant's that is known")
    purge.add_argument("--model", type=model_name, metavar="MODEL", help="only answers to calls that named this model")
    purge.add_argument("--older-than", type=duration_ms, metavar="SPAN", help="only older ones: 30m, 12h, 30d, 4w")
    purge.set_defaults(command="cache purge")
