"""Poisson regression with signs: a feature that only silence lowers may only lower the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin

Floats: TypeAlias = NDArray[np.float64]

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

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fits rows X of shape (n, k), standardised, to targets y >= 0 of shape (n,)."""
        rows = np.asarray(X, dtype=np.float64)
        target = np.asarray(y, dtype=np.float64)
        weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
        weight = weight / weight.sum()
        k = rows.shape[1]

        def loss(parameters: Floats) -> tuple[float, Floats]:
            coefficients, linear = parameters[:k], rows @ parameters[:k] + parameters[k]
            mean = np.exp(np.minimum(linear, 300.0))  # a wild step of the search stays finite
            slope = weight * (mean - target)
            penalty = self.alpha / 2 * float(coefficients @ coefficients)
            gradient = np.append(rows.T @ slope + self.alpha * coefficients, slope.sum())
            return float(weight @ (mean - target * linear)) + penalty, gradient

        start = np.zeros(k + 1)
        start[k] = np.log(max(float(weight @ target), 1e-12))
        signs = (*(self.signs or ()), *(0,) * k)[:k]
        found = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[_BOUNDS[sign] for sign in signs] + [_FREE],
            options={"maxiter": 1_000, "ftol": 1e-11, "gtol": 1e-6},
        )
        self.coef_ = found.x[:k].copy()
        self.intercept_ = float(found.x[k])
        self.n_features_in_ = k
        self.n_iter_ = int(found.nit)
        return self

    def predict(self, X: ArrayLike) -> Any:
        """Expected targets of rows of shape (n, k), shape (n,)."""
        return np.exp(np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_)
