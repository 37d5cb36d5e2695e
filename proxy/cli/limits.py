"""A virtual key's own limits, as they are typed."""

import argparse
from decimal import Decimal, InvalidOperation

from proxy.cli.argument_types import whole_number
from proxy.core.limits import CAP_NUSD_MAX, CAPS, COUNTS_MAX, ScopeLimits, limits_of
from proxy.core.money import USD_DECIMALS_MAX, nusd_of, usd_text

_COUNTED = {
    "requests_per_minute": "how many calls may begin in a minute",
    "tokens_per_minute": "how many tokens may be read and written in a minute",
    "burst": "how many calls may begin at once (else as many as in a minute)",
    "max_concurrency": "how many calls may run at once",
}
_CAPPED = {
    "per_call_nusd": "what one call may cost, in dollars: 0.05",
    "per_hour_nusd": "what may be spent in an hour of the clock",
    "per_24h_nusd": "what may be spent in any 24 hours",
    "per_day_nusd": "what may be spent in a day of the tenant's time zone",
    "per_month_nusd": "what may be spent in a month there",
    "total_nusd": "what may ever be spent",
}


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Take every limit and cap, each called as in the configuration."""
    group = parser.add_argument_group("limits of its own", "They stand in for those of the tenant's plan.")
    for name, said in _COUNTED.items():
        group.add_argument(_flag(name), dest=name, type=whole_number(COUNTS_MAX[name]), metavar="N", help=said)
    for name, said in _CAPPED.items():
        group.add_argument(_flag(CAPS[name]), dest=name, type=usd, metavar="USD", help=said)


def typed_limits(arguments: argparse.Namespace) -> ScopeLimits | None:
    """What was typed of them; None where nothing was."""
    values = vars(arguments)
    return limits_of({name: values[name] for name in (*_COUNTED, *_CAPPED) if values[name] is not None})


def usd(text: str) -> int:
    """An amount of dollars, in nano-dollars."""
    try:
        nusd = nusd_of(Decimal(text))
    except (InvalidOperation, ValueError):
        nusd = -1
    if not 0 <= nusd <= CAP_NUSD_MAX:
        bound = usd_text(CAP_NUSD_MAX).removesuffix(".00")
        raise argparse.ArgumentTypeError(
            f"{text!r} is no amount: write dollars from 0 to {bound}, with at most {USD_DECIMALS_MAX} decimals"
        )
    return nusd


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
