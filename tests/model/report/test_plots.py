"""Plots: whole, the same every time, in the page's colours, and no label on top of another."""

from __future__ import annotations

import itertools
import re

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.report.plots import Axis, bars, lengths, plot, ranges

WEEKS = [f"2011-{number // 4 + 1:02}-{7 * (number % 4) + 1:02}" for number in range(48)]


def placed(svg: str) -> list[tuple[float, float, str]]:
    """The middle of every text that is centred, and the text."""
    found = re.findall(
        r'text-anchor: middle[^"]*" x="([-\d.]+)" y="([-\d.]+)"[^>]*>([^<]+)</text>', svg
    )
    return [(float(x), float(y), text) for x, y, text in found]


def a_plot(title: str = "Rising.") -> str:
    return plot(
        Axis("when", names=WEEKS),
        Axis("share", 0.0, 1.0, percent=True),
        title=title,
        lines=[([(0.0, 0.1), (47.0, 0.9)], "ours")],
        dots=[(3.0, 0.5, "alarm"), (4.0, 0.5, "alarm")],
        reference=([(0.0, 0.5), (47.0, 0.5)], "a coin"),
        band=([(0.0, 0.3, 0.6), (47.0, 0.4, 0.7)], "usual"),
    )


def test_the_same_numbers_give_the_same_bytes_whatever_the_users_own_style_is() -> None:
    first = a_plot()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        assert a_plot() == first


def test_a_plot_has_the_pages_colours_no_address_and_its_title_in_words() -> None:
    svg = a_plot('What "rises" <here>')
    assert svg.startswith('<svg viewBox="0 0 560 350" role="img" aria-label="What &#34;rises&#34;')
    assert "&lt;here&gt;" in svg
    assert "var(--line-1)" in svg
    assert re.findall("#[0-9a-f]{6}", svg) == []
    assert "http" not in svg
    assert svg.count(">alarm</text>") == 1


@settings(max_examples=10)
@given(st.integers(1, 48))
def test_names_of_places_never_overlap(count: int) -> None:
    groups = [(name, [1.0, 2.0]) for name in WEEKS[:count]]
    drawn = bars(groups, x="week", y="warnings", series=["a", "b"], title="x")
    at = sorted(x for x, _, text in placed(drawn) if text.startswith("2011-"))
    assert 1 <= len(at) <= 6
    # Ten characters of 13 units, each about 7.6 wide.
    assert all(right - left > 80 for left, right in itertools.pairwise(at))


def test_names_of_others_are_texts_and_no_formulas() -> None:
    drawn = lengths([("$x^2$ <b>", 1.0, 0.5, "1.000"), ("n" * 300, -0.1, 0.0, "-")], x="", title="")
    assert "$x^2$ &lt;b&gt;" in drawn


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(9.0, 4_000.0, {"10", "100", "1,000"}), (7.0, 9.5, {"8"}), (1e-3, 1e6, {"1", "10k"})],
)
def test_a_logarithmic_axis_has_round_marks_however_long_it_is(
    low: float, high: float, expected: set[str]
) -> None:
    drawn = plot(Axis("", low, high, scale="log"), Axis("", 0, 1), title="x")
    assert expected <= {text for *_, text in placed(drawn)}


def test_columns_of_percentiles_are_drawn_on_both_sides_of_nothing() -> None:
    drawn = ranges(
        [("1", (-900.0, -20.0, 1.0, 5.0, 30.0), -3.0), ("2", (0.0, 0.0, 0.0, 0.0, 0.0), 0.0)],
        "tenth",
        Axis("error", -2_000, 300, scale="symlog"),
        names=("most", "half", "median", "mean"),
        title="x",
    )
    for text in ("most", "half", "median", "mean", "-1,000", "100"):
        assert f">{text}</text>" in drawn


def test_plots_without_rows_are_drawn_all_the_same() -> None:
    assert "<svg" in lengths([], x="", title="")
    assert "<svg" in bars([], x="", y="", series=["a"], title="")
    assert "<svg" in plot(Axis("", 5, 5), Axis(""), title="")
