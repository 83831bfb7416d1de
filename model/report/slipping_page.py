"""Who is slipping away, and how good such warnings were, as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from markupsafe import Markup

from features.events.money import currency_name
from model.backtest.baselines import SIMPLE
from model.backtest.result import Backtest, EndedWarnings
from model.report.format import money, share
from model.report.html import render
from model.report.plots import Axis, bars, lengths, plot
from model.report.slipping import OFFERS, SlippingList

SHOWN: Final = 100
"""Rows of the page; the CSV file has all."""


@dataclass(frozen=True, slots=True)
class ListFound:
    """A call list sorted `by` something: the share of it that then left, and the share of the
    money that left that was theirs."""

    by: str
    left: float
    money: float | None


@dataclass(frozen=True, slots=True)
class PastWarnings:
    """How good the warnings of a period were; `base_rate`: the share of silent days of customers
    worth a warning that no order followed within the horizon, None where that is not known.
    `lists`: ours first, then simple ones of the same length; `listed` says of whom."""

    months: Sequence[EndedWarnings]
    base_rate: float | None = None
    lists: Sequence[ListFound] = ()
    listed: str = ""

    @property
    def ended(self) -> int:
        """Warnings whose end is known."""
        return sum(month.ended for month in self.months)

    @property
    def strict_precision(self) -> float | None:
        """The share of them that no order followed within the horizon."""
        lost = sum(month.lost for month in self.months)
        return lost / self.ended if self.ended else None


def past_of(report: Backtest) -> PastWarnings:
    """What a backtest says of the warnings of its period, and of call lists."""
    names = [report.ranked_by, *SIMPLE]
    lists = [
        ListFound(
            "the warnings' own order" if name == report.ranked_by else name,
            left,
            list_.value_captured,
        )
        for name in names
        if (list_ := report.rankings.get(name)) and (left := list_.precision) is not None
    ]
    return PastWarnings(
        report.months,
        report.base_rate,
        lists,
        "Lists of a tenth of the better half of the active customers, made three times a horizon,"
        f" {report.start} to {report.end}.",
    )


def slipping_page(found: SlippingList, past: PastWarnings, csv_name: str = "") -> str:
    """The page, which needs no network. `csv_name` is the file beside it that has all rows."""
    customers = found.customers
    called = sum(1 for row in customers if row.offer == next(iter(OFFERS.values())))
    return render(
        "slipping.html",
        found=found,
        past=past,
        csv_name=csv_name,
        shown=customers[:SHOWN],
        at_stake=sum(row.at_stake for row in customers),
        called=called,
        stakes=_stakes(found) if len(customers) > 1 else None,
        endings=_endings(past) if past.ended else None,
        lists=_lists(past) if past.lists else None,
        list_rows=[
            (at == 0, [each.by, share(each.left), share(each.money)])
            for at, each in enumerate(past.lists)
        ],
        no_better=_no_better(past),
    )


def _stakes(found: SlippingList) -> Markup:
    sums = list(accumulate((row.at_stake for row in found.customers), initial=0.0))
    half = next(n for n, amount in enumerate(sums) if amount >= sums[-1] / 2)
    return plot(
        Axis("customers called, most at stake first", 0, len(sums) - 1),
        Axis(f"at stake with them, {currency_name(found.currency)}", 0, sums[-1] * 1.05 or 1.0),
        title=f"At stake by number of customers called: the first {half:,} of"
        f" {len(sums) - 1:,} have half of {money(sums[-1], found.currency)}"
        f" {currency_name(found.currency)}.",
        lines=[([(float(n), amount) for n, amount in enumerate(sums)], "")],
    )


def _endings(past: PastWarnings) -> Markup:
    return bars(
        [(each.month, [each.lost, each.recovered, each.kept]) for each in past.months],
        x="month of the warning",
        y="warnings",
        series=["lost", "recovered", "kept"],
        title=f"How {past.ended:,} warnings ended, by when they were sent: "
        f"{share(past.strict_precision, 0)} of them lost.",
    )


def _lists(past: PastWarnings) -> Markup:
    return lengths(
        [(each.by, each.left, 0.0, share(each.left)) for each in past.lists],
        x="share of the list that left",
        title="Share of call lists that left, by what they are sorted by: "
        + ", ".join(f"{each.by} {share(each.left)}" for each in past.lists),
    )


def _no_better(past: PastWarnings) -> list[str]:
    """The simple lists that find as many as ours."""
    return [each.by for each in past.lists[1:] if each.left >= past.lists[0].left]
