import pytest

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.ledger.usage import DIMENSIONS, Summary, Totals, dollars


def row(**fields):
    return jsonio.encode({"kind": "run", "started_at": "2026-11-20T12:00:00.000Z", "tenant": "acme", **fields})


def test_sums_stay_exact_beyond_what_a_float_holds():
    summary = Summary(["tenant"])
    summary.add([row(charged_nusd=2**53 - 1)] * 3)
    assert summary.total().charged_nusd == 27_021_597_764_222_973  # 3 × 9,007,199,254,740,991


def test_every_dimension_at_once():
    summary = Summary(tuple(DIMENSIONS))
    summary.add([row(user="u", feature="f", requested_model="m", virtual_key_id="k", cache="hit", input_tokens=3)])
    assert summary.groups() == [
        (("acme", "u", "f", "m", "k", "hit", "2026-11-20"), Totals(runs=1, input_tokens=3, hits=1))
    ]


def test_groups_are_in_order_and_those_without_a_value_first():
    summary = Summary(["user"])
    summary.add([row(user="b"), row(user=None), row(user=""), row(user="a"), row()])
    assert [(group[0], totals.runs) for group, totals in summary.groups()] == [(None, 2), ("", 1), ("a", 1), ("b", 1)]


def test_what_an_older_row_has_not_is_nothing():
    summary = Summary(["tenant"])
    summary.add([row(), row(input_tokens=None, charged_nusd=None), row(output_tokens=2)])
    assert summary.total() == Totals(runs=3, output_tokens=2)


def test_nothing_comes_to_nothing():
    assert Summary(["tenant"]).total() == Totals()
    assert Summary(["tenant"]).groups() == []


def test_what_is_no_row_is_refused():
    with pytest.raises(InvalidJson):
        Summary(["tenant"]).add([b"[]"])


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (1_250, "0.000001250"),
        (-1, "-0.000000001"),
        (-1_500_000_000, "-1.500000000"),
        (9_007_199_254_740_991, "9007199.254740991"),
    ],
)
def test_dollars_to_the_last_digit(nusd, text):
    assert dollars(nusd) == text
