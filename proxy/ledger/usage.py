"""Sums over rows: who used how much, and what it cost.

Pure. A group takes the same memory however many rows it sums up.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from proxy.ledger.change import AUDIT
from proxy.ledger.entry import decode

# What can be asked for, and the field that says it.
DIMENSIONS = {
    "tenant": "tenant",
    "user": "user",
    "feature": "feature",
    "model": "requested_model",
    "key": "virtual_key_id",
    "cache": "cache",
    "day": "started_at",
}
_DAY_CHARS = len("2026-11-25")


class Totals(NamedTuple):
    """What a group comes to."""

    runs: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nusd: int = 0
    charged_nusd: int = 0
    absorbed_nusd: int = 0
    saved_nusd: int = 0
    hits: int = 0  # of the runs, those that were answered from the cache


_SUMMED = Totals._fields[1:-1]
_amounts = itemgetter(*_SUMMED)

Group = tuple[str | None, ...]
"""The values of the dimensions; None where a row has none."""


class Summary:
    """Sums rows up by some of the dimensions."""

    __slots__ = ("_fields", "_since", "_sums", "_until", "by", "counted_nusd")

    def __init__(self, by: Sequence[str], since: str | None = None, until: str | None = None) -> None:
        """
        Args:
            by: names of DIMENSIONS.
            since, until: instants as rows write them (RFC 3339, UTC, milliseconds); `until` is the first one left out.
        """
        self.by = tuple(by)
        self._fields = [DIMENSIONS[name] for name in by]
        self._since = since or ""
        self._until = until or "\uffff"
        self._sums: dict[Group, list[int]] = {}
        self.counted_nusd = 0  # what was charged to runs that the counters know: those that held something

    def add(self, rows: Iterable[bytes]) -> None:
        """Take rows in, as they are stored. Those of changes count for nothing.

        Raises:
            InvalidJson: a row is none.
        """
        since, until, sums, fields = self._since, self._until, self._sums, self._fields
        day = fields.index("started_at") if "started_at" in fields else None
        for data in rows:
            row = decode(data)
            if row.get("kind") == AUDIT:
                continue
            started_at = row.get("started_at") or ""
            if not since <= started_at < until:
                continue
            group = tuple([row.get(name) for name in fields])
            if day is not None:
                group = (*group[:day], started_at[:_DAY_CHARS], *group[day + 1 :])
            totals = sums.get(group)
            if totals is None:
                totals = sums[group] = [0] * len(Totals._fields)
            _add_row(totals, row)
            if row.get("held_nusd") is not None:
                self.counted_nusd += row.get("charged_nusd") or 0

    def groups(self) -> list[tuple[Group, Totals]]:
        """Each group and its totals, in the order of the groups; those without a value come first."""
        ordered = sorted(self._sums.items(), key=lambda item: tuple((one is not None, one or "") for one in item[0]))
        return [(group, Totals(*totals)) for group, totals in ordered]

    def total(self) -> Totals:
        """All groups together."""
        return Totals(*(sum(column) for column in zip(*self._sums.values(), strict=True))) if self._sums else Totals()


def _add_row(totals: list[int], row: Mapping[str, Any]) -> None:
    """An adjustment adds what it corrects, and is no run. What an older row has not is 0."""
    totals[0] += row.get("kind") == "run"
    try:
        amounts = _amounts(row)
    except KeyError:
        amounts = tuple([row.get(name) for name in _SUMMED])
    for place, amount in enumerate(amounts, 1):
        if amount:
            totals[place] += amount
    totals[-1] += row.get("cache") == "hit"


def dollars(nusd: int) -> str:
    """Nano-dollars as dollars, to the last digit: 1250 is 0.000001250."""
    whole, rest = divmod(abs(nusd), 1_000_000_000)
    return f"{'-' if nusd < 0 else ''}{whole}.{rest:09d}"
