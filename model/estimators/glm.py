"""Regressions on logarithms of features whose sums come out the same in any batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.pipeline import Pipeline

from features.arrays import Floats, in_turn
from model.estimators.base import Examples
from model.estimators.optimum import minimum, settled
from model.estimators.transform import (
    Scale,
    SignedLogClip,
    preparation,
    signed_log,
    smooth_columns,
    smooth_rows,
)

# Value, first and second derivatives by the linear predictors, both of shape (n,).
_RowLoss: TypeAlias = Callable[[Floats], tuple[float, Floats, Floats]]


class SignedPoissonRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """Poisson regression with log link and an L2 penalty, whose coefficients may have a sign.

    `signs`: for each feature 1 (coefficient >= 0), -1 (<= 0) or 0 (free); those beyond it are free,
    and None leaves all free.
    Without signs the optimum is that of scikit-learn's PoissonRegressor of the same `alpha`:
    weighted mean of half the unit deviance, plus alpha / 2 times the squared coefficients.
    After fit: `coef_` of shape (k,), `intercept_`.
    """

    def __init__(self, alpha: float = 1.0, signs: Sequence[int] | None = None) -> None:
        self.alpha = alpha
        self.signs = signs

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        offset: ArrayLike | None = None,
    ) -> Self:
        """Fits rows X of shape (n, k), standardised, to targets y >= 0 of shape (n,).

        `offset`, shape (n,), is added to the logarithm of the mean as it is: the regression then
        corrects a prediction whose logarithm it is, and shrinks towards it.
        """
        rows, target, weight = _arrays(X, y, sample_weight)
        given = np.zeros(len(rows)) if offset is None else np.asarray(offset, dtype=np.float64)

        def loss(linear: Floats) -> tuple[float, Floats, Floats]:
            total = linear + given
            mean = np.exp(np.minimum(total, 300.0))  # a wild step of the search stays finite
            value = float(weight @ (mean - target * total))
            return value, weight * (mean - target), weight * mean

        start = max(float(weight @ target), 1e-12) / max(float(weight @ np.exp(given)), 1e-12)
        self.coef_, self.intercept_ = _fitted(
            loss, rows, self.alpha, self.signs, float(np.log(start))
        )
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, X: ArrayLike) -> Any:
        """Expected targets of rows of shape (n, k), shape (n,)."""
        return np.exp(np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_)


class SignedLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Logistic regression of two classes with an L2 penalty, whose coefficients may have a sign.

    Without signs the optimum is that of scikit-learn's LogisticRegression of the same `C`.
    After fit: `coef_` of shape (k,), `intercept_`, `classes_`.
    """

    def __init__(self, C: float = 1.0, signs: Sequence[int] | None = None) -> None:
        self.C = C
        self.signs = signs

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fits rows X of shape (n, k), standardised, to labels y of shape (n,), False or True."""
        rows, target, weight = _arrays(X, y, sample_weight)
        total = len(rows) if sample_weight is None else float(np.sum(sample_weight))

        def loss(linear: Floats) -> tuple[float, Floats, Floats]:
            chance = 1.0 / (1.0 + np.exp(-np.clip(linear, -700.0, 700.0)))
            value = weight @ (np.logaddexp(0.0, linear) - target * linear)
            return float(value), weight * (chance - target), weight * chance * (1.0 - chance)

        share = min(max(float(weight @ target), 1e-6), 1.0 - 1e-6)
        self.coef_, self.intercept_ = _fitted(
            loss, rows, 1.0 / (self.C * total), self.signs, float(np.log(share / (1.0 - share)))
        )
        self.classes_ = np.array([False, True])
        self.n_features_in_ = rows.shape[1]
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """P(False) and P(True) of rows of shape (n, k), shape (n, 2)."""
        linear = np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_
        chance = 1.0 / (1.0 + np.exp(-np.clip(linear, -700.0, 700.0)))
        return np.column_stack((1.0 - chance, chance))

    def predict(self, X: ArrayLike) -> Any:
        """The likelier label, shape (n,)."""
        return self.predict_proba(X)[:, 1] > 0.5


def _arrays(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Rows, targets, and weights that sum up to 1."""
    rows = np.asarray(X, dtype=np.float64)
    weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
    return rows, np.asarray(y, dtype=np.float64), weight / weight.sum()


def _fitted(
    loss: _RowLoss, rows: Floats, alpha: float, signs: Sequence[int] | None, intercept: float
) -> tuple[Floats, float]:
    """Coefficients and intercept that minimise `loss` of the linear predictor plus alpha / 2 times
    the squared coefficients."""
    k = rows.shape[1]
    beside = np.column_stack((rows, np.ones(len(rows))))
    penalty = np.append(np.full(k, alpha), 0.0)

    def penalised(parameters: Floats) -> tuple[float, Floats]:
        value, slope, _ = loss(beside @ parameters)
        value += float(penalty @ parameters**2) / 2.0
        return value, beside.T @ slope + penalty * parameters

    def curvature(parameters: Floats) -> Floats:
        _, _, second = loss(beside @ parameters)
        return (beside.T * second) @ beside + np.diag(penalty)

    signed = np.array([*[*(signs or ()), *[0] * k][:k], 0])
    bounds = np.where(signed > 0, 0.0, -np.inf), np.where(signed < 0, 0.0, np.inf)
    found = settled(minimum(penalised, np.append(np.zeros(k), intercept), bounds, curvature))
    return found[:k].copy(), float(found[k])


LOGISTIC_C: Final = 1.0
# The largest exponent of which exp is finite, nearly.
_MOST: Final = 700.0
_STEPS: Final = ("range", "scale", "regression")


class LinearSum:
    """bias + weights · prepared features, of a fitted scikit-learn pipeline (preparation,
    standardisation, linear regression).

    Added up feature by feature, because BLAS sums in an order that depends on the batch. Several of
    the same features share them, prepared: see `sees`.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._prepare()

    def __call__(self, X: Floats) -> Floats:
        """Shape (n,) for rows of shape (n, k)."""
        return self.of(self.prepared(X))

    def prepared(self, X: Floats) -> Floats:
        """The features of rows of shape (n, k), each by itself in memory: shape (k, n)."""
        if self._limits is None:
            return np.ascontiguousarray(self.pipeline["range"].transform(X).T)
        return self._clipped(np.ascontiguousarray(X.T))

    def beside(self, first: Floats, prepared: Floats) -> Floats:
        """The same of one more column, shape (n,), before others that are prepared already."""
        return np.concatenate((self._clipped(first[None]), prepared))

    def of(self, prepared: Floats) -> Floats:
        """The sums of what is prepared, shape (n,)."""
        return in_turn(prepared, self._weights, self._bias)

    def sees(self, other: LinearSum, after: int = 0) -> bool:
        """Whether what another prepares is, behind the first so many, what this one does."""
        if self._limits is None or other._limits is None:
            return False
        both = zip(self._limits, other._limits, strict=True)
        return all(mine[after:].tobytes() == its.tobytes() for mine, its in both)

    def _clipped(self, columns: Floats) -> Floats:
        """What a SignedLogClip makes of the first columns, without its checks."""
        assert self._limits is not None
        low, high = self._limits
        logs = signed_log(columns)
        np.maximum(logs, low[: len(logs)], out=logs)
        return np.minimum(logs, high[: len(logs)], out=logs)

    def _prepare(self) -> None:
        """Weights and bias on the prepared features: standardisation multiplied in."""
        scaler, regression = self.pipeline["scale"], self.pipeline["regression"]
        limits = self.pipeline["range"]
        self._limits: tuple[Floats, Floats] | None = None
        if isinstance(limits, SignedLogClip):
            self._limits = limits.low_[:, None], limits.high_[:, None]
        self._weights = np.ravel(regression.coef_) / scaler.scale_
        intercept = float(np.ravel(regression.intercept_)[0])
        self._bias = intercept - float(np.sum(self._weights * scaler.mean_))

    def __getstate__(self) -> dict[str, Any]:
        return {"pipeline": self.pipeline}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.pipeline = state["pipeline"]
        self._prepare()


class PoissonValue:
    """A ValueModel: Poisson regression with log link, coefficients signed as the examples say.

    After fit: `linear`, the logarithm of the value in units of `unit` major ones.
    """

    linear: LinearSum
    unit: float

    def __init__(self, alpha: float) -> None:
        """`alpha`: strength of the L2 penalty, for a target of mean 1."""
        self.alpha = alpha

    def fit(self, examples: Examples, offset: Floats | None = None) -> Self:
        """`offset`, shape (n,): logarithm of a value in major units that is to be corrected."""
        pipeline = _pipeline(examples, SignedPoissonRegressor(self.alpha, examples.signs))
        self.unit = examples.mean_revenue if offset is None else 1.0
        pipeline.fit(
            examples.X,
            examples.revenue / examples.mean_revenue,
            regression__sample_weight=examples.weight,
            regression__offset=None if offset is None else offset - np.log(examples.mean_revenue),
        )
        self.linear = LinearSum(pipeline)
        return self

    def log_value(self, X: Floats) -> Floats:
        """Logarithm of the value in major units, shape (n,); of the factor that corrects, where
        there was an offset."""
        return self.log_of(self.linear.prepared(X))

    def log_of(self, prepared: Floats) -> Floats:
        """`log_value` of what `linear` prepares."""
        return np.asarray(np.minimum(self.linear.of(prepared) + np.log(self.unit), _MOST))

    def predict(self, X: Floats) -> Floats:
        return np.asarray(np.exp(self.log_value(X)))


class RevenueChance:
    """P(any revenue in the horizon) by a logistic regression, coefficients signed as those of a
    value. After fit: `linear`, the logarithm of the odds; None where all rows had some."""

    linear: LinearSum | None

    def __init__(self, C: float = LOGISTIC_C) -> None:
        self.C = C

    def fit(self, examples: Examples) -> Self:
        some = examples.revenue > 0
        self.linear = None
        if not some.all():
            pipeline = _pipeline(examples, SignedLogisticRegression(self.C, examples.signs))
            pipeline.fit(examples.X, some, regression__sample_weight=examples.weight)
            self.linear = LinearSum(pipeline)
        return self

    def log_chance(self, X: Floats) -> Floats:
        """Logarithm of the probability, shape (n,)."""
        return np.zeros(len(X)) if self.linear is None else self.log_of(self.linear.prepared(X))

    def log_of(self, prepared: Floats) -> Floats:
        """`log_chance` of what `linear` prepares."""
        assert self.linear is not None
        odds = np.clip(-self.linear.of(prepared), -_MOST, _MOST)
        return np.asarray(-np.log1p(np.exp(odds)))


class LogisticChance:
    """A ChanceModel: logistic regression on what moves one way in silence, with coefficients signed
    against those of a value: the probability never falls while a customer is silent.

    After fit: `linear`, the logarithm of the odds, of the columns `kept`.
    """

    linear: LinearSum
    kept: list[int]
    floored: list[int]

    def __init__(self, C: float = LOGISTIC_C) -> None:
        self.C = C

    def fit(self, examples: Examples) -> Self:
        self.kept, self.floored = smooth_columns(examples.columns)
        smooth = examples.of_columns(self.kept, smooth_rows(examples.X, self.kept, self.floored))
        against = [-sign for sign in smooth.signs]
        pipeline = _pipeline(smooth, SignedLogisticRegression(self.C, against))
        pipeline.fit(smooth.X, smooth.churned, regression__sample_weight=smooth.weight)
        self.linear = LinearSum(pipeline)
        return self

    def predict(self, X: Floats) -> Floats:
        odds = self.linear(smooth_rows(X, self.kept, self.floored))
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds, -_MOST, _MOST))))


def _pipeline(examples: Examples, regression: Any) -> Pipeline:
    steps = (preparation(examples.features, examples.attributes), Scale(), regression)
    return Pipeline(list(zip(_STEPS, steps, strict=True)))
