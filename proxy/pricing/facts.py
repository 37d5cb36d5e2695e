"""What is known of a model: its price, its limits, what it can do.

Pure. Rates are integers of nano-dollars for a million tokens, so that a rate times a count is
an integer of femto-dollars (10**-15 $) and only the last step of a sum has to round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

STANDARD: Final = "standard"
"""The service tier that every price has."""

_NO_AMOUNTS: Final[Mapping[str, int]] = MappingProxyType({})


def _no_amounts() -> Mapping[str, int]:
    return _NO_AMOUNTS


class Rates(NamedTuple):
    """What a million tokens of each kind cost."""

    input_nusd_per_mtok: int
    cached_input_nusd_per_mtok: int
    cache_write_nusd_per_mtok: int
    cache_write_long_nusd_per_mtok: int  # kept for longer: Anthropic 1 h, OpenAI 12 h
    audio_input_nusd_per_mtok: int
    cached_audio_input_nusd_per_mtok: int
    image_input_nusd_per_mtok: int
    cached_image_input_nusd_per_mtok: int
    output_nusd_per_mtok: int
    reasoning_nusd_per_mtok: int
    audio_output_nusd_per_mtok: int
    image_output_nusd_per_mtok: int


class Band(NamedTuple):
    """The rates of a call whose input is longer than `above_tokens`: all of its tokens cost these."""

    above_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's calls cost. Absent amounts are zero: the model does not sell such units."""

    tiers: Mapping[str, tuple[Band, ...]]  # by service tier; STANDARD is one of them; bands ascend from 0
    request_nusd: int = 0  # for each call
    image_nusd: int = 0  # for each picture made, at the dearest of its sizes
    audio_nusd_per_minute: int = 0  # of sound heard
    speech_nusd_per_mchar: int = 0  # for a million characters spoken
    tool_nusd: Mapping[str, int] = field(default_factory=_no_amounts)  # for each call of a provider's own tool, by name
    region_pct: Mapping[str, int] = field(default_factory=_no_amounts)  # where the answer's region is one of these

    @property
    def counts_tokens(self) -> bool:
        """True where tokens cost something."""
        return any(rate for bands in self.tiers.values() for band in bands for rate in band.rates)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of one model at one time. None: not known, which is no promise of any kind."""

    price: Price
    context_tokens: int | None = None  # the longest input that it takes
    max_output_tokens: int | None = None  # the longest answer that it gives
    capabilities: frozenset[str] = frozenset()  # names of CAPABILITIES
    image_tokens_max: int | None = None  # what one picture in the input comes to, at most
    picture_tokens_max: int | None = None  # what making one picture comes to, at most
    audio_ms_max: int | None = None  # the longest sound that it listens to


CAPABILITIES: Final = frozenset(
    {
        "audio_input",
        "audio_output",
        "computer_use",
        "json_schema",
        "parallel_tools",
        "pdf",
        "prompt_caching",
        "reasoning",
        "tools",
        "video",
        "vision",
        "web_search",
    }
)


def flat_rates(input_nusd_per_mtok: int, output_nusd_per_mtok: int) -> Rates:
    """One rate for every kind of input, one for every kind of output."""
    return Rates(*[input_nusd_per_mtok] * 8, *[output_nusd_per_mtok] * 4)


def own_facts(
    input_nusd_per_mtok: int,
    output_nusd_per_mtok: int,
    *,
    cached_input_nusd_per_mtok: int | None = None,
    cache_write_nusd_per_mtok: int | None = None,
    context_tokens: int | None = None,
    max_output_tokens: int | None = None,
    capabilities: Iterable[str] = (),
    audio_ms_max: int | None = None,
) -> ModelFacts:
    """The facts of a model that the operator prices himself, as a deployment's settings say them."""
    assert input_nusd_per_mtok >= 0
    assert output_nusd_per_mtok >= 0
    rates = flat_rates(input_nusd_per_mtok, output_nusd_per_mtok)
    if cached_input_nusd_per_mtok is not None:
        rates = rates._replace(cached_input_nusd_per_mtok=cached_input_nusd_per_mtok)
    if cache_write_nusd_per_mtok is not None:  # for however long they are kept
        rates = rates._replace(
            cache_write_nusd_per_mtok=cache_write_nusd_per_mtok,
            cache_write_long_nusd_per_mtok=cache_write_nusd_per_mtok,
        )
    return ModelFacts(
        Price({STANDARD: (Band(0, rates),)}),
        context_tokens,
        max_output_tokens,
        frozenset(capabilities),
        audio_ms_max=audio_ms_max,
    )
