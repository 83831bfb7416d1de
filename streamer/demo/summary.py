"""What a run has to say at its end: how many warnings, and the call list they would have made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from features.events.money import currency_name, minor_exponent
from model.decide.policy import SEVERITIES
from streamer.demo.call_list import CallLists
from streamer.pipeline.messages import ChurnWarning

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What was measured of a run; `from_day` as an ISO date, durations in seconds."""

    orders: int
    customers: int
    from_day: str
    seconds: float
    first_order_s: float
    scores: int


def summary(
    figures: RunFigures, warnings: Sequence[ChurnWarning], earlier: int, lists: CallLists | None
) -> str:
    """The summary for a person, under 80 columns. `warnings` are those since the model's cutoff,
    `earlier` counts those before it; `lists` is None where no day can be looked back on."""
    parts = [_head(figures, warnings, earlier)]
    if lists:
        parts += [_called(lists), _compared(lists)]
    else:
        parts.append("Too few days after the warnings to tell who came back.")
    return "\n\n".join(parts)


def _head(figures: RunFigures, warnings: Sequence[ChurnWarning], earlier: int) -> str:
    rate = figures.orders / figures.seconds if figures.seconds else 0.0
    counts = Counter(warning.severity for warning in warnings)
    by_severity = ", ".join(f"{counts[severity]:,} {severity}" for severity in SEVERITIES)
    return "\n".join(
        [
            f"{figures.orders:,} orders of {figures.customers:,} customers in"
            f" {figures.seconds:.1f} s: {rate:,.0f} orders/s, and {figures.scores:,}",
            f"scores published. The first order was applied {figures.first_order_s:.1f} s after the"
            " worker's start.",
            f"{len(warnings):,} warnings since {figures.from_day}, the end of training:",
            f"{by_severity} severity; {earlier:,} before it are left out.",
        ]
    )


def _called(lists: CallLists) -> str:
    currency = lists.warnings[lists.ours.customers[0]].currency
    users = lists.ours.customers
    lines = [
        f"Whom to call on {lists.day}: the first {len(users[:_SHOWN])} of {len(users):,}"
        f" (amounts in {currency_name(currency)})",
        f"  {'customer':<16}{'warned on':<12}{'CLV':>9}{'was':>10}{'P(gone)':>9}  what happened",
    ]
    for user in users[:_SHOWN]:
        warning = lists.warnings[user]
        lines.append(
            f"  {user[:15]:<16}{warning.as_of[:10]:<12}{warning.clv:>9,.2f}"
            f"{warning.reference_clv:>10,.2f}{warning.churn_probability:>9.0%}"
            f"  {'left' if user in lists.ours.left else 'ordered again'}"
        )
    return "\n".join(lines)


def _compared(lists: CallLists) -> str:
    first = lists.warnings[lists.ours.customers[0]]
    scale = 10 ** minor_exponent(first.currency)
    lines = [
        f"It is history, so we know who left: no order for {first.horizon_days} days from then.",
        f"  {f'{len(lists.ours.customers):,} customers by':<34}{'left':>9}"
        f"{f'had spent, {currency_name(first.currency)}':>20}",
    ]
    lines += [
        f"  {each.by:<34}{len(each.left):>9,}{round(each.lost_minor / scale):>20,}"
        for each in (lists.ours, *lists.simple)
    ]
    best = max(lists.simple, key=lambda other: len(other.left))
    lines.append(
        f"Left by the warnings: {len(lists.ours.left):,}; by the best simple sort"
        f" ({best.by}): {len(best.left):,}."
    )
    return "\n".join(lines)
