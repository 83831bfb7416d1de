"""What a run has to say at its end: warnings by trigger and severity, the largest, how many
were right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from model.backtest.purchases import RealisedPrecision
from model.decide.policy import SEVERITIES
from streamer.pipeline.messages import ChurnWarning

_LARGEST: Final = 10
_FACTORS: Final = {
    "silence": "silence",
    "smaller_baskets": "smaller baskets",
    "lower_frequency": "fewer orders",
    "refunds": "refunds",
}


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
    figures: RunFigures, warnings: Sequence[ChurnWarning], earlier: int, seen: RealisedPrecision
) -> str:
    """The summary for a person, under 80 columns. `warnings` are those since the model's cutoff,
    `earlier` counts those before it."""
    blocks = [
        _head(figures, len(warnings), earlier),
        _by_trigger(warnings),
        _largest(warnings),
        _realised(seen, warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def _head(figures: RunFigures, warned: int, earlier: int) -> str:
    rate = figures.orders / figures.seconds if figures.seconds else 0.0
    return "\n".join(
        [
            f"{figures.orders:,} orders of {figures.customers:,} customers in"
            f" {figures.seconds:.1f} s: {rate:,.0f} orders/s, and {figures.scores:,}",
            f"scores published. The first order was applied {figures.first_order_s:.1f} s after the"
            " worker's start.",
            f"{warned:,} warnings since {figures.from_day}, the end of training; {earlier:,} before"
            " it are left out.",
        ]
    )


def _by_trigger(warnings: Sequence[ChurnWarning]) -> str:
    counts = Counter((warning.trigger, warning.severity) for warning in warnings)
    value: Counter[str] = Counter()
    for warning in warnings:
        value[warning.trigger] += round(warning.value_at_risk)
    lines = [f"{'Warnings by trigger':<22}{'high':>9}{'medium':>9}{'low':>9}{'value at risk':>20}"]
    for trigger in ("silence", "order", "refund"):
        cells = "".join(f"{counts[trigger, severity]:>9,}" for severity in SEVERITIES)
        lines.append(f"  {trigger:<20}{cells}{value[trigger]:>20,}")
    return "\n".join(lines)


def _largest(warnings: Sequence[ChurnWarning]) -> str:
    if not warnings:
        return ""
    ordered = sorted(warnings, key=lambda w: (-w.value_at_risk, w.user_id, w.as_of))[:_LARGEST]
    lines = [
        f"Largest values at risk, {ordered[0].currency}",
        f"  {'customer':<16}{'as of':<12}{'CLV':>9}{'was':>10}{'P(gone)':>9}  reasons",
    ]
    lines += [
        f"  {warning.user_id[:15]:<16}{warning.as_of[:10]:<12}{warning.clv:>9,.2f}"
        f"{warning.reference_clv:>10,.2f}{warning.churn_probability:>9.0%}  {_reasons(warning)}"
        for warning in ordered
    ]
    return "\n".join(lines)


def _reasons(warning: ChurnWarning) -> str:
    reason = warning.reasons[0]
    return f"{_FACTORS[reason.factor]} {reason.share:.0%}"


def _realised(seen: RealisedPrecision, warnings: Sequence[ChurnWarning]) -> str:
    if not seen.judged:
        return "Too few days after the warnings to tell who came back."
    horizon = warnings[0].horizon_days
    return "\n".join(
        [
            f"It is history, so we know: of {seen.judged:,} warned customers with {horizon} days"
            " of log left,",
            f"{seen.precision:.1%} did not order again within them. Base rate: {seen.base_rate:.1%}"
            " of all days of",
            "customers who were still active were followed by such a silence.",
        ]
    )
