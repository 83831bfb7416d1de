"""How far a difference between two predictions may be chance: a paired bootstrap over customers.

Customers are drawn with replacement, each with all that is known of them: the same draw judges all
predictions (paired), at all cutoffs (a customer who is there at three is drawn with all three).
The interval holds the middle 95 % of what the draws gave (Efron & Tibshirani 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from features.arrays import Floats, Ints
from model.evaluate.metrics import decile_starts

METRICS: Final = ("mae", "rmse", "r2", "gini", "spearman", "decile_wape", "top_decile", "bias")
# More is better: 1; less is better: -1; neither, but distance from 1 that counts: 0.
_BETTER: Final = {
    "mae": -1, "rmse": -1, "r2": 1, "gini": 1, "spearman": 1, "decile_wape": -1, "top_decile": 1,
}  # fmt: skip
_INTERVAL: Final = (2.5, 97.5)
RESAMPLES: Final = 500
SEED: Final = 20_240_229


class Difference(msgspec.Struct, frozen=True):
    """The model's metric less a baseline's, and the interval in which 95 % of resamples have it.

    `better`: True where the interval lies on the good side of 0 as a whole, False where on the bad
    side, None where chance may explain it (and of the bias, which has no good side).
    """

    value: float
    low: float
    high: float
    better: bool | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Customers at one cutoff, their actual values, and the predictions by name; shape (n,)."""

    users: Sequence[str]
    actual: Floats
    predictions: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Differences:
    """Of one prediction against each of the others by metric: at each cutoff, and of the means of
    all cutoffs. Where a metric is not defined it is left out."""

    overall: dict[str, dict[str, Difference]]
    by_cutoff: list[dict[str, dict[str, Difference]]]


def differences(
    cutoffs: Sequence[Predictions], name: str, resamples: int = RESAMPLES, seed: int = SEED
) -> Differences:
    """The differences of the prediction `name`; the same for the same seed."""
    number = {user: i for i, user in enumerate(sorted({u for c in cutoffs for u in c.users}))}
    where = [np.array([number[user] for user in cutoff.users]) for cutoff in cutoffs]
    ranked = [
        {
            which: SortedPredictions(c.actual, predicted)
            for which, predicted in c.predictions.items()
        }
        for c in cutoffs
    ]
    rng = np.random.default_rng(seed)
    # The first is of all customers once: what was observed.
    draws = [_metrics(ranked, [np.ones(len(at), np.int64) for at in where])]
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(len(number), size=len(number)), minlength=len(number))
        draws.append(_metrics(ranked, [drawn[at] for at in where]))
    values = {which: np.array([draw[which] for draw in draws]) for which in draws[0]}
    others = [which for which in values if which != name]
    return Differences(
        overall={
            # A baseline that is missing at a cutoff has no mean over all of them.
            which: _told((values[name] - values[which]).mean(axis=1))
            for which in others
            if not np.isnan(values[which][0]).all(axis=1).any()
        },
        by_cutoff=[
            {
                which: _told(values[name][:, at] - values[which][:, at])
                for which in others
                if which in cutoff.predictions
            }
            for at, cutoff in enumerate(cutoffs)
        ],
    )


def _metrics(
    ranked: Sequence[Mapping[str, SortedPredictions]], counts: Sequence[Ints]
) -> dict[str, list[list[float]]]:
    """Of each prediction, the metrics at each cutoff; not a number where there are none."""
    names = list(dict.fromkeys(name for at in ranked for name in at))
    missing = [np.nan] * len(METRICS)
    return {
        name: [
            at[name].metrics(count) if name in at and count.any() else missing
            for at, count in zip(ranked, counts, strict=True)
        ]
        for name in names
    }


def _told(draws: Floats) -> dict[str, Difference]:
    """The differences of metrics, from draws of shape (1 + resamples, metrics)."""
    told = {}
    for metric, column in zip(METRICS, draws.T, strict=True):
        drawn = column[1:][np.isfinite(column[1:])]
        if not np.isfinite(column[0]) or not len(drawn):
            continue
        low, high = (float(edge) for edge in np.percentile(drawn, _INTERVAL))
        sign = _BETTER.get(metric, 0)
        better = None if not sign or low <= 0.0 <= high else (low > 0.0) == (sign > 0)
        told[metric] = Difference(float(column[0]), low, high, better)
    return told


class SortedPredictions:
    """A prediction of n customers, sorted once, so that no resample has to be sorted.

    `metrics(counts)` are those of `model.evaluate.metrics` on the customers repeated `counts` times
    each.
    """

    def __init__(self, actual: Floats, predicted: Floats) -> None:
        self._by_prediction = np.argsort(predicted, kind="stable")
        self._y, self._p = actual[self._by_prediction], predicted[self._by_prediction]
        self._ties = _starts(self._p)
        by_actual = np.argsort(self._y, kind="stable")
        self._by_actual, self._actual_ties = by_actual, _starts(self._y[by_actual])

    def metrics(self, counts: Ints) -> list[float]:
        """In the order of METRICS; not a number where one is not defined."""
        y, p, w = self._y, self._p, counts[self._by_prediction].astype(np.float64)
        n, revenue = float(w.sum()), float(w @ y)
        error = p - y
        mse = float(w @ error**2) / n
        rank_p = _mid_ranks(w, self._ties)
        rank_y = np.empty(len(y))
        rank_y[self._by_actual] = _mid_ranks(w[self._by_actual], self._actual_ties)
        centred = y - revenue / n
        variance, best = float(w @ centred**2) / n, float((w * centred) @ rank_y)
        wape, top = self._by_tenths(w)
        return [
            float(w @ np.abs(error)) / n,
            mse**0.5,
            1.0 - _ratio(mse, variance),
            _ratio(float((w * centred) @ rank_p), best),
            _correlation(w, rank_p, rank_y),
            _ratio(wape, revenue),
            _ratio(top, revenue),
            _ratio(float(w @ p), revenue),
        ]

    def _by_tenths(self, w: Floats) -> tuple[float, float]:
        """Absolute errors of the tenths' sums, and the actual value of the highest tenth."""
        weight = np.add.reduceat(w, self._ties)
        value = np.add.reduceat(w * self._y, self._ties)
        times = weight.astype(np.int64)
        y = np.repeat(value / np.where(weight > 0, weight, 1.0), times)
        p = np.repeat(self._p[self._ties], times)
        wape = float(np.abs(np.add.reduceat(p - y, decile_starts(len(y)))).sum())
        return wape, float(y[-max(1, round(len(y) / 10)) :].sum())


def _starts(ascending: Floats) -> Ints:
    """Where each group of equal values begins."""
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))


def _mid_ranks(w: Floats, ties: Ints) -> Floats:
    """Ranks of sorted values that count `w` times each; the mean rank where they tie."""
    weight = np.add.reduceat(w, ties)
    rank = np.cumsum(weight) - (weight - 1.0) / 2.0
    return np.repeat(rank, np.diff(np.append(ties, len(w))))


def _correlation(w: Floats, a: Floats, b: Floats) -> float:
    n = w.sum()
    a, b = a - (w @ a) / n, b - (w @ b) / n
    spread = float((w @ a**2) * (w @ b**2))
    return float((w * a) @ b) / spread**0.5 if spread > 0 else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else np.nan
