"""The dearest rates that an answer could be billed at.

Pure. A request that names no service tier gets the one that its project is set to, which nobody
here sees (OpenAI's API reference, `service_tier`); one that names a tier may be served in the
standard one. The input's length decides the band, and all bands up to it can come to pass.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from proxy.pricing.facts import STANDARD, Band, Price, Rates

# What a project can be set to. `fast` and `ultrafast` have to be asked for by each request.
_PROJECT_TIERS: Final = (STANDARD, "flex", "priority")
_TIERS_OF: Final = {
    "default": (STANDARD,),
    "standard": (STANDARD,),
    "standard_only": (STANDARD,),
    "on_demand": (STANDARD,),
    "flex": (STANDARD, "flex"),
    "priority": (STANDARD, "priority"),
    "fast": (STANDARD, "priority", "fast"),
}
_WHOLE_PCT: Final = 100
_PRICES_MAX: Final = 1_024


class WorstRates(NamedTuple):
    """Nano-dollars for a million tokens, the region's surcharge included."""

    text_nusd_per_mtok: int  # of the input, cache writes included
    picture_nusd_per_mtok: int
    unseen_nusd_per_mtok: int  # an input that may be anything
    output_nusd_per_mtok: int


def worst_rates(
    price: Price,
    document: Mapping[str, Any],
    input_tokens_max: int,
    *,
    keeps_long: bool,
    project_tier: str | None = None,
) -> WorstRates:
    """The dearest rates for a body with an input of up to so many tokens.

    `keeps_long`: the body may ask for the cache's longer and dearer retention. `project_tier` is
    what the operator knows his project to be set to; None where he does not say.
    """
    tiers = price.tiers
    possible = tiers.values() if len(tiers) == 1 else [tiers[tier] for tier in _tiers(price, document, project_tier)]
    dearest = _dearest(tuple(possible), keeps_long)
    rates = dearest[0].rates
    if len(dearest) > 1:
        rates = next(each.rates for each in dearest if input_tokens_max > each.above_tokens or not each.above_tokens)
    pct = _pct(price, document)
    if pct == _WHOLE_PCT:
        return rates
    return WorstRates(*(-(-rate * pct // _WHOLE_PCT) for rate in rates))


class _Dearest(NamedTuple):
    """What an input that is longer than `above_tokens` could be billed at."""

    above_tokens: int
    rates: WorstRates


@lru_cache(maxsize=_PRICES_MAX)
def _dearest(tiers: tuple[tuple[Band, ...], ...], keeps_long: bool) -> tuple[_Dearest, ...]:
    """For each length at which one of the bands begins, the longest first."""
    bands = [band for tier in tiers for band in tier]
    starts = sorted({band.above_tokens for band in bands}, reverse=True)
    return tuple(
        _Dearest(start, _dearest_of([band.rates for band in bands if band.above_tokens <= start], keeps_long))
        for start in starts
    )


def _dearest_of(possible: Iterable[Rates], keeps_long: bool) -> WorstRates:
    text = picture = audio = output = 0
    for rates in possible:
        fresh, cached, write, write_long, heard, heard_cached, seen, seen_cached, *out = rates
        text = max(text, fresh, cached, write, write_long if keeps_long else 0)
        audio = max(audio, heard, heard_cached)
        picture = max(picture, seen, seen_cached)
        output = max(output, *out)
    picture = max(picture, text)  # a picture is written to the cache too
    return WorstRates(text, picture, max(picture, audio), output)


def _tiers(price: Price, document: Mapping[str, Any], project_tier: str | None) -> list[str]:
    asked = document.get("service_tier")
    if asked is None or asked == "auto":
        possible = _PROJECT_TIERS if project_tier is None else _TIERS_OF.get(project_tier, tuple(price.tiers))
    else:
        possible = _TIERS_OF.get(asked, tuple(price.tiers)) if isinstance(asked, str) else tuple(price.tiers)
    if document.get("speed") not in (None, STANDARD):  # Anthropic's fast mode
        possible = (*possible, "fast")
    return [tier for tier in possible if tier in price.tiers]


def _pct(price: Price, document: Mapping[str, Any]) -> int:
    # Without `inference_geo` the workspace's default decides, which nobody here sees.
    if not price.region_pct or document.get("inference_geo") == "global":
        return _WHOLE_PCT
    return max(_WHOLE_PCT, *price.region_pct.values())
