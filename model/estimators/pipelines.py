"""Ordinary scikit-learn pipelines as value models: prepare, scale, select, rotate, regress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest, SelectorMixin
from sklearn.pipeline import Pipeline

from features.arrays import Floats
from model.estimators.base import Examples
from model.estimators.optimum import settled, significant
from model.estimators.transform import Scale, preparation

# Left by fitting, of no use for predicting, and nothing that a pickle should have to name.
_SCAFFOLDING: Final = (
    *("_optimizer", "_random_state", "_feature_subsample_rng", "n_iter_", "noise_variance_"),
    *("explained_variance_", "explained_variance_ratio_", "singular_values_"),
)
# Of linear regressions and rotations.
_NUMBERS: Final = ("coef_", "intercept_", "components_", "mean_")
# Fewer than the 255 bins of a histogram, so that each distinct value has its own.
_LEVELS: Final = 200


class PipelineValue:
    """A ValueModel: a scikit-learn pipeline whose last step is a regressor.

    `regressor()` makes that step. `select` keeps the best so many columns (0: all), `pca` rotates
    them into so many components (0: not at all). A regressor that knows directions (`signs` or
    `monotonic_cst`) is told those of the columns that reach it; none after a rotation.

    After fit: `pipeline`, for a target in units of `unit` major ones.
    """

    pipeline: Pipeline
    unit: float

    def __init__(
        self,
        regressor: Callable[[], Any],
        select: int = 0,
        select_by: SelectBy = "kbest",
        pca: int = 0,
    ) -> None:
        self._regressor = regressor
        self.select = select
        self.select_by = select_by
        self.pca = pca

    def fit(self, examples: Examples) -> Self:
        self.unit = examples.mean_revenue
        # Where nobody brought anything, nothing is expected of anybody.
        if not examples.revenue.any():
            self.unit = 0.0
            return self
        target = examples.revenue / self.unit
        signs: Sequence[int] = examples.signs
        steps: list[tuple[str, Any]] = []
        rows = examples.X
        for name, step in self._steps(examples):
            # Without any variance, the share that a component explains is NaN, and not used.
            with np.errstate(invalid="ignore"):
                step.fit(rows, target)
            _settle(step)
            rows = step.transform(rows)
            signs = _signs_after(step, signs, rows.shape[1])
            steps.append((name, step))
        regression = self._regressor()
        _tell_signs(regression, signs)
        if any(name.endswith("max_bins") for name in regression.get_params()):
            rows = coarse(rows)
        with warnings.catch_warnings():
            # How far the search for an optimum came shows in the metrics.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Where a tree splits hangs on comparisons, which last bits may turn.
            given = settled(rows, 9), significant(target), significant(examples.weight)
            regression.fit(given[0], given[1], sample_weight=given[2])
        for part in _parts(regression):
            _settle(part)
        self.pipeline = Pipeline([*steps, ("regression", regression)])
        return self

    def predict(self, X: Floats) -> Floats:
        if not self.unit:
            return np.zeros(len(X))
        rows = np.ascontiguousarray(X)  # how a product is added up hangs on how they lie
        return np.asarray(self.unit * self.pipeline.predict(rows), dtype=np.float64)

    def _steps(self, examples: Examples) -> list[tuple[str, Any]]:
        prepare, scale = preparation(examples.features, examples.attributes), Scale()
        steps = [("range", prepare), ("scale", scale)]
        k = len(examples.columns)
        if self.select:
            steps.append(("select", selector(min(self.select, k), self.select_by)))
        if self.pca:
            count = min(self.pca, self.select or k, k)
            steps.append(("rotate", PCA(count, svd_solver="full")))
        return steps

    def __getstate__(self) -> dict[str, Any]:
        # How to make the regressor is a function, and the fitted one is there.
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def coarse(X: Floats) -> Floats:
    """The rows with each column brought to its quantiles, 200 distinct values at most.

    For fitting histograms: their own bins are quantiles as well, but with weights of rows finding
    those takes many times as long as growing all trees.
    """
    out = np.array(X, dtype=np.float64, order="F")
    for column in out.T:
        if len(np.unique(column)) > _LEVELS:
            shares = np.linspace(0, 100, _LEVELS)
            levels = np.unique(np.percentile(column, shares, method="inverted_cdf"))
            column[:] = levels[np.searchsorted(levels, column)]
    return np.ascontiguousarray(out)


def _signs_after(step: Any, signs: Sequence[int], width: int) -> Sequence[int]:
    """Directions of the columns that come out of a fitted step, `width` of them."""
    if isinstance(step, PCA):
        return (0,) * width
    if hasattr(step, "get_support"):
        return tuple(signs[at] for at in np.flatnonzero(step.get_support()).tolist())
    # Columns that preparation adds come last; they are made of categories, and free.
    return (*signs, *(0,) * width)[:width]


def _tell_signs(regression: Any, signs: Sequence[int]) -> None:
    known = regression.get_params(deep=False)
    for name in ("signs", "monotonic_cst"):
        if name in known:
            regression.set_params(**{name: list(signs)})


def _settle(part: Any) -> None:
    """Keeps, of what was fitted, what predictions need, in digits in which processors agree."""
    for name in _SCAFFOLDING:
        vars(part).pop(name, None)
    for name in _NUMBERS:
        if name in vars(part):
            setattr(part, name, settled(vars(part)[name]))


def _parts(regression: Any) -> list[Any]:
    return [regression, *(p for p in vars(regression).values() if hasattr(p, "fit"))]


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
    # Rounded, for columns that say the same have to be as good as each other on any processor.
    return np.asarray(settled(np.where(spread > 0, correlation, 0.0), 9), dtype=np.float64)


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
        forest.fit(settled(rows[::every], 9), settled(np.log1p(target[::every]), 9))
        self.importances_ = settled(forest.feature_importances_, 9)
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
