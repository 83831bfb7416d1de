"""What lies behind a model's metrics on a holdout, as numbers for plots and machines.

Importance and partial dependence are scikit-learn's (`sklearn.inspection`) on the CLV as the worker
would have it: rounded, bounded, in major units.
"""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import partial_dependence, permutation_importance

from features.arrays import Floats
from features.columns.catalog import feature_of
from features.events.money import minor_exponent
from model.decide.scoring import Scorer
from model.estimators.clv import ClvModel
from model.evaluate.holdout import Holdout
from model.evaluate.metrics import decile_starts, normalized_gini
from model.explain.groups import Mixer, consistent, groups_of
from model.explain.shapley import explain, typical

_ROWS: Final = 4_000
_REPEATS: Final = 5
_SEED: Final = 1
_CURVES: Final = 6
_GRID: Final = 24
_PLOTTED: Final = 60


class Importance(msgspec.Struct, frozen=True):
    """What the normalized Gini loses when a feature's values are shuffled among customers:
    the mean of the repeats and their standard deviation. What follows from the feature is worked
    out anew; features that only follow from others are not among them
    (`features.columns.catalog`)."""

    feature: str
    group: str
    drop: float
    deviation: float


class Dependence(msgspec.Struct, frozen=True):
    """The mean CLV, were everybody's feature at each of `at`; between its 5th and 95th percentile.
    Major units."""

    feature: str
    at: list[float]
    clv: list[float]


class GroupImportance(msgspec.Struct, frozen=True):
    """What the normalized Gini loses when a whole group is another customer's
    (`model.explain.groups`): the mean of the repeats and their standard deviation; and the mean
    size of the group's contribution to a CLV (`model.explain.shapley`), whichever sign, in major
    units."""

    group: str
    drop: float
    deviation: float
    contribution: float


class Residuals(msgspec.Struct, frozen=True):
    """Predicted less actual revenue of a tenth of the customers by prediction, major units: the
    10th, 25th, 50th, 75th and 90th percentile, and the mean."""

    predicted: float
    percentiles: tuple[float, float, float, float, float]
    mean: float


class Diagnostics(msgspec.Struct, frozen=True):
    """Of one holdout. `gain` has points (share of customers, share of revenue) of each ranking,
    from the highest prediction on; `best` is that of the revenue itself."""

    cutoff_day: int
    rows: int
    groups: list[GroupImportance]
    importance: list[Importance]
    dependence: list[Dependence]
    residuals: list[Residuals]
    gain: dict[str, list[tuple[float, float]]]


BEST: Final = "by what they brought"


def diagnostics(holdout: Holdout, model: ClvModel) -> Diagnostics:
    """The diagnostics of a model on a holdout; the same at every call."""
    X, y = _sample(holdout)
    names = model.feature_names
    found = _importance(model, X, y)
    top = [names.index(one.feature) for one in found if one.drop > 0][:_CURVES]
    return Diagnostics(
        cutoff_day=holdout.cutoff_day,
        rows=len(X),
        groups=_groups(model, X, y),
        importance=found,
        dependence=[curve for curve in (_dependence(model, X, i) for i in top) if curve],
        residuals=_residuals(holdout.actual, next(iter(holdout.predictions.values()))),
        gain=_gains(holdout),
    )


class _Clv(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """A model's CLV as scikit-learn's inspection asks for it."""

    def __init__(self, model: ClvModel) -> None:
        self.model = model

    def fit(self, X: Floats, y: Floats) -> Self:
        """Itself: it is fitted already."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Floats) -> Floats:
        """CLV in major units; 0 for a mixture of features for which a model has no number."""
        rows = consistent(np.asarray(X, np.float64), self.model.feature_names)
        with np.errstate(all="ignore"):
            return np.nan_to_num(self.model.clv(rows))


def _sample(holdout: Holdout) -> tuple[Floats, Floats]:
    """Rows and revenue of at most _ROWS customers, at random."""
    n = len(holdout.X)
    if n <= _ROWS:
        return holdout.X, holdout.actual
    at = np.sort(np.random.default_rng(_SEED).choice(n, _ROWS, replace=False))
    return holdout.X[at], holdout.actual[at]


def _ranks(estimator: _Clv, X: Floats, y: Floats) -> float:
    return normalized_gini(y, estimator.predict(X)) or 0.0


def _importance(model: ClvModel, X: Floats, y: Floats) -> list[Importance]:
    """All features, the most important first."""
    found: Any = permutation_importance(
        _Clv(model), X, y, scoring=_ranks, n_repeats=_REPEATS, random_state=_SEED
    )
    listed = [
        Importance(name, feature_of(name).group.value, float(mean), float(deviation))
        for name, mean, deviation in zip(
            model.feature_names, found.importances_mean, found.importances_std, strict=True
        )
        if not feature_of(name).derived
    ]
    return sorted(listed, key=lambda one: -one.drop)


def _dependence(model: ClvModel, X: Floats, feature: int) -> Dependence | None:
    """None where the feature is the same for nearly everybody."""
    low, high = np.percentile(X[:, feature], (5, 95))
    if not low < high:
        return None
    rows = X[:: max(1, len(X) // 1_000)]
    if len(np.unique(rows[:, feature])) < 2:
        return None
    # scikit-learn refuses a grid whose ends are equal, as they may be in every so many rows.
    try:
        curve: Any = partial_dependence(
            _Clv(model), rows, [feature], kind="average", method="brute", grid_resolution=_GRID
        )
    except ValueError:
        return None
    at, clv = curve["grid_values"][0], curve["average"][0]
    return Dependence(model.feature_names[feature], at.tolist(), clv.tolist())


def _groups(model: ClvModel, X: Floats, y: Floats) -> list[GroupImportance]:
    """The groups, the most important first."""
    estimator, groups = _Clv(model), groups_of(model.feature_names)
    best = _ranks(estimator, X, y)
    rng = np.random.default_rng(_SEED)
    drops: dict[str, list[float]] = {group.value: [] for group in groups}
    for _ in range(_REPEATS):
        mixer = Mixer.of(X, X[rng.permutation(len(X))], model.feature_names)
        for group in groups:
            (rows,) = mixer.rows([[other for other in groups if other is not group]])
            drops[group.value].append(best - _ranks(estimator, rows, y))
    sizes = _contributions(model, X)
    listed = [
        GroupImportance(group, float(np.mean(drop)), float(np.std(drop)), sizes[group])
        for group, drop in drops.items()
    ]
    return sorted(listed, key=lambda one: -one.drop)


def _contributions(model: ClvModel, X: Floats) -> dict[str, float]:
    """The mean size of each group's contribution, major units."""
    scorer = Scorer.of(model, typical=typical(X).tolist())
    sums: dict[str, int] = {}
    for explanation in explain(scorer, X):
        for group, minor in explanation.contributions:
            sums[group] = sums.get(group, 0) + abs(minor)
    unit = 10.0 ** minor_exponent(model.currency)
    return {group: size / unit / len(X) for group, size in sums.items()}


def _residuals(actual: Floats, predicted: Floats) -> list[Residuals]:
    order = np.argsort(predicted, kind="stable")
    tenths = np.split(order, decile_starts(len(order))[1:])
    found = []
    for tenth in tenths:
        error = predicted[tenth] - actual[tenth]
        a, b, c, d, e = (float(value) for value in np.percentile(error, (10, 25, 50, 75, 90)))
        mean = float(predicted[tenth].mean())
        found.append(Residuals(mean, (a, b, c, d, e), float(error.mean())))
    return found


def _gains(holdout: Holdout) -> dict[str, list[tuple[float, float]]]:
    """Empty where nobody brought anything."""
    if not holdout.actual.sum():
        return {}
    rankings = {**holdout.predictions, BEST: holdout.actual}
    return {name: gain(holdout.actual, ranking) for name, ranking in rankings.items()}


def gain(actual: Floats, ranking: Floats) -> list[tuple[float, float]]:
    """Share of the revenue that the highest-ranked share of the customers brought, from (0, 0) to
    (1, 1). Customers who tie share what they brought, so no order of theirs matters."""
    values, group, counts = np.unique(-ranking, return_inverse=True, return_counts=True)
    sums = np.bincount(group, weights=actual, minlength=len(values))
    x = np.append(0.0, np.cumsum(counts) / len(actual))
    y = np.append(0.0, np.cumsum(sums) / actual.sum())
    at = np.linspace(0.0, 1.0, _PLOTTED + 1)
    return list(zip(at.tolist(), np.interp(at, x, y).tolist(), strict=True))
