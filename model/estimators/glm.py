"""Regressions on logarithms of features whose sums come out the same in any batch."""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from features.arrays import Floats
from model.estimators.base import Examples
from model.estimators.regression import SignedLogisticRegression, SignedPoissonRegressor
from model.estimators.transform import preparation, smooth_columns, smooth_rows

LOGISTIC_C: Final = 1.0
# The largest exponent of which exp is finite, nearly.
_MOST: Final = 700.0
_STEPS: Final = ("range", "scale", "regression")


class LinearSum:
    """bias + weights · prepared features, of a fitted scikit-learn pipeline (preparation,
    standardisation, linear regression).

    Added up feature by feature, because BLAS sums in an order that depends on the batch.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._prepare()

    def __call__(self, X: Floats) -> Floats:
        """Shape (n,) for rows of shape (n, k)."""
        # One feature after another, each contiguous: element by element, as IEEE 754 has it.
        rows = self.pipeline["range"].transform(np.asfortranarray(X, dtype=np.float64))
        columns = np.ascontiguousarray(rows.T)
        columns *= self._weights[:, None]
        total = np.full(len(X), self._bias)
        for column in columns:
            total += column
        return total

    def _prepare(self) -> None:
        """Weights and bias on the prepared features: standardisation multiplied in."""
        scaler, regression = self.pipeline["scale"], self.pipeline["regression"]
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
        return np.asarray(np.minimum(self.linear(X) + np.log(self.unit), _MOST))

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
        if self.linear is None:
            return np.zeros(len(X))
        return np.asarray(-np.log1p(np.exp(np.clip(-self.linear(X), -_MOST, _MOST))))


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
    steps = (preparation(examples.features, examples.attributes), StandardScaler(), regression)
    return Pipeline(list(zip(_STEPS, steps, strict=True)))
