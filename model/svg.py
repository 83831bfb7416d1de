"""Plots as SVG text, for a page that needs no network: lines with dots, and stacked bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 720
_HEIGHT: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 48, 52
_COLORS: Final = ("#2458c5", "#e07b00", "#7a7f8a", "#1a8f5a")
_DOTS: Final = ("#c2185b", "#e07b00", "#1a8f5a", "#6a3fb5")
_FONT: Final = 'font-family="system-ui,sans-serif" font-size="12" fill="#3c4454"'


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name, ends, and whether its numbers are shares."""

    name: str
    low: float
    high: float
    percent: bool = False

    def label(self, value: float) -> str:
        """A number on the axis."""
        return f"{value:.0%}" if self.percent else f"{value:,.4g}"


def plot(
    *,
    lines: Sequence[tuple[Sequence[tuple[float, float]], str]],
    dots: Sequence[tuple[float, float, str]],
    x: Axis,
    y: Axis,
    level: float | None = None,
    level_name: str = "",
) -> str:
    """Named lines and named dots; `level` is a dashed line across."""
    parts = [*_frame(x, y)]
    if level is not None:
        at = _y(level, y)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
            ' stroke="#7a7f8a" stroke-dasharray="4 4"/>'
            f'<text x="{_LEFT + 6}" y="{at + 15:.1f}" {_FONT}>{escape(level_name)}</text>'
        )
    colors = _COLORS if len(lines) < 2 else (_COLORS[2], _COLORS[0])
    for (points, _), color in zip(lines, colors, strict=False):
        path = " ".join(f"{_x(a, x):.1f},{_y(b, y):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    entries = [(name, color) for (_, name), color in zip(lines, colors, strict=False)]
    for number, (a, b, name) in enumerate(dots):
        color = _DOTS[number % len(_DOTS)] if name else _COLORS[0]
        parts.append(
            f'<circle cx="{_x(a, x):.1f}" cy="{_y(b, y):.1f}" r="5.5" fill="{color}"'
            ' fill-opacity="0.85" stroke="#fff"/>'
        )
        if name:
            entries.append((name, color))
    parts.append(_legend(entries))
    return _svg(parts)


def bars(
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    x: str,
    y: str,
    series: Sequence[str],
    values: bool = False,
) -> str:
    """Stacked bars, one for each named group; `values` writes each total above its bar."""
    top = max((sum(heights) for _, heights in groups), default=0) or 1
    across, up = Axis(x, 0, max(len(groups), 1)), Axis(y, 0, _rounded_up(top))
    parts = [*_frame(across, up, numbers=False)]
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    every = max(1, round(len(groups) / 8))
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
            parts.append(
                f'<text x="{middle:.1f}" y="{_y(below, up) - 6:.1f}" text-anchor="middle" {_FONT}>'
                f"{below:,.0f}</text>"
            )
        if number % every == 0:
            parts.append(
                f'<text x="{middle:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" {_FONT}>'
                f"{escape(name)}</text>"
            )
    if len(series) > 1:
        parts.append(_legend(list(zip(series, _COLORS, strict=False))))
    return _svg(parts)


def _frame(x: Axis, y: Axis, *, numbers: bool = True) -> list[str]:
    parts = []
    for step in range(6):
        value = y.low + (y.high - y.low) * step / 5
        at = _y(value, y)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
            ' stroke="#e6e9f0"/>'
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" {_FONT}>'
            f"{y.label(value)}</text>"
        )
        if numbers:
            across = x.low + (x.high - x.low) * step / 5
            parts.append(
                f'<text x="{_x(across, x):.1f}" y="{_HEIGHT - _BOTTOM + 18}"'
                f' text-anchor="middle" {_FONT}>{x.label(across)}</text>'
            )
    middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 10}" text-anchor="middle"'
        f" {_FONT}>{escape(x.name)}</text>"
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle" {_FONT}>'
        f"{escape(y.name)}</text>"
    )
    return parts


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    parts, at, row = [], float(_LEFT), 0
    for name, color in entries:
        width = 40 + 6.5 * len(name)
        if at + width > _WIDTH and at > _LEFT:
            at, row = float(_LEFT), row + 1
        parts.append(
            f'<rect x="{at:.0f}" y="{8 + 18 * row}" width="14" height="6" fill="{color}"/>'
            f'<text x="{at + 20:.0f}" y="{15 + 18 * row}" {_FONT}>{escape(name)}</text>'
        )
        at += width
    return "".join(parts)


def _svg(parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(parts)}</svg>"
    )


def _x(value: float, axis: Axis) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, axis: Axis) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 or 10 times a power of ten, so that fifths of it read well."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value)
