"""What the rule and the budget are compared with: simple rules that warn as early, and call lists
sorted by something simpler; the rule at other thresholds. All are read off the panel; definitions
in `docs/warnings.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from features.arrays import Bools, Floats, Ints
from model.backtest.panel import (
    CallList,
    Panel,
    Quality,
    first_of_each,
    quality_of,
    ranking,
    rows_by_day,
)
from model.backtest.purchases import Period
from model.backtest.result import Baseline, MoneyPoint, Point, Suggestion
from model.decide.learned import EARLY, Learned
from model.decide.policy import Policy, Rules
from model.evaluate.learn import TOP_SHARE
from model.judge.budget import weights

LEAST_RECALL: Final = 0.95
_DRAWS: Final = 1_000
_SEED: Final = 1
# Fewer warnings than these say nothing of a rule.
_FEWEST: Final = 10
_MONEYS: Final = (0.0, 0.5, 2.0)

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
    "fewest orders",
)


def silence_fires(panel: Panel, rules: Rules, early: float | None = None) -> Bools:
    """On which rows the rule warns; with `early` by another share of it than the policy's."""
    horizon = rules.horizon_days
    threshold = panel.threshold(rules.policy, early)
    first = np.where(np.isneginf(threshold), -(-horizon // 2), -(-horizon // 3))
    sure = (panel.index >= threshold) | (panel.silent_days >= rules.late_silence_days)
    fires: Bools = sure & (panel.silent_days >= first) & (panel.clv < panel.reference)
    return fires


def baselines(panel: Panel, fires: Bools) -> list[Baseline]:
    """Simple rules that find nearly everybody, at the median and at the mean lead of the rule that
    `fires`: days of silence, own gaps, P(alive), each or silent for 5/6 of the horizon."""
    rule = quality_of(panel, fires)
    if rule.median_lead_days is None or rule.mean_lead_days is None:
        return []
    horizon = panel.silences.horizon_days
    silent, gap = panel.silent_days, panel.silences.median_gap[panel.silence]
    late = silent >= -(-5 * horizon // 6)
    gaps = np.where(gap > 0, silent / np.where(gap > 0, gap, 1.0), 0.0)
    candidates: dict[str, tuple[Sequence[float], Callable[[float], Bools]]] = {
        "silent for D days": (
            [float(days) for days in range(1, horizon + 1)],
            lambda days: np.asarray(silent >= days),
        ),
        "k own median gaps, or 5/6 H": (
            _levels(gaps[gaps > 0]),
            lambda k: np.asarray((gaps > 0) & (gaps >= k) | late),
        ),
        "P(alive) below p, or 5/6 H": (
            _levels(panel.alive[~np.isnan(panel.alive)]),
            lambda p: np.asarray((panel.alive <= p) | late),
        ),
    }
    found = []
    for name, (thresholds, fires_at) in candidates.items():
        every = [(t, quality_of(panel, fires_at(t))) for t in thresholds]
        able = [(t, q) for t, q in every if (q.recall or 0.0) >= LEAST_RECALL]
        for what, lead in (("median", rule.median_lead_days), ("mean", rule.mean_lead_days)):
            best = _closest(able, lead, what, max(1.0, horizon / 40))
            if best is not None:
                threshold, quality = best
                gain, low, high = _gain(panel, fires, fires_at(threshold))
                found.append(Baseline(name, threshold, what, quality, gain, low, high))
    return found


def few(panel: Panel, fires: Bools) -> list[Baseline]:
    """Simple rules as most shops have them, which find few, at the median lead of the rule that
    `fires`: own gaps and P(alive) alone. The rule is cut to as many warnings, those of the highest
    index."""
    lead = quality_of(panel, fires).median_lead_days
    gap = panel.silences.median_gap[panel.silence]
    gaps = np.where(gap > 0, panel.silent_days / np.where(gap > 0, gap, 1.0), 0.0)
    candidates: dict[str, tuple[Sequence[float], Callable[[float], Bools]]] = {
        "k own median gaps": (_levels(gaps[gaps > 0]), lambda k: np.asarray(gaps >= k)),
        "P(alive) below p": (
            _levels(panel.alive[~np.isnan(panel.alive)]),
            lambda p: np.asarray(panel.alive <= p),
        ),
    }
    rows = first_of_each(panel, fires)
    rows = rows[panel.silences.counted[panel.silence[rows]]]
    surest = rows[np.argsort(-panel.index[rows], kind="stable")]
    found = []
    for name, (thresholds, fires_at) in candidates.items():
        every = [(t, quality_of(panel, fires_at(t))) for t in thresholds]
        able = [(t, q) for t, q in every if q.judged >= _FEWEST and q.warnings < len(rows)]
        within = max(1.0, panel.silences.horizon_days / 40)
        best = None if lead is None else _closest(able, lead, "median", within)
        if best is not None:
            threshold, quality = best
            ours = np.zeros(len(fires), bool)
            ours[surest[: quality.warnings]] = True
            gain, low, high = _gain(panel, ours, fires_at(threshold))
            found.append(Baseline(name, threshold, "median", quality, gain, low, high, True))
    return found


def _levels(values: Floats) -> list[float]:
    """Thresholds that cut values into equal parts: most are where most values are."""
    if not len(values):
        return []
    return [float(level) for level in np.unique(np.quantile(values, np.linspace(0.0, 1.0, 101)))]


def _closest(
    candidates: Sequence[tuple[float, Quality]], lead_days: float, what: str, within_days: float
) -> tuple[float, Quality] | None:
    """The one whose lead is closest; of equals the more precise. None where all are farther off
    than `within_days`: a rule that warns later is more precise by that alone."""
    ranked = [
        (abs(days - lead_days), -(quality.strict_precision or 0.0), at)
        for at, (_, quality) in enumerate(candidates)
        if (days := getattr(quality, f"{what}_lead_days")) is not None
        and abs(days - lead_days) <= within_days
    ]
    return candidates[min(ranked)[2]] if ranked else None


def _gain(panel: Panel, one: Bools, other: Bools) -> tuple[float, float, float]:
    """By how much the strict precision of one rule is above that of another, and its 95 % interval
    by drawing customers again."""
    users = np.unique(np.asarray(panel.silences.user), return_inverse=True)[1]
    counts = np.concatenate([_counts(panel, fires, users) for fires in (one, other)])
    # Customers of whom the same is to be counted are counted together.
    alike, of_kind = np.unique(counts, axis=1, return_inverse=True)
    of_kind, size, kinds = of_kind.ravel(), counts.shape[1], alike.shape[1]
    draws = np.random.default_rng(_SEED)
    drawn = [
        np.bincount(of_kind[draws.integers(0, size, size)], minlength=kinds) for _ in range(_DRAWS)
    ]
    low, high = np.percentile(_difference(alike @ np.array(drawn).T), [2.5, 97.5])
    return float(_difference(counts.sum(axis=1))), float(low), float(high)


def _counts(panel: Panel, fires: Bools, users: Ints) -> Floats:
    """Warnings that can be judged and right ones of each customer with silences, shape (2, n)."""
    rows = first_of_each(panel, fires)
    rows = rows[panel.judged[rows]]
    customer = users[panel.silence[rows]]
    size = int(users.max()) + 1
    return np.stack(
        [np.bincount(customer, minlength=size), np.bincount(customer, panel.strict[rows], size)]
    )


def _difference(counts: Floats) -> Floats:
    """Of judged and right ones of two rules, shape (4, ...)."""
    first, second = (counts[at + 1] / np.maximum(counts[at], 1) for at in (0, 2))
    return np.asarray(first - second)


def rank_days(panel: Panel, from_day: int, until_day: int | None) -> range:
    """The days of the call lists: from `from_day` on, three a horizon, with H days of log after
    them."""
    horizon = panel.silences.horizon_days
    end = panel.end_day - horizon + 1
    last = end if until_day is None else min(end, until_day)
    return range(from_day, last, max(1, horizon // 3))


def budget_name(policy: Policy) -> str:
    """How the ranking of a policy's budget is called in a report."""
    weight = "learned weight x" if policy.money is None else f"{policy.money:g}"
    return f"budget: P(churn) x (1 + {weight} spend)"


def rankings(
    panel: Panel, policy: Policy, days: Sequence[int], among: Bools | None = None
) -> dict[str, CallList]:
    """What a call list of a tenth of the better half of the active customers (or of the rows
    `among`) is worth, on each of the days, by each order; first that of the policy's budget, last
    the simple ones."""
    gap = panel.silences.median_gap[panel.silence]
    silent = panel.silent_days.astype(np.float64)
    by: dict[str, Floats] = {
        budget_name(policy): budget_weight(panel, policy, days, among),
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
        "fewest orders": -panel.silences.orders[panel.silence].astype(np.float64),
    }
    return {name: ranking(panel, value, days, TOP_SHARE, among) for name, value in by.items()}


def budget_weight(
    panel: Panel, policy: Policy, days: Sequence[int], among: Bools | None = None
) -> Floats:
    """What the policy's budget would rank each row of the days by, against the others of it."""
    weight = np.zeros(len(panel.day))
    for rows in rows_by_day(panel, days, among):
        money = panel.learned[panel.model[rows[0]]].money(policy)
        weight[rows] = weights(panel.churn[rows].tolist(), panel.spend[rows].tolist(), money)
    return weight


def moneys(panel: Panel, policy: Policy, days: Sequence[int]) -> list[MoneyPoint]:
    """The budget's call lists at several weights of money."""
    found = []
    for money in _MONEYS:
        weight = budget_weight(panel, replace(policy, money=money), days)
        found.append(MoneyPoint(money, ranking(panel, weight, days, TOP_SHARE)))
    return found


def points(panel: Panel, rules: Rules, period: Period, every: int) -> list[Point]:
    """The rule at every threshold that was learnt; the panel has one of `every` customers."""
    weeks = len(period.days) / 7
    found = []
    for early in EARLY:
        fires = silence_fires(panel, rules, early)
        quality = quality_of(panel, fires)
        if not quality.judged:
            continue
        begun = panel.silences.counted[panel.silence]
        count = len(first_of_each(panel, fires & begun)) * every
        found.append(Point(early, count / weeks, quality))
    return found


def suggestions(
    points: Sequence[Point], rules: Rules, learned: Learned, precision: float | None
) -> list[Suggestion]:
    """Settings that keep to the policy's budget on average, and that reach a strict precision,
    where either is given."""
    found = []
    budget = rules.policy.budget_per_day
    if budget is not None:
        within = [point for point in points if point.per_week <= 7 * budget]
        settings = {"CLV_BUDGET_PER_DAY": str(budget)}
        found.append(_suggestion(f"at most {budget} warnings a day", within, settings))
    if precision is not None:
        wish = f"strict precision of {precision:.0%} or more"
        reaching = [p for p in points if (p.quality.strict_precision or 0.0) >= precision]
        # What the shop's past promises for this precision may keep it here too.
        asked = learned.chosen(replace(rules.policy, precision=precision))
        kept = [p for p in reaching if asked and p.early == asked.early]
        if kept and asked and asked.precision >= precision:
            found.append(Suggestion(wish, {"CLV_PRECISION": f"{precision:g}"}, kept[0]))
        else:
            found.append(_suggestion(wish, reaching, {}))
    return found


def _suggestion(wish: str, fitting: Sequence[Point], settings: dict[str, str]) -> Suggestion:
    """The fitting point that finds most, and of equals the one that warns earliest."""
    best = max(fitting, key=lambda p: (p.quality.value_captured or 0, p.early), default=None)
    if best is None:
        return Suggestion(wish, settings, None)
    return Suggestion(wish, {**settings, "CLV_EARLY": f"{best.early:g}"}, best)
