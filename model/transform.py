"""The shape in which the linear models see features: logarithms, kept to the range of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from model.attributes import Column

Floats: TypeAlias = NDArray[np.float64]

# The code of a text that is missing.
_MISSING: Final = -1


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


def preparation(features: int, attributes: Sequence[Column] = ()) -> Any:
    """The unfitted transformer that every regression sees its columns through: `features` of the
    stream's own first, then the attributes.

    Numbers that are missing are taken for the median, and a column beside them says so; each text
    becomes a column, as does that it is missing.
    """
    if not attributes:
        return SignedLogClip()
    # Here, because a worker whose model has no attributes need not wait for them.
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    parts: list[tuple[str, Any, list[int]]] = [("stream", SignedLogClip(), [*range(features)])]
    numbers = [features + i for i, one in enumerate(attributes) if one.categories is None]
    if numbers:
        imputed = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        parts.append(("numbers", Pipeline([("fill", imputed), ("log", SignedLogClip())]), numbers))
    texts = {features + i: one.categories for i, one in enumerate(attributes) if one.categories}
    if texts:
        filled = SimpleImputer(strategy="constant", fill_value=_MISSING, keep_empty_features=True)
        # One more than are known: what training never saw.
        codes = [np.arange(_MISSING, len(known) + 1.0) for known in texts.values()]
        encoded = OneHotEncoder(categories=codes, sparse_output=False, handle_unknown="ignore")
        parts.append(("texts", Pipeline([("fill", filled), ("encode", encoded)]), [*texts]))
    return ColumnTransformer(parts)
