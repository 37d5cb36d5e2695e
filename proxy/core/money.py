"""Money: an integer count of nano-dollars (`_nusd`), never a float.

A dollar is 10**9 of them. What people write is a decimal, and it is turned into an integer
exactly or not at all. Counters of money stay below 2**53, the largest range that Lua's numbers,
JSON's readers and Python agree on: some $9 million.
"""

from decimal import Context, Decimal, Inexact, InvalidOperation

NUSD_PER_USD = 1_000_000_000
USD_DECIMALS_MAX = 9

_NUSD = Decimal("1E-9")
_DIGITS_MAX = 28  # of an amount in nano-dollars; no bound here comes near


def nusd_of(usd: Decimal) -> int:
    """An amount of dollars in nano-dollars, exactly.

    Raises:
        ValueError: negative, not a number, infinite, or with more than 9 decimals.
    """
    if not usd.is_finite() or usd < 0:
        raise ValueError("an amount of dollars is a number, 0 or above")
    exact = Context(prec=_DIGITS_MAX, traps=[Inexact, InvalidOperation])
    try:
        return int(exact.quantize(usd, _NUSD).scaleb(USD_DECIMALS_MAX, context=exact))
    except (Inexact, InvalidOperation):
        raise ValueError(f"an amount of dollars has at most {USD_DECIMALS_MAX} decimals") from None


def usd_text(nusd: int) -> str:
    """An amount in dollars as people write it, exactly: `1.50`, `0.000000001`."""
    assert nusd >= 0
    dollars, rest_nusd = divmod(nusd, NUSD_PER_USD)
    decimals = f"{rest_nusd:09}".rstrip("0").ljust(2, "0")
    return f"{dollars}.{decimals}"
