"""The types of the arrays that features and models are worked out with, and what is done to all."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


def flat_places(at: Ints, count: Ints) -> Ints:
    """Where in a flat array the parts are that begin at `at` and have `count` elements."""
    shift = np.repeat(at - (np.cumsum(count) - count), count)
    return np.asarray(np.arange(len(shift)) + shift)


# So many rows make a sum of columns no sum along memory.
_FEW_ROWS: Final = 32


def in_turn(columns: Floats, weights: Floats, bias: Floats | float) -> Floats:
    """bias + weights · columns, added up one after the other, element by element, as IEEE 754 has
    it. Columns (k, n) and weights (k,) give (n,); with weights (m, k) and m biases, (m, n).
    """
    terms = np.empty((*weights.shape[:-1], len(columns) + 1, columns.shape[1]))
    terms[..., 0, :] = np.asarray(bias)[..., None]
    np.multiply(columns, weights[..., None], out=terms[..., 1:, :])
    # Only along what lies together in memory are sums added up otherwise, as of few rows might be.
    if columns.shape[1] < _FEW_ROWS:
        return np.asarray(np.add.accumulate(terms, axis=-2)[..., -1, :])
    return np.asarray(np.add.reduce(terms, axis=-2))
