"""Regressions with signs: a feature that only grows in silence may only lower the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from features.arrays import Floats

_FREE: Final = (None, None)
_BOUNDS: Final = {0: _FREE, 1: (0.0, None), -1: (None, 0.0)}


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

        def loss(linear: Floats) -> tuple[float, Floats]:
            total = linear + given
            mean = np.exp(np.minimum(total, 300.0))  # a wild step of the search stays finite
            return float(weight @ (mean - target * total)), weight * (mean - target)

        start = max(float(weight @ target), 1e-12) / max(float(weight @ np.exp(given)), 1e-12)
        self.coef_, self.intercept_, self.n_iter_ = _fitted(
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

        def loss(linear: Floats) -> tuple[float, Floats]:
            chance = 1.0 / (1.0 + np.exp(-np.clip(linear, -700.0, 700.0)))
            value = weight @ (np.logaddexp(0.0, linear) - target * linear)
            return float(value), weight * (chance - target)

        share = min(max(float(weight @ target), 1e-6), 1.0 - 1e-6)
        self.coef_, self.intercept_, self.n_iter_ = _fitted(
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
    loss: Callable[[Floats], tuple[float, Floats]],
    rows: Floats,
    alpha: float,
    signs: Sequence[int] | None,
    intercept: float,
) -> tuple[Floats, float, int]:
    """Coefficients, intercept and number of steps that minimise `loss` of the linear predictor
    (which returns its slope as well) plus alpha / 2 times the squared coefficients."""
    k = rows.shape[1]

    def penalised(parameters: Floats) -> tuple[float, Floats]:
        coefficients = parameters[:k]
        value, slope = loss(rows @ coefficients + parameters[k])
        penalty = alpha / 2 * float(coefficients @ coefficients)
        gradient = np.append(rows.T @ slope + alpha * coefficients, slope.sum())
        return value + penalty, gradient

    start = np.zeros(k + 1)
    start[k] = intercept
    signed = (*(signs or ()), *(0,) * k)[:k]
    found = minimize(
        penalised,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[_BOUNDS[sign] for sign in signed] + [_FREE],
        options={"maxiter": 1_000, "ftol": 1e-11, "gtol": 1e-6},
    )
    return found.x[:k].copy(), float(found.x[k]), int(found.nit)
