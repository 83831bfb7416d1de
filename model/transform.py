"""The shape in which the linear models see features: logarithms, kept to the range of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

Floats: TypeAlias = NDArray[np.float64]


def signed_log(X: Floats) -> Floats:
    """sign(x) * log(1 + |x|), element by element: refunds keep their sign, giants lose reach."""
    return np.copysign(np.log1p(np.abs(X)), X)


class SignedLogClip(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types in sklearn
    """Signed logarithm of features, clipped to the lowest and highest value seen in training.

    A model with a log link multiplies: one feature outside of what it was fitted on, and the CLV
    explodes. After fit: `low_` and `high_` of shape (k,), in logarithms.
    """

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        logs = signed_log(np.asarray(X, dtype=np.float64))
        self.low_ = logs.min(axis=0)
        self.high_ = logs.max(axis=0)
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


def preparation(columns: Sequence[str]) -> SignedLogClip:
    """The unfitted transformer that every linear model and network sees its columns through."""
    return SignedLogClip()
