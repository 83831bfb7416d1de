"""What the rule and the budget are held against: simple rules that warn as early, and call lists
sorted by something simpler; the rule at other thresholds. All are read off the panel; definitions
in `docs/warnings.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from features.arrays import Bools, Floats
from model.backtest.panel import CallList, Panel, Quality, first_of_each, quality_of, ranking
from model.backtest.purchases import Period
from model.backtest.result import Baseline, Point, Suggestion
from model.decide.policy import Policy, Rules, Stake

TOP_SHARE: Final = 0.10
RANK_EVERY_DAYS: Final = 30

# Call lists that need no churn probability: what a retention team could sort by without one.
SIMPLE: Final = (
    "lowest CLV",
    "largest absolute loss",
    "largest drop",
    "highest CLV before",
    "highest spend",
    "longest silence",
    "most own gaps",
    "lowest P(alive)",
)


def silence_fires(
    panel: Panel, policy: Policy, rules: Rules, percentile: float, *, late: bool
) -> Bools:
    """On which rows the rule of silence fires, with another percentile of P(churn)."""
    sure = (
        panel.churn >= panel.threshold(percentile) if percentile else np.ones(len(panel.day), bool)
    )
    if late:
        sure |= panel.silent_days >= rules.late_silence_days
    fires: Bools = (
        sure & (panel.silent_days >= rules.min_silence_days) & (panel.drop >= policy.drop)
    )
    return fires


def baselines(panel: Panel, rule: Quality) -> list[Baseline]:
    """Simple rules at the rule's median lead: days of silence, own gaps, P(alive)."""
    if rule.median_lead_days is None:
        return []
    silent = panel.silent_days
    gap = panel.silences.median_gap[panel.silence]
    candidates: dict[str, tuple[Sequence[float], Callable[[float], Bools]]] = {
        "silent for D days": (
            range(1, panel.silences.horizon_days + 1),
            lambda days: silent >= days,
        ),
        "k x own median gap": (
            [round(k, 2) for k in np.geomspace(0.5, 12, 40)],
            lambda k: (gap > 0) & (silent >= k * gap),
        ),
        "P(alive) below p": (
            [round(p, 3) for p in np.linspace(0.05, 0.999, 40)],
            lambda p: panel.alive < p,
        ),
    }
    found = [
        _closest(
            [Baseline(name, float(t), quality_of(panel, fires(t))) for t in thresholds],
            rule.median_lead_days,
            lambda quality: quality.median_lead_days,
        )
        for name, (thresholds, fires) in candidates.items()
    ]
    return [baseline for baseline in found if baseline is not None]


def silent_as_early(panel: Panel, rule: Quality) -> Baseline | None:
    """Plain silence at the rule's mean lead: a median hides that a rule warns of some early and of
    others late, a mean does not."""
    if rule.mean_lead_days is None:
        return None
    silent = panel.silent_days
    days = range(1, panel.silences.horizon_days + 1)
    every = [Baseline("silent for D days", float(d), quality_of(panel, silent >= d)) for d in days]
    return _closest(every, rule.mean_lead_days, lambda quality: quality.mean_lead_days)


def _closest(
    candidates: Sequence[Baseline], lead_days: float, lead: Callable[[Quality], float | None]
) -> Baseline | None:
    """The one whose lead is closest; of equals the one that finds more."""
    found = [
        (abs(days - lead_days), -(one.quality.recall or 0.0), at)
        for at, one in enumerate(candidates)
        if (days := lead(one.quality)) is not None
    ]
    return candidates[min(found)[2]] if found else None


def rank_days(panel: Panel, from_day: int, until_day: int | None) -> range:
    """The days of the call lists: every 30 from `from_day` on, with H days of log after them."""
    end = panel.end_day - panel.silences.horizon_days + 1
    return range(from_day, end if until_day is None else min(end, until_day), RANK_EVERY_DAYS)


def budget_name(policy: Policy) -> str:
    """How the ranking of a policy's budget is called in a report."""
    return f"budget: P(churn)^{policy.budget_certainty:g} x {policy.budget_value}"


def budget_weight(panel: Panel, policy: Policy) -> Floats:
    """What the policy's budget would rank each row by: `model.decide.budget.weight`, of all at
    once."""
    stake = panel.spend if policy.budget_value == Stake.SPEND else panel.reference
    weighed: Floats = panel.churn**policy.budget_certainty * stake
    return weighed


def rankings(
    panel: Panel, policy: Policy, days: Sequence[int], among: Bools | None = None
) -> dict[str, CallList]:
    """What a call list of a tenth of the better half of the active customers (or of the rows
    `among`) is worth, on each of the days, by each order; first that of the policy's budget, last
    the simple ones."""
    gap = panel.silences.median_gap[panel.silence]
    silent = panel.silent_days.astype(np.float64)
    by: dict[str, Floats] = {
        budget_name(policy): budget_weight(panel, policy),
        "expected loss: P(churn) x CLV before": panel.churn * panel.reference,
        "P(churn) x spend": panel.churn * panel.spend,
        "P(churn)": panel.churn,
        "lowest CLV": -panel.clv,
        "largest absolute loss": panel.reference - panel.clv,
        "largest drop": panel.drop,
        "highest CLV before": panel.reference,
        "highest spend": panel.spend,
        "longest silence": silent,
        "most own gaps": np.where(gap > 0, silent / np.maximum(gap, 1.0), 0.0),
        "lowest P(alive)": -np.nan_to_num(panel.alive, nan=1.0),
    }
    return {name: ranking(panel, value, days, TOP_SHARE, among) for name, value in by.items()}


def points(panel: Panel, rules: Rules, period: Period, every: int) -> list[Point]:
    """The rule at every fifth percentile; the panel has one of `every` customers."""
    weeks = len(period.days) / 7
    found = []
    for late in (True, False):
        for percentile in range(0, 100, 5):
            fires = silence_fires(panel, rules.policy, rules, percentile, late=late)
            quality = quality_of(panel, fires)
            if not quality.judged:
                continue
            begun = panel.silences.counted[panel.silence]
            count = len(first_of_each(panel, fires & begun)) * every
            found.append(Point(float(percentile), late, count / weeks, quality))
    return found


def suggestions(points: Sequence[Point], rules: Rules, precision: float | None) -> list[Suggestion]:
    """Settings that keep to the policy's budget on average, and that reach a strict precision,
    where either is given."""
    found = []
    budget, horizon = rules.policy.budget_per_day, rules.horizon_days
    if budget is not None:
        within = [point for point in points if point.per_week <= 7 * budget]
        wish = f"at most {budget} warnings a day on average"
        found.append(_suggestion(wish, within, horizon))
    if precision is not None:
        reaching = [p for p in points if (p.quality.strict_precision or 0.0) >= precision]
        wish = f"strict precision of {precision:.0%} or more"
        found.append(_suggestion(wish, reaching, horizon))
    return found


def _suggestion(wish: str, fitting: Sequence[Point], horizon_days: int) -> Suggestion:
    """The fitting point that finds most, and of equals the more precise."""
    best = max(
        fitting,
        key=lambda p: (p.quality.value_captured or 0, p.quality.strict_precision or 0),
        default=None,
    )
    if best is None:
        return Suggestion(wish, {}, None)
    settings = {"CLV_CHURN_PERCENTILE": f"{best.churn_percentile:g}"}
    if not best.late:
        settings["CLV_LATE_SILENCE"] = str(horizon_days + 1)
    return Suggestion(wish, settings, best)
