"""Draws what becomes of each figure as a gateway has more to know: a panel for each, a bar for each size.

Pure, and by hand, like `picture`.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple, Protocol

from benchmarks.intervals import Interval

_WIDTH_PX: Final = 1_080
_TOP_PX: Final = 104
_ROW_PX: Final = 22
_FOOT_PX: Final = 66
_LEFT_PX: Final = 200
_GAP_PX: Final = 56
_INK, _FAINT, _BAR, _MARK = "#1d2530", "#66707d", "#9cc3e6", "#0b5fa5"
_FONT: Final = "font-family=\"Inter, 'Helvetica Neue', Arial, sans-serif\""


class _Cost(Protocol):
    @property
    def cpu_ratio(self) -> Interval: ...


class _Line(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def start_rss_mb(self) -> float: ...
    @property
    def reload_ms(self) -> float: ...
    @property
    def stall_ms(self) -> float: ...
    @property
    def few(self) -> _Cost: ...


class _Panel(NamedTuple):
    title: str
    values: Sequence[float]
    form: str


def draw(title: str, lines: Sequence[_Line], facts: Mapping[str, str]) -> str:
    """The picture, as the text of an SVG file."""
    panels = (
        _Panel("memory at start, MB", [each.start_rss_mb for each in lines], "{:.1f}"),
        _Panel("reload, ms", [each.reload_ms for each in lines], "{:,.0f}"),
        _Panel("longest call in it, ms", [each.stall_ms for each in lines], "{:.0f}"),
        _Panel("CPU of a call, × smallest", [each.few.cpu_ratio.value for each in lines], "{:.2f}"),
    )
    height_px = _TOP_PX + _ROW_PX * len(lines) + _FOOT_PX
    width_px = (_WIDTH_PX - _LEFT_PX) / len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height_px}" '
        f'width="{_WIDTH_PX}" height="{height_px}" role="img" aria-label="{escape(title, quote=True)}" {_FONT}>',
        f'<rect width="{_WIDTH_PX}" height="{height_px}" fill="#ffffff"/>',
        _text(24, 38, title, size=19, weight=600),
        _text(24, _TOP_PX - 14, "tenants / virtual keys / models", colour=_FAINT, size=11),
        *(_text(24, _y(row) + 4, each.label) for row, each in enumerate(lines)),
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, _LEFT_PX + number * width_px, width_px - _GAP_PX)
    shown = ", ".join(facts[name] for name in ("cpu", "system", "python", "date") if name in facts)
    parts.append(_text(24, height_px - 36, shown, colour=_FAINT, size=11))
    parts.append(_text(24, height_px - 18, facts.get("layout", ""), colour=_FAINT, size=11))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: _Panel, left_px: float, width_px: float) -> list[str]:
    most = max(*panel.values, 1e-9) if panel.values else 1.0
    parts = [_text(left_px, _TOP_PX - 14, panel.title, colour=_FAINT, size=11)]
    for row, value in enumerate(panel.values):
        long_px = max(1.0, width_px * value / most)
        parts.append(f'<rect x="{left_px:.1f}" y="{_y(row) - 6:.1f}" width="{long_px:.1f}" height="12" fill="{_BAR}"/>')
        parts.append(_text(left_px + long_px + 6, _y(row) + 4, panel.form.format(value), size=11, colour=_MARK))
    return parts


def _y(row: int) -> float:
    return _TOP_PX + _ROW_PX * row + _ROW_PX / 2


def _text(x: float, y: float, text: str, *, size: int = 12, colour: str = _INK, weight: int = 400) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'
