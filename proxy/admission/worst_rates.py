"""The dearest rates that an answer could be billed at.

Pure. A request that names no service tier gets the one that its project is set to, which nobody
here sees (OpenAI's API reference, `service_tier`); one that names a tier may be served in the
standard one. The input's length decides the band, and all bands up to it can come to pass.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from proxy.pricing.facts import STANDARD, Price, Rates

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
    reachable = list(_reachable(price, _tiers(price, document, project_tier), input_tokens_max))
    text = max(_text(rates, keeps_long) for rates in reachable)
    picture = max(max(rates.image_input_nusd_per_mtok, rates.cached_image_input_nusd_per_mtok) for rates in reachable)
    audio = max(max(rates.audio_input_nusd_per_mtok, rates.cached_audio_input_nusd_per_mtok) for rates in reachable)
    output = max(max(rates[_FIRST_OUTPUT:]) for rates in reachable)
    picture = max(picture, text)  # a picture is cached too
    pct = _pct(price, document)
    unseen = max(text, picture, audio)
    return WorstRates(*(-(-rate * pct // 100) for rate in (text, picture, unseen, output)))


_FIRST_OUTPUT: Final = 8  # in Rates: input's kinds, then the output's


def _text(rates: Rates, keeps_long: bool) -> int:
    worst = max(rates.input_nusd_per_mtok, rates.cached_input_nusd_per_mtok, rates.cache_write_nusd_per_mtok)
    return max(worst, rates.cache_write_long_nusd_per_mtok) if keeps_long else worst


def _reachable(price: Price, tiers: Iterable[str], input_tokens_max: int) -> Iterable[Rates]:
    for tier in tiers:
        for band in price.tiers[tier]:
            if band.above_tokens == 0 or input_tokens_max > band.above_tokens:
                yield band.rates


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
        return 100
    return max(100, *price.region_pct.values())
