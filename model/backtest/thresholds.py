"""The rule at other thresholds of P(churn), and which of them gives what was wished for."""

from __future__ import annotations

from collections.abc import Sequence

from model.backtest.baselines import silence_fires
from model.backtest.panel import Panel, first_of_each, quality_of
from model.backtest.purchases import Period
from model.backtest.result import Point, Suggestion
from model.decide.policy import Rules


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
