"""Plots as SVG, drawn by matplotlib: the same numbers give the same bytes.

Colours are variables of the page's style (`templates/base.html`), so that a plot is light where the
page is, and dark where that is dark. Only pages import this module: matplotlib takes half a second.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal, TypeAlias

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis as Ticks
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    SymmetricalLogLocator,
)

from model.report.format import short

Points: TypeAlias = Sequence[tuple[float, float]]

_WIDTH: Final = 560
_HEIGHT: Final = 350
_COLORS: Final = {
    "paper": "#ffffff",
    "ink": "#3c4454",
    "grid": "#e3e7ef",
    "muted": "#7a7f8a",
    "box": "#a9bfe8",
    "line-1": "#2458c5",
    "line-2": "#d06a00",
    "line-4": "#1a8f5a",
    "line-5": "#c2185b",
    "line-6": "#6a3fb5",
}
_NAMES: Final = {color: name for name, color in _COLORS.items()}
_BLUE, _ORANGE = _COLORS["line-1"], _COLORS["line-2"]
_SERIES: Final = (_BLUE, _ORANGE, _COLORS["line-6"], _COLORS["line-4"])
_DOTS: Final = (_COLORS["line-5"], _ORANGE, _COLORS["line-4"], _COLORS["line-6"])
_CHARACTER: Final = 8.0  # widest mean width of a character of a label, in units of the drawing
_INSIDE: Final = 470  # the drawing without the numbers of its axis
_NAME: Final = 28  # characters of a name beside a bar: attributes are named by the shop
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text, to be searched and read out
    "text.parse_math": False,  # a name with two dollar signs is a name
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.labelcolor": _COLORS["ink"],
    "axes.edgecolor": _COLORS["grid"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _COLORS["grid"],
    "text.color": _COLORS["ink"],
    "xtick.labelcolor": _COLORS["ink"],
    "ytick.labelcolor": _COLORS["ink"],
    "xtick.color": _COLORS["grid"],
    "xtick.major.pad": 7,
    "ytick.color": _COLORS["grid"],
    "figure.facecolor": "none",
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.borderaxespad": 0,
}
# What it would print of its cache of fonts is not for the reader of a report.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name and ends, and whether its numbers are shares.

    `scale`: "log" has no room for what is not above 0; "symlog" is logarithmic from 10 on, on both
    sides of 0. `names` are those of the places 0, 1, 2 and so on, instead of numbers.
    """

    name: str
    low: float | None = None
    high: float | None = None
    percent: bool = False
    scale: Literal["linear", "log", "symlog"] = "linear"
    names: Sequence[str] = ()

    def label(self, value: float) -> str:
        """A number on the axis."""
        return f"{value:.0%}" if self.percent else short(value)


def plot(
    x: Axis,
    y: Axis,
    *,
    title: str,
    lines: Sequence[tuple[Points, str]] = (),
    dots: Sequence[tuple[float, float, str]] = (),
    reference: tuple[Points, str] | None = None,
    band: tuple[Sequence[tuple[float, float, float]], str] | None = None,
    dotted: bool = False,
) -> Markup:
    """Named lines and named dots, held against a dashed `reference`, or a `band` of (x, low, high).

    `dotted` marks the points of the lines. `title` says in words what is to be seen, for who cannot
    see it.
    """

    def paint(axes: Axes) -> None:
        if band is not None:
            across, lows, highs = zip(*band[0], strict=True)
            axes.fill_between(across, lows, highs, color=_COLORS["grid"], label=band[1])
        if reference is not None:
            axes.plot(
                *_columns(reference[0]), "--", color=_COLORS["muted"], lw=1.5, label=reference[1]
            )
        for (points, name), color in zip(lines, _SERIES, strict=False):
            axes.plot(*_columns(points), "o-" if dotted else "-", color=color, ms=5, label=name)
        names = list(dict.fromkeys(name for *_, name in dots))
        # Another shape where the colours begin again.
        for name, (shape, color) in zip(names, product("osD^", _DOTS), strict=False):
            places = [(at, height) for at, height, its in dots if its == name]
            axes.plot(
                *_columns(places), shape, color=color, ms=9, label=name, zorder=3,
                mec=_COLORS["paper"], clip_on=False,
            )  # fmt: skip
        _set(axes, x, y)

    return _drawn(title, paint)


def bars(
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    x: str,
    y: str,
    series: Sequence[str],
    title: str,
) -> Markup:
    """Stacked bars, one for each named group; of a single series with its numbers on top."""

    def paint(axes: Axes) -> None:
        places = range(len(groups))
        below = [0.0] * len(groups)
        for number, (name, color) in enumerate(zip(series, _SERIES, strict=False)):
            heights = [values[number] for _, values in groups]
            drawn = axes.bar(
                places, heights, 0.76, below, color=color, label=name if len(series) > 1 else ""
            )
            below = [low + height for low, height in zip(below, heights, strict=True)]
        if len(series) == 1:
            axes.bar_label(drawn, [f"{height:,.0f}" for height in below], padding=3)
            axes.margins(y=0.12)
        axes.grid(visible=False, axis="x")
        _set(axes, Axis(x, names=[name for name, _ in groups]), Axis(y, 0.0))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))

    return _drawn(title, paint)


def lengths(rows: Sequence[tuple[str, float, float, str]], *, x: str, title: str) -> Markup:
    """Bars lying down, one for each row of (name, length, half an error bar, text at its end)."""

    if not rows:
        return _drawn(title, lambda axes: axes.set_axis_off(), height=60)

    def paint(axes: Axes) -> None:
        names, values, errors, texts = zip(*rows, strict=True)
        drawn = axes.barh(
            range(len(rows)), [max(value, 0.0) for value in values], 0.7, color=_BLUE,
            xerr=errors if any(errors) else None, error_kw={"ecolor": _COLORS["ink"]},
        )  # fmt: skip
        axes.bar_label(drawn, texts, padding=5)
        axes.set_yticks(
            range(len(rows)), [f"{name[:_NAME]}…" if len(name) > _NAME else name for name in names]
        )
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.set_xlabel(x, loc="left")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_xlim(0, 1.15 * max(v + e for v, e in zip(values, errors, strict=True)) or 1)

    return _drawn(title, paint, height=60 + 26 * len(rows))


def ranges(
    columns: Sequence[tuple[str, tuple[float, float, float, float, float], float]],
    x: str,
    y: Axis,
    *,
    names: tuple[str, str, str, str],
    title: str,
) -> Markup:
    """For each named column five percentiles in ascending order, as a line, a box on it and a mark
    in the middle, and a dot; `names` are those of line, box, mark and dot."""

    def paint(axes: Axes) -> None:
        places = range(len(columns))
        axes.axhline(0, color=_COLORS["ink"], ls="--", lw=1)
        for at, (_, (lowest, low, middle, high, highest), dot) in zip(places, columns, strict=True):
            line, box, mark, point = names if at == 0 else [""] * 4
            axes.vlines(at, lowest, highest, color=_COLORS["muted"], label=line)
            axes.bar(at, high - low, 0.6, low, color=_COLORS["box"], zorder=2, label=box)
            axes.hlines(middle, at - 0.3, at + 0.3, color=_BLUE, lw=2.5, zorder=3, label=mark)
            axes.plot([at], [dot], "o", color=_ORANGE, mec=_COLORS["paper"], zorder=4, label=point)
        axes.grid(visible=False, axis="x")
        _set(axes, Axis(x, names=[name for name, *_ in columns]), y)

    return _drawn(title, paint)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _set(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(x.name)
    axes.set_ylabel(y.name)
    axes.set_xscale(x.scale)
    axes.set_yscale(y.scale, **({"linthresh": 10.0} if y.scale == "symlog" else {}))
    if x.low != x.high:
        axes.set_xlim(x.low, x.high)
    if y.low != y.high:
        axes.set_ylim(y.low, y.high)
    if x.names:
        _name_places(axes, x.names)
    else:
        _number(axes.xaxis, x)
    _number(axes.yaxis, y)


def _name_places(axes: Axes, names: Sequence[str]) -> None:
    """As many of the names as have room beside each other."""
    wide = _CHARACTER * max(map(len, names)) + 14
    every = 1 + int((len(names) - 1) * wide / _INSIDE)
    axes.set_xticks(range(0, len(names), every), list(names[::every]))


def _number(ticks: Ticks, axis: Axis) -> None:
    if axis.scale == "symlog":
        ticks.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10.0, subs=[1.0, 3.0]))
    else:
        low, high = ticks.get_view_interval()
        if axis.scale == "linear" or high < 10 * low:
            ticks.set_major_locator(MaxNLocator(6))
        else:
            ticks.set_major_locator(LogLocator(subs=(1.0, 3.0) if high < 1e4 * low else (1.0,)))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: axis.label(value)))


def _drawn(title: str, paint: Callable[[Axes], None], height: float = _HEIGHT) -> Markup:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own style is
        # Ids of a page's plots come from it, and have to differ.
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": title})
        figure = Figure((_WIDTH / 72, height / 72), layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        named = [(h, n) for h, n in zip(*axes.get_legend_handles_labels(), strict=True) if n]
        if named:
            handles, names = zip(*named, strict=True)
            wide = _CHARACTER * max(map(len, names)) + 40
            ncols = max(1, min(len(names), int(_WIDTH / wide)))
            figure.legend(handles, names, loc="outside upper left", ncols=ncols)
        written = io.StringIO()
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=unsaid)
    return _for_a_page(written.getvalue(), title, height)


def _for_a_page(svg: str, title: str, height: float) -> Markup:
    """The drawing as an element of a page: without addresses, with the page's colours."""
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :].replace("xlink:href", "href")
    inside = re.sub(r"\s*<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    # Names of its parts, the same in every plot; what is referred to has a hash for a name.
    inside = re.sub(r'<g id="[^"]*"', "<g", inside)
    inside = re.sub(
        "#[0-9a-f]{6}",
        lambda found: f"var(--{_NAMES[found[0]]})" if found[0] in _NAMES else found[0],
        inside,
    )
    # Both are ours: what matplotlib wrote escapes its texts itself.
    head = Markup('<svg viewBox="0 0 {} {:g}" role="img" aria-label="{}">')
    return head.format(_WIDTH, height, title) + Markup(inside)
