"""Which of a tenant's answers are kept, as it is typed."""

import argparse

from proxy.cli.argument_types import whole_number
from proxy.cli.terminal import EXIT_USAGE, CommandFailed
from proxy.settings.caching import EVENTS_PER_S_MAX, TTL_S_MAX, CacheMode, CachePolicy, CacheShare

UNSET = "unset"
_AT_ONCE = "none"
_DETAILS = ("cache_ttl_s", "cache_share", "cache_events_per_s")


def add_tenant_cache(put: argparse.ArgumentParser) -> None:
    """Take what `[tenants.ID] cache` says, each called as there."""
    put.add_argument(
        "--cache-mode",
        choices=[*(mode.value for mode in CacheMode), UNSET],
        metavar="WHICH",
        help="which answers are kept, to be given again: off, deterministic, all; or unset: as features, models and "
        "endpoints have it (default: unset)",
    )
    put.add_argument(
        "--cache-ttl-s", type=whole_number(TTL_S_MAX), metavar="N", help="how many seconds long (default: 3600)"
    )
    put.add_argument(
        "--cache-share",
        choices=[share.value for share in CacheShare],
        metavar="WHOSE",
        help="among whom of the tenant: tenant, user, virtual_key (default: tenant)",
    )
    put.add_argument(
        "--cache-events-per-s",
        type=_pace,
        metavar="N",
        help="the pace at which a kept stream is given again, or none: at once (default: none)",
    )


def is_cache_typed(arguments: argparse.Namespace) -> bool:
    """True where anything of it was typed."""
    return arguments.cache_mode is not None or _is_detailed(arguments)


def typed_cache(arguments: argparse.Namespace, before: CachePolicy | None) -> CachePolicy | None:
    """What was typed; the rest as it was before.

    Raises:
        CommandFailed: details of a cache of which nobody has said which answers it keeps.
    """
    if arguments.cache_mode == UNSET:
        if _is_detailed(arguments):
            raise CommandFailed(
                "--cache-mode unset says nothing of a cache: leave the others out", exit_code=EXIT_USAGE
            )
        return None
    if arguments.cache_mode is None and before is None:
        modes = ", ".join(CacheMode)
        raise CommandFailed(
            f"nothing is said of this tenant's cache yet: add --cache-mode ({modes})", exit_code=EXIT_USAGE
        )
    was = before or CachePolicy()
    pace = arguments.cache_events_per_s
    return CachePolicy(
        mode=was.mode if arguments.cache_mode is None else CacheMode(arguments.cache_mode),
        ttl_s=was.ttl_s if arguments.cache_ttl_s is None else arguments.cache_ttl_s,
        share=was.share if arguments.cache_share is None else CacheShare(arguments.cache_share),
        events_per_s=was.events_per_s if pace is None else None if pace == _AT_ONCE else pace,
    )


def _is_detailed(arguments: argparse.Namespace) -> bool:
    return any(getattr(arguments, name) is not None for name in _DETAILS)


def _pace(text: str) -> int | str:
    """A whole number of events; or `none`."""
    if text == _AT_ONCE:
        return text
    try:
        return whole_number(EVENTS_PER_S_MAX)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or none") from None
