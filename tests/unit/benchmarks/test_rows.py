import pytest

from benchmarks import rows
from benchmarks.intervals import Interval, exactly
from benchmarks.rows import Goal, Row, goals_table, markdown, part_table, shown


def row(per_s: float = 20_500, **more) -> Row:
    figures = {rows.PER_S: Interval(per_s, per_s - 500, per_s + 500), rows.ADDED_P50: Interval(0.1, 0.09, 0.12)}
    return Row("plain", "1 KB", "passthrough", **{"figures": figures, "rounds": 7, **more})


FAST = Goal("fast", "plain", "1 KB", "passthrough", rows.PER_S, 20_000, at_least=True)
SOON = Goal("soon", "plain", "1 KB", "passthrough", rows.ADDED_P50, 0.1)


@pytest.mark.parametrize(
    ("goal", "found", "said"),
    [
        (FAST, row(), "yes"),
        (FAST, row(20_000), "yes"),
        (FAST, row(19_999), "**no**"),
        (FAST, row(failures=1), "**no**"),  # speed at the price of calls is none
        (SOON, row(), "yes"),
    ],
)
def test_a_goal_holds_or_not(goal, found, said):
    assert goals_table([goal], [found]).splitlines()[-1].split("|")[-2].strip() == said


def test_what_was_not_measured_holds_no_goal():
    assert "not measured" in goals_table([FAST], [])
    assert "not measured" in goals_table([FAST], [row(figures={}, note="nobody there")])


def test_the_table_of_a_part_has_every_figure_and_says_what_failed():
    lines = part_table([row(), row(figures={rows.CPU: exactly(12.3)}, failures=3, note="status 503")]).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[3:6]] == [rows.PER_S, rows.ADDED_P50, rows.CPU]
    assert "20,500 [20,000, 21,000]" in lines[2]
    assert "12.3" in lines[3]
    assert lines[-1] == "- 1 KB, passthrough: status 503"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (exactly(5_000), "5,000"),
        (Interval(0.1234, 0.1, 0.2), "0.123 [0.100, 0.200]"),
        (Interval(12.34, 9.876, 123.4), "12.3 [9.88, 123]"),
        (Interval(-2.5, -3.25, 0.5), "-2.50 [-3.25, 0.500]"),
    ],
)
def test_figures_are_shown_to_three_digits(interval, text):
    assert shown(interval) == text


def test_markdown_is_aligned():
    assert markdown([("a", "b", "c"), ("long", "", "1")]).splitlines() == [
        "| a    | b  |  c |",
        "| :--- | :- | -: |",
        "| long |    |  1 |",
    ]
