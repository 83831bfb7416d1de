"""Two questions instead of one: will there be revenue at all, and if so, how much?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin, clone

from features.arrays import Floats


class HurdleRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """P(y > 0) of a classifier times the mean of y where it is positive, of a regressor.

    `signs` (one of 1, -1, 0 a column, None: all free) hold for both, where they know
    `monotonic_cst`. After fit: `chance_` and `amount_`; `chance_` is None where all or no rows
    are positive, `amount_` where none is.
    """

    def __init__(self, classifier: Any, regressor: Any, signs: Sequence[int] | None = None) -> None:
        self.classifier = classifier
        self.regressor = regressor
        self.signs = signs

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fits rows X of shape (n, k) to targets y >= 0 of shape (n,)."""
        rows, target = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        weight = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
        some = target > 0
        self.chance_ = self.amount_ = None
        if some.any():
            self.amount_ = self._part(self.regressor)
            self.amount_.fit(rows[some], target[some], sample_weight=weight[some])
        if some.any() and not some.all():
            self.chance_ = self._part(self.classifier)
            self.chance_.fit(rows, some, sample_weight=weight)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Expected targets of rows of shape (n, k), shape (n,)."""
        rows = np.asarray(X, dtype=np.float64)
        if self.amount_ is None:
            return np.zeros(len(rows))
        amount = np.asarray(self.amount_.predict(rows), dtype=np.float64)
        if self.chance_ is None:
            return amount
        return np.asarray(self.chance_.predict_proba(rows)[:, 1] * amount)

    def _part(self, estimator: Any) -> Any:
        part = clone(estimator)
        if self.signs is not None and "monotonic_cst" in part.get_params():
            part.set_params(monotonic_cst=list(self.signs))
        return part
