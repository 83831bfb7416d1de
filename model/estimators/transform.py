"""The shape in which the linear models see features: logarithms, kept to the range of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

from features.arrays import Floats
from features.columns.catalog import feature_of
from model.data.attributes import Column
from model.estimators.optimum import settled, significant

# The code of a text that is missing.
_MISSING: Final = -1


def signed_log(X: Floats) -> Floats:
    """sign(x) * log(1 + |x|), element by element: refunds keep their sign, giants lose reach."""
    return np.copysign(np.log1p(np.abs(X)), X)


def smooth_columns(columns: Sequence[str]) -> tuple[list[int], list[int]]:
    """Which of the columns are smooth in silence (`features.columns.catalog`), and which of those,
    counted among themselves, are taken for 0 below it."""
    kept = [at for at, name in enumerate(columns) if feature_of(name).smooth]
    return kept, [at for at, column in enumerate(kept) if feature_of(columns[column]).floored]


def smooth_rows(X: Floats, kept: Sequence[int], floored: Sequence[int]) -> Floats:
    """The columns of rows that `smooth_columns` found: a copy, of shape (n, len(kept)), each column
    by itself in memory. Of a silent customer each moves one way, and little by little."""
    columns = X.T.take(kept, axis=0)
    columns[floored] = np.maximum(columns[floored], 0.0)
    return columns.T


class SignedLogClip(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types in sklearn
    """Signed logarithm of features, clipped to the lowest and highest value seen in training.

    A model with a log link multiplies: one feature outside of what it was fitted on, and the CLV
    explodes. After fit: `low_` and `high_` of shape (k,), in logarithms.
    """

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        logs = signed_log(np.asarray(X, dtype=np.float64))
        self.low_ = settled(logs.min(axis=0), 9)
        self.high_ = settled(logs.max(axis=0), 9)
        self.n_features_in_ = logs.shape[1]
        return self

    def transform(self, X: ArrayLike) -> Floats:
        logs = signed_log(np.asarray(X, dtype=np.float64))
        return np.clip(logs, self.low_, self.high_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "low_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        return tags


class Scale(StandardScaler):  # type: ignore[misc]  # untyped sklearn
    """scikit-learn's standardisation, by means and deviances that are the same on any processor."""

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        super().fit(X, y, sample_weight)
        self.mean_: Floats = settled(self.mean_, 9)
        self.scale_: Floats = significant(self.scale_)
        self.var_: Floats = self.scale_**2
        return self


class WithAttributes(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped sklearn
    """The columns of a model that knows attributes: the first `features` of the stream as
    SignedLogClip has them, then the attributes.

    Numbers that are missing are taken for the median, and a column beside them says so; each text
    becomes a column, as do that it is missing and that training never saw it. `categories` has the
    number of texts of each attribute, None for one of numbers. scikit-learn's own transformers do
    the same in milliseconds for each batch, however small, which a stream pays for each of them.
    After fit: `medians_`, and `stream_` and `numbers_`, fitted.
    """

    def __init__(self, features: int, categories: Sequence[int | None]) -> None:
        self.features = features
        self.categories = categories

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        rows = np.asarray(X, dtype=np.float64)
        self.stream_ = SignedLogClip().fit(rows[:, : self.features])
        numbers = rows[:, self._numbers()]
        # Of an attribute that nobody has, nothing is known.
        known = [column[~np.isnan(column)] for column in numbers.T]
        self.medians_ = np.array([np.median(column) if len(column) else 0.0 for column in known])
        self.numbers_ = SignedLogClip().fit(self._filled(numbers))
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, X: ArrayLike) -> Floats:
        rows = np.asarray(X, dtype=np.float64)
        numbers = rows[:, self._numbers()]
        parts = [
            self.stream_.transform(rows[:, : self.features]),
            self.numbers_.transform(self._filled(numbers)),
            np.isnan(numbers).astype(np.float64),
        ]
        for at, known in enumerate(self.categories, self.features):
            if known is not None:
                codes = np.nan_to_num(rows[:, at], nan=_MISSING)
                parts.append((codes[:, None] == np.arange(_MISSING, known + 1)).astype(np.float64))
        return np.hstack(parts)

    def _numbers(self) -> list[int]:
        return [at for at, known in enumerate(self.categories, self.features) if known is None]

    def _filled(self, numbers: Floats) -> Floats:
        return np.where(np.isnan(numbers), self.medians_, numbers)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "medians_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def preparation(features: int, attributes: Sequence[Column] = ()) -> Any:
    """The unfitted transformer that every regression sees its columns through: `features` of the
    stream's own first, then the attributes."""
    if not attributes:
        return SignedLogClip()
    sizes = [None if one.categories is None else len(one.categories) for one in attributes]
    return WithAttributes(features, sizes)
