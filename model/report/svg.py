"""Plots as SVG text, for a page that needs no network: lines with dots, bars, ranges.

Colours are variables of the page's style (`model.report.html`), so that a plot is light where the
page is, and dark where that is dark; alone, it is light.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

_WIDTH: Final = 560
_HEIGHT: Final = 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 50, 52
_INK, _GRID, _MUTED = "var(--ink,#3c4454)", "var(--grid,#e3e7ef)", "var(--muted,#7a7f8a)"
_COLORS: Final = (
    "var(--line-1,#2458c5)",
    "var(--line-2,#d06a00)",
    "var(--line-3,#7a7f8a)",
    "var(--line-4,#1a8f5a)",
)
_DOTS: Final = (
    "var(--line-5,#c2185b)",
    "var(--line-2,#d06a00)",
    "var(--line-4,#1a8f5a)",
    "var(--line-6,#6a3fb5)",
)
_FONT: Final = f'font-family="system-ui,sans-serif" font-size="13" fill="{_INK}"'
_CHARACTER: Final = 7.6  # mean width of a character, in the units of the drawing
_ROW: Final = 26
_ENDS: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_STEPS: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name, ends, and whether its numbers are shares.

    `scale`: "log" shows 1 as far from 10 as 10 from 100, and nothing below `low`; "signed" does so
    on both sides of 0, which it has. `ticks` are places with names, instead of round numbers.
    """

    name: str
    low: float
    high: float
    percent: bool = False
    scale: Literal["linear", "log", "signed"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()

    def label(self, value: float) -> str:
        """A number on the axis."""
        return f"{value:.0%}" if self.percent else short(value)

    def share(self, value: float) -> float:
        """How far along the axis a value is, 0 to 1 for what lies on it."""
        low, high = self._on(self.low), self._on(self.high)
        return (self._on(value) - low) / (high - low) if high > low else 0.5

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Where there are lines across, and their names."""
        if self.ticks:
            return self.ticks
        if self.scale == "linear":
            values = _round_steps(self.low, self.high)
        elif self.scale == "log":
            values = _powers(self.low, self.high)
        else:
            sizes = _powers(10.0, max(-self.low, self.high, 10.0))
            values = [v for s in sizes for v in (-s, s) if self.low <= v <= self.high]
            values = sorted([*values, 0.0])
        return tuple((value, self.label(value)) for value in values)

    def _on(self, value: float) -> float:
        if self.scale == "log":
            return math.log10(max(value, self.low))
        if self.scale == "signed":
            return math.copysign(math.log10(1.0 + abs(value)), value)
        return value


def short(value: float) -> str:
    """A number in a few characters: 0.25, 12, 1,200, 12k, 3.4M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def plot(
    *,
    lines: Sequence[tuple[Sequence[tuple[float, float]], str]],
    dots: Sequence[tuple[float, float, str]],
    x: Axis,
    y: Axis,
    level: float | None = None,
    level_name: str = "",
    title: str = "",
    dotted: bool = False,
) -> str:
    """Named lines and named dots; `level` is a dashed line across, `dotted` marks the points of
    the lines. The first of two lines or more is what the others are held against, and grey.
    `title` says in words what is to be seen, for who cannot see it."""
    parts = [*_frame(x, y)]
    if level is not None:
        at = _y(level, y)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
            f' stroke="{_MUTED}" stroke-dasharray="4 4"/>'
            f'<text x="{_LEFT + 6}" y="{at + 15:.1f}" {_FONT}>{escape(level_name)}</text>'
        )
    colors = _COLORS if len(lines) < 2 else (_MUTED, *_COLORS[:2], _DOTS[3], _COLORS[3])
    for number, ((points, _), color) in enumerate(zip(lines, colors, strict=False)):
        path = " ".join(f"{_x(a, x):.1f},{_y(b, y):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        if dotted and (number or len(lines) == 1):
            parts += [_dot(_x(a, x), _y(b, y), color, 4.0) for a, b in points]
    entries = [(name, color) for (_, name), color in zip(lines, colors, strict=False)]
    for number, (a, b, name) in enumerate(dots):
        color = _DOTS[number % len(_DOTS)] if name else _COLORS[0]
        parts.append(_dot(_x(a, x), _y(b, y), color, 5.5))
        if name:
            entries.append((name, color))
    named = [(name, color) for name, color in entries if name]
    parts.append(_legend(named))
    return _svg(parts, title, top=0 if named else _TOP - 14)


def bars(
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    x: str,
    y: str,
    series: Sequence[str],
    values: bool = False,
    title: str = "",
) -> str:
    """Stacked bars, one for each named group; `values` writes each total above its bar."""
    top = max((sum(heights) for _, heights in groups), default=0) or 1
    across, up = Axis(x, 0, max(len(groups), 1)), Axis(y, 0, _rounded_up(top))
    parts = [*_frame(across, up, numbers=False)]
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    every = max(1, round(len(groups) / 6))
    for number, (name, heights) in enumerate(groups):
        left, below = _LEFT + number * width, 0.0
        for height, color in zip(heights, _COLORS, strict=False):
            y1, y2 = _y(below + height, up), _y(below, up)
            parts.append(
                f'<rect x="{left + width * 0.12:.1f}" y="{y1:.1f}" width="{width * 0.76:.1f}"'
                f' height="{max(y2 - y1, 0):.1f}" fill="{color}"/>'
            )
            below += height
        middle = left + width / 2
        if values:
            parts.append(_text(middle, _y(below, up) - 6, f"{below:,.0f}", "middle"))
        if number % every == 0:
            parts.append(_text(middle, _HEIGHT - _BOTTOM + 18, name, "middle"))
    if len(series) > 1:
        parts.append(_legend(list(zip(series, _COLORS, strict=False))))
    return _svg(parts, title)


def lengths(
    rows: Sequence[tuple[str, float, float, str]], *, x: str, title: str = "", left: int = 190
) -> str:
    """Bars lying down, one for each row of (name, length, half an error bar, what is written at its
    end); `left` is the room for names."""
    longest = max((value + error for _, value, error, _ in rows), default=0.0) or 1.0
    right = 16 + _CHARACTER * max((len(text) for *_, text in rows), default=0)
    height = 12 + _ROW * len(rows) + 26
    scale = (_WIDTH - left - right) / longest
    parts = []
    for number, (name, value, error, text) in enumerate(rows):
        top, end = 8 + _ROW * number, left + max(value, 0.0) * scale
        middle = top + _ROW / 2 - 3
        parts.append(_text(left - 8, middle + 4.5, name, "end"))
        parts.append(
            f'<rect x="{left}" y="{top}" width="{max(end - left, 1):.1f}" height="{_ROW - 7}"'
            f' fill="{_COLORS[0]}"/>'
        )
        if error:
            low, high = max(left, end - error * scale), end + error * scale
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
                f' stroke="{_INK}" stroke-width="1.5"/>'
            )
        parts.append(_text(end + error * scale + 7, middle + 4.5, text, "start"))
    parts.append(_text(left, height - 8, x, "start"))
    return _svg(parts, title, height)


def ranges(
    columns: Sequence[tuple[str, tuple[float, float, float, float, float], float]],
    *,
    x: str,
    y: Axis,
    names: tuple[str, str, str, str],
    title: str = "",
) -> str:
    """For each named column five percentiles in ascending order, as a line, a box on it and a mark
    in the middle, and a dot; `names` are those of line, box, mark and dot."""
    across = Axis(x, 0, max(len(columns), 1))
    parts = [*_frame(across, y, numbers=False)]
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(columns), 1)
    for number, (name, (a, b, c, d, e), dot) in enumerate(columns):
        middle = _LEFT + (number + 0.5) * width
        half = width * 0.3
        parts.append(
            f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{_y(a, y):.1f}" y2="{_y(e, y):.1f}"'
            f' stroke="{_MUTED}" stroke-width="2"/>'
            f'<rect x="{middle - half:.1f}" y="{_y(d, y):.1f}" width="{2 * half:.1f}"'
            f' height="{max(_y(b, y) - _y(d, y), 1):.1f}" fill="{_COLORS[0]}" fill-opacity="0.35"/>'
            f'<line x1="{middle - half:.1f}" x2="{middle + half:.1f}" y1="{_y(c, y):.1f}"'
            f' y2="{_y(c, y):.1f}" stroke="{_COLORS[0]}" stroke-width="2.5"/>'
        )
        parts.append(_dot(middle, _y(dot, y), _DOTS[1], 4.5))
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 18, name, "middle"))
    parts.append(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(0, y):.1f}" y2="{_y(0, y):.1f}"'
        f' stroke="{_INK}" stroke-dasharray="4 4"/>'
    )
    box = "var(--box,#a9bfe8)"
    parts.append(_legend(list(zip(names, (_MUTED, box, _COLORS[0], _DOTS[1]), strict=True))))
    return _svg(parts, title)


def _frame(x: Axis, y: Axis, *, numbers: bool = True) -> list[str]:
    parts = []
    for value, name in y.marks():
        at = _y(value, y)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
            f' stroke="{_GRID}"/>' + _text(_LEFT - 8, at + 4.5, name, "end")
        )
    if numbers:
        parts += [
            _text(_x(value, x), _HEIGHT - _BOTTOM + 18, name, "middle") for value, name in x.marks()
        ]
    middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
    parts.append(
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x.name, "middle")
        + f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle" {_FONT}>'
        f"{escape(y.name)}</text>"
    )
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}>{escape(text)}</text>'


def _dot(x: float, y: float, color: str, radius: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}" fill-opacity="0.9"'
        ' stroke="var(--paper,#fff)"/>'
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    parts, at, row = [], float(_LEFT), 0
    for name, color in entries:
        width = 36 + _CHARACTER * len(name)
        if at + width > _WIDTH and at > _LEFT:
            at, row = float(_LEFT), row + 1
        parts.append(
            f'<rect x="{at:.0f}" y="{8 + 19 * row}" width="14" height="6" fill="{color}"/>'
            + _text(at + 20, 15 + 19 * row, name, "start")
        )
        at += width
    return "".join(parts)


def _svg(parts: Sequence[str], title: str = "", height: float = _HEIGHT, *, top: float = 0) -> str:
    label = f' aria-label="{escape(title, quote=True)}"' if title else ""
    return (
        f'<svg viewBox="0 {top:g} {_WIDTH} {height - top:g}" role="img"{label}'
        f' xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _x(value: float, axis: Axis) -> float:
    return _LEFT + axis.share(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, axis: Axis) -> float:
    return _HEIGHT - _BOTTOM - axis.share(value) * (_HEIGHT - _TOP - _BOTTOM)


def _round_steps(low: float, high: float) -> list[float]:
    """Multiples of a round number from `low` to `high`, seven at most."""
    if not high > low:
        return [low]
    step = _rounded_up((high - low) / 6, _STEPS)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, with threes between them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1.0, 3.0) if last - first <= 4 else (1.0,)
    values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    inside = [value for value in values if low <= value <= high * 1.0001]
    return inside[:: 1 + len(inside) // 9]


def _rounded_up(value: float, of: Sequence[float] = _ENDS) -> float:
    """The next of some numbers times a power of ten; those of _ENDS have fifths that read well."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in of if power * step >= value)


def rounded_up(value: float) -> float:
    """A round end for an axis that starts at 0 and has to show `value`; 1 for 0."""
    return _rounded_up(value) if value > 0 else 1.0
