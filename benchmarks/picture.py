"""Draws added latency as an SVG: one line a measure, its percentiles as dots with their intervals.

Pure, and by hand: a picture of dots and lines is worth no plotting library.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from benchmarks.comparison import PCTS, Comparison
from benchmarks.intervals import Interval

_WIDTH_PX: Final = 960
_LEFT_PX: Final = 250
_RIGHT_PX: Final = 190
_TOP_PX: Final = 104
_ROW_PX: Final = 58
_LANE_PX: Final = 15
_FOOT_PX: Final = 86
_LINE_CHARS_MAX: Final = 150
_COLOURS: Final = {50: "#0b5fa5", 90: "#e08a00", 99: "#b3261e"}
_INK, _FAINT, _GRID = "#1d2530", "#66707d", "#e3e7ec"
_FONT: Final = "font-family=\"Inter, 'Helvetica Neue', Arial, sans-serif\""


class _Axis:
    """Milliseconds on a logarithmic scale of whole decades."""

    def __init__(self, values_ms: Sequence[float]) -> None:
        seen = [value for value in values_ms if value > 0] or [1.0]
        self.low = min(math.floor(math.log10(min(seen))), -1)
        self.low = max(self.low, -3)  # below a microsecond there is nothing to see
        self.high = max(math.ceil(math.log10(max(seen))), self.low + 2)

    def x(self, value_ms: float) -> float:
        span_px = _WIDTH_PX - _LEFT_PX - _RIGHT_PX
        place = math.log10(value_ms) if value_ms > 0 else self.low
        share = (place - self.low) / (self.high - self.low)
        return _LEFT_PX + span_px * min(1.0, max(0.0, share))

    def ticks_ms(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(title: str, comparisons: Sequence[Comparison], facts: Mapping[str, str]) -> str:
    """The picture, as the text of an SVG file."""
    axis = _Axis([bound for each in comparisons for interval in each.added_ms.values() for bound in interval])
    bottom_px = _TOP_PX + _ROW_PX * len(comparisons)
    height_px = bottom_px + _FOOT_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height_px}" '
        f'width="{_WIDTH_PX}" height="{height_px}" role="img" aria-label="{escape(title, quote=True)}" {_FONT}>',
        f'<rect width="{_WIDTH_PX}" height="{height_px}" fill="#ffffff"/>',
        _text(24, 38, title, size=19, weight=600),
        _legend(),
        *_grid(axis, bottom_px),
    ]
    for number, comparison in enumerate(comparisons):
        parts += _row(axis, comparison, _TOP_PX + _ROW_PX * number + _ROW_PX / 2)
    parts += _foot(facts, bottom_px)
    return "\n".join([*parts, "</svg>", ""])


def _text(
    x: float, y: float, text: str, *, size: int = 12, colour: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}"'
    return f'<text {place} fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend() -> str:
    parts = [_text(24, 64, "Added by the gateway, in milliseconds (log scale); bars: 95 % intervals", colour=_FAINT)]
    x_px = 470
    for pct in PCTS:
        parts.append(f'<circle cx="{x_px}" cy="60" r="5" fill="{_COLOURS[pct]}"/>')
        parts.append(_text(x_px + 10, 64, f"p{pct}", colour=_FAINT))
        x_px += 54
    parts.append(
        _text(_WIDTH_PX - 24, _TOP_PX - 12, "requests/s, direct → gateway", colour=_FAINT, anchor="end", size=11)
    )
    return "\n".join(parts)


def _grid(axis: _Axis, bottom_px: float) -> list[str]:
    parts: list[str] = []
    for tick_ms in axis.ticks_ms():
        x_px = axis.x(tick_ms)
        line = f'<line x1="{x_px:.1f}" y1="{_TOP_PX}" x2="{x_px:.1f}" y2="{bottom_px}" stroke="{_GRID}"/>'
        parts += [line, _text(x_px, bottom_px + 18, f"{tick_ms:g} ms", colour=_FAINT, anchor="middle")]
    return parts


def _row(axis: _Axis, comparison: Comparison, y_px: float) -> list[str]:
    parts = [
        _text(24, y_px - 2, comparison.workload, weight=600),
        _text(24, y_px + 14, comparison.measure, colour=_FAINT, size=11),
    ]
    lanes = zip(PCTS, (-_LANE_PX, 0, _LANE_PX), strict=True)
    parts += [_dot(axis, comparison.added_ms[pct], _COLOURS[pct], y_px + lane_px, f"p{pct}") for pct, lane_px in lanes]
    rates = f"{comparison.direct_per_s.value:,.0f} → {comparison.gateway_per_s.value:,.0f}"
    return [*parts, _text(_WIDTH_PX - 24, y_px + 5, rates, anchor="end")]


def _dot(axis: _Axis, interval: Interval, colour: str, y_px: float, name: str) -> str:
    low_px, x_px, high_px = axis.x(interval.low), axis.x(interval.value), axis.x(interval.high)
    bar = f'x1="{low_px:.1f}" y1="{y_px:.1f}" x2="{high_px:.1f}" y2="{y_px:.1f}"'
    tip = f"{name}: {interval.value:.3f} ms [{interval.low:.3f}, {interval.high:.3f}]"
    return (
        f"<g><title>{tip}</title>"
        f'<line {bar} stroke="{colour}" stroke-width="3" stroke-opacity="0.35" stroke-linecap="round"/>'
        f'<circle cx="{x_px:.1f}" cy="{y_px:.1f}" r="4.5" fill="{colour}"/>'
        f"{_text(max(high_px, x_px) + 9, y_px + 4, f'{interval.value:.3f}', size=10, colour=colour)}</g>"
    )


def _foot(facts: Mapping[str, str], bottom_px: float) -> list[str]:
    known = {**facts, "cores": f"{facts['cores']} cores"} if "cores" in facts else facts
    shown = ", ".join(known[name] for name in ("cpu", "cores", "system", "python", "date") if name in known)
    lines = [shown, facts.get("layout", "")]
    return [
        _text(24, bottom_px + 48 + 18 * number, line[:_LINE_CHARS_MAX], colour=_FAINT, size=11)
        for number, line in enumerate(lines)
    ]
