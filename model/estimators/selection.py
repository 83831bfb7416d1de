"""Which features a pipeline keeps: by correlation with the target, or by a forest's importance."""

from __future__ import annotations

from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.feature_selection import SelectKBest, SelectorMixin

from features.arrays import Floats

SelectBy: TypeAlias = Literal["kbest", "importance"]

_TREES: Final = 20
# A forest that ranks features needs no more rows than this.
_ROWS: Final = 20_000


def relevance(X: Floats, y: Floats) -> Floats:
    """Absolute rank-free correlation of each column with log(1 + y), shape (k,); 0 for a constant.

    Of the logarithm, so that the few largest customers do not choose for all.
    """
    columns = X - X.mean(axis=0)
    target = np.log1p(np.maximum(y, 0.0))
    target = target - target.mean()
    spread = np.sqrt((columns**2).sum(axis=0) * (target**2).sum())
    correlation = np.abs(columns.T @ target) / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.where(spread > 0, correlation, 0.0), dtype=np.float64)


class ImportanceSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """Keeps the `count` columns that a small forest of random splits finds most important.

    After fit: `importances_` of shape (k,), `kept_` a mask. The forest itself is thrown away.
    """

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        rows, target = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        every = -(-len(rows) // _ROWS)
        forest = ExtraTreesRegressor(_TREES, min_samples_leaf=5, max_depth=12, random_state=0)
        forest.fit(rows[::every], np.log1p(target[::every]))
        self.importances_ = forest.feature_importances_
        best = np.argsort(-self.importances_, kind="stable")[: self.count]
        self.kept_ = np.zeros(rows.shape[1], dtype=bool)
        self.kept_[best] = True
        self.n_features_in_ = rows.shape[1]
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        return self.kept_


def selector(count: int, by: SelectBy) -> Any:
    """The unfitted step that keeps the best `count` columns."""
    return SelectKBest(relevance, k=count) if by == "kbest" else ImportanceSelector(count)
