"""What a call cost: its usage times its price, in nano-dollars.

Pure, and integers alone: counts times rates are summed in 300ths of a femto-dollar, in which a
per cent and a minute's millisecond are whole, and the sum is rounded up once.

Rules, and whose they are:
- A prompt longer than a band's bound costs that band's rates for **all** tokens of the call, the
  answer's too (OpenAI over 272k, Google and xAI over 200k input tokens: their pricing pages).
- The tier is the response's, not the request's; one without rates of its own costs the standard
  ones, and so does `default` (OpenAI's API reference, `service_tier`). OpenAI's `fast` answers
  as `priority`; Anthropic's fast mode is a tier of its own.
- Cached input and cache writes replace the input's rate, a longer-kept write has its own
  (Anthropic's and OpenAI's guides to prompt caching).
- What a region adds is added to all tokens, and to no tool (Anthropic's pricing page).
- Tools cost by the call (both vendors' pricing pages); one without a known fee costs nothing here.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Final

from proxy.core.types import Usage
from proxy.pricing.facts import STANDARD, ModelFacts, Price, Rates

FUSD_PER_NUSD: Final = 1_000_000
"""Femto-dollars: what nano-dollars for a million tokens, times tokens, come to."""

_PARTS: Final = 300  # of a femto-dollar: what a sum is counted in
_PARTS_PER_NUSD: Final = FUSD_PER_NUSD * _PARTS
_PARTS_PER_MS: Final = 5_000  # a rate for a minute: 300 × 10**6 / 60,000
_PARTS_PER_PCT: Final = 3
_WHOLE_PCT: Final = 100
# Tokens that are not simply text, read or written; most calls have none.
_OWN_RATES: Final = attrgetter(
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "audio_output_tokens",
    "image_output_tokens",
)
_BESIDE_TOKENS: Final = attrgetter("images", "tool_calls", "characters", "audio_ms")
_ALSO_CALLED: Final[Mapping[str | None, str]] = {"default": STANDARD, "fast": "priority"}


def price(usage: Usage, facts: ModelFacts) -> int:
    """What this usage costs at these prices, in nano-dollars, rounded up.

    The parts of a report may contradict each other: each token is counted once all the same, so
    no report costs less than nothing, or more than its tokens at the dearest of the rates.
    """
    its_price = facts.price
    tokens_fusd = _tokens_fusd(usage, rates_of(its_price, usage.service_tier, usage.input_tokens))
    pct = _WHOLE_PCT if usage.region is None else its_price.region_pct.get(usage.region, _WHOLE_PCT)
    parts = tokens_fusd * pct * _PARTS_PER_PCT + its_price.request_nusd * _PARTS_PER_NUSD
    if any(_BESIDE_TOKENS(usage)):
        parts += _beside_tokens_parts(usage, its_price)
    return -(-parts // _PARTS_PER_NUSD)


def _beside_tokens_parts(usage: Usage, its_price: Price) -> int:
    """What is sold by the piece, by letters and by time."""
    sum_nusd = 0
    if not usage.image_output_tokens:  # a picture is billed by its tokens, or as one piece
        sum_nusd += usage.images * its_price.image_nusd
    for name, count in usage.tool_calls:
        sum_nusd += count * its_price.tool_nusd.get(name, 0)
    speech_fusd = usage.characters * its_price.speech_nusd_per_mchar
    heard_parts = usage.audio_ms * its_price.audio_nusd_per_minute * _PARTS_PER_MS
    return sum_nusd * _PARTS_PER_NUSD + speech_fusd * _PARTS + heard_parts


def rates_of(price: Price, service_tier: str | None, input_tokens: int) -> Rates:
    """The rates of a call with this tier in its answer and this long an input."""
    tiers = price.tiers
    bands = tiers.get(service_tier or STANDARD)
    if bands is None:
        bands = tiers.get(_ALSO_CALLED.get(service_tier, STANDARD), tiers[STANDARD])
    if len(bands) > 1:
        for band in reversed(bands):
            if input_tokens > band.above_tokens:
                return band.rates
    return bands[0].rates


def _tokens_fusd(usage: Usage, rates: Rates) -> int:
    """Each kind of token at its own rate."""
    sum_fusd = usage.input_tokens * rates.input_nusd_per_mtok + usage.output_tokens * rates.output_nusd_per_mtok
    if any(_OWN_RATES(usage)):
        sum_fusd += _own_rates_fusd(usage, rates)
    return sum_fusd


def _own_rates_fusd(usage: Usage, rates: Rates) -> int:
    """What tokens with rates of their own cost beyond those of plain text; less than nothing where they are cheaper.
    Where parts overlap, the earlier one takes its share."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    spoken = min(usage.audio_output_tokens, usage.output_tokens - reasoning)
    drawn = min(usage.image_output_tokens, usage.output_tokens - reasoning - spoken)
    kept_long = min(usage.cache_write_long_tokens, written)
    sum_fusd = (
        cached * (rates.cached_input_nusd_per_mtok - rates.input_nusd_per_mtok)
        + (written - kept_long) * (rates.cache_write_nusd_per_mtok - rates.input_nusd_per_mtok)
        + kept_long * (rates.cache_write_long_nusd_per_mtok - rates.input_nusd_per_mtok)
        + reasoning * (rates.reasoning_nusd_per_mtok - rates.output_nusd_per_mtok)
        + spoken * (rates.audio_output_nusd_per_mtok - rates.output_nusd_per_mtok)
        + drawn * (rates.image_output_nusd_per_mtok - rates.output_nusd_per_mtok)
    )
    if usage.audio_input_tokens or usage.image_input_tokens:
        sum_fusd += _senses_fusd(usage, rates, cached, usage.input_tokens - cached - written)
    return sum_fusd


def _senses_fusd(usage: Usage, rates: Rates, cached: int, fresh: int) -> int:
    """What sound and pictures in the input cost beyond the text's rates; less than nothing where
    they are cheaper."""
    cached_audio = min(usage.cached_audio_input_tokens, cached)
    cached_image = min(usage.cached_image_input_tokens, cached - cached_audio)
    audio = min(max(usage.audio_input_tokens - cached_audio, 0), fresh)
    image = min(max(usage.image_input_tokens - cached_image, 0), fresh - audio)
    return (
        cached_audio * (rates.cached_audio_input_nusd_per_mtok - rates.cached_input_nusd_per_mtok)
        + cached_image * (rates.cached_image_input_nusd_per_mtok - rates.cached_input_nusd_per_mtok)
        + audio * (rates.audio_input_nusd_per_mtok - rates.input_nusd_per_mtok)
        + image * (rates.image_input_nusd_per_mtok - rates.input_nusd_per_mtok)
    )
