"""The price of a difference bounds it, whatever is used."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.pricing.cost import price
from proxy.pricing.difference import dearer_by
from proxy.pricing.facts import STANDARD, Band, ModelFacts, Price, Rates, flat_rates

AMOUNT = st.integers(0, 20_000)
RATES = st.builds(Rates, *[AMOUNT] * len(Rates._fields))
TIERS = (STANDARD, "flex", "priority", "fast")


@st.composite
def bands(draw: st.DrawFn) -> tuple[Band, ...]:
    starts = [0, *sorted(draw(st.sets(st.sampled_from([100, 1_000, 5_000]))))]
    return tuple(Band(start, draw(RATES)) for start in starts)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    more = sorted(draw(st.sets(st.sampled_from(TIERS[1:]))))
    return Price(
        tiers={tier: draw(bands()) for tier in (STANDARD, *more)},
        request_nusd=draw(AMOUNT),
        image_nusd=draw(AMOUNT),
        audio_nusd_per_minute=draw(AMOUNT),
        speech_nusd_per_mchar=draw(AMOUNT),
        tool_nusd=draw(st.dictionaries(st.sampled_from(["search", "code"]), AMOUNT)),
        region_pct=draw(st.sampled_from([{}, {}, {"eu": 110}, {"eu": 120}])),
    )


COUNT = st.integers(0, 10_000)
USAGES = st.builds(
    Usage,
    input_tokens=COUNT,
    cached_input_tokens=COUNT,
    cache_write_tokens=COUNT,
    output_tokens=COUNT,
    reasoning_tokens=COUNT,
    cache_write_long_tokens=COUNT,
    audio_input_tokens=COUNT,
    cached_audio_input_tokens=COUNT,
    image_input_tokens=COUNT,
    cached_image_input_tokens=COUNT,
    audio_output_tokens=COUNT,
    image_output_tokens=COUNT,
    service_tier=st.sampled_from([None, "default", "other", *TIERS]),
    region=st.sampled_from([None, "eu", "us"]),
    images=st.integers(0, 3),
    characters=COUNT,
    audio_ms=COUNT,
    tool_calls=st.lists(st.tuples(st.sampled_from(["search", "code", "other"]), st.integers(0, 5))).map(tuple),
)


@given(prices(), prices(), USAGES)
def test_whatever_is_used_costs_no_more_beyond_the_other_price_than_by_the_difference(
    own: Price, other: Price, usage: Usage
):
    beyond_nusd = price(usage, ModelFacts(own)) - price(usage, ModelFacts(other))
    difference = dearer_by(own, other)
    assert beyond_nusd <= (0 if difference is None else price(usage, ModelFacts(difference)))


def flat(input_nusd: int, output_nusd: int, request_nusd: int = 0) -> Price:
    return Price({STANDARD: (Band(0, flat_rates(input_nusd, output_nusd)),)}, request_nusd)


def test_what_is_nowhere_dearer_is_no_dearer():
    assert dearer_by(flat(1, 4), flat(1, 4)) is None
    assert dearer_by(flat(1, 4), flat(2, 4, request_nusd=5)) is None


def test_each_unit_is_compared_for_itself():
    assert dearer_by(flat(10, 1), flat(1, 20)) == flat(9, 0)
    assert dearer_by(flat(3, 4), flat(1, 9)) == flat(2, 0)


def test_what_is_paid_by_the_call_stays_whole_beside_what_is_dearer():
    assert dearer_by(flat(3, 4, request_nusd=7), flat(1, 4, request_nusd=7)) == flat(2, 0, request_nusd=7)
    assert dearer_by(flat(1, 4, request_nusd=8), flat(1, 4, request_nusd=7)) == flat(0, 0, request_nusd=8)
