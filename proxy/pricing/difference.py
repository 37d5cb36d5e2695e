"""How much dearer one price is than another, as a price of its own.

Pure. A price bounds what a call may cost; the price of the difference bounds what it may cost more at the one than at
the other, whatever it uses: unit by unit, and nothing for a unit that is cheaper.
"""

from collections.abc import Iterable

from proxy.pricing.cost import rates_of
from proxy.pricing.facts import Band, Price, Rates


def dearer_by(price: Price, other: Price) -> Price | None:
    """What each unit costs more by `price` than by `other`; None where nothing costs more.

    What is paid by the call, or for a tool's, stays whole where anything does: whoever estimates takes from it what a
    model reads of its own accord. So does all of it where regions cost otherwise, which is a share of the whole.
    """
    if price.region_pct != other.region_pct:
        return price
    difference = Price(
        tiers={tier: tuple(_bands(price, other, tier)) for tier in price.tiers.keys() | other.tiers.keys()},
        request_nusd=price.request_nusd,
        image_nusd=_beyond(price.image_nusd, other.image_nusd),
        audio_nusd_per_minute=_beyond(price.audio_nusd_per_minute, other.audio_nusd_per_minute),
        speech_nusd_per_mchar=_beyond(price.speech_nusd_per_mchar, other.speech_nusd_per_mchar),
        tool_nusd=price.tool_nusd,
        region_pct=price.region_pct,
    )
    beside_tokens = (
        _beyond(price.request_nusd, other.request_nusd),
        difference.image_nusd,
        difference.audio_nusd_per_minute,
        difference.speech_nusd_per_mchar,
        *(_beyond(nusd, other.tool_nusd.get(name, 0)) for name, nusd in price.tool_nusd.items()),
    )
    return difference if difference.counts_tokens or any(beside_tokens) else None


def _bands(price: Price, other: Price, tier: str) -> Iterable[Band]:
    """For each length of input from which on either has other rates."""
    known = [bands for each in (price, other) for bands in each.tiers.values()]
    for above_tokens in sorted({band.above_tokens for bands in known for band in bands}):
        rates = rates_of(price, tier, above_tokens + 1)
        others = rates_of(other, tier, above_tokens + 1)
        yield Band(above_tokens, Rates(*map(_beyond, rates, others)))


def _beyond(amount: int, other: int) -> int:
    return max(0, amount - other)
