"""What a model is fitted on, and the two parts that every model has: a value and a chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from features.events.money import minor_exponent
from model.data.attributes import Column
from model.estimators.optimum import significant


@dataclass(frozen=True)
class Examples:
    """Training rows: n customers at earlier days, and what they did in the horizon after them.

    `X` has shape (n, k), its columns named by `columns`; `revenue` (net, major units, >= 0),
    `churned` (no order at all), `weight` (how much a row counts) and `day` (UTC day of the row's
    snapshot) have shape (n,). `population` are the feature vectors of all customers known at the
    end of training, shape (m, k). `signs` has one of 1, -1 and 0 a column: the direction in which
    it may move a CLV, 0 for either. `attributes` are the last columns of X, which alone may be
    NaN; the population does without them. `timezone` is that of the days.
    """

    X: Floats
    revenue: Floats
    churned: NDArray[np.bool_]
    weight: Floats
    day: NDArray[np.int64]
    population: Floats
    columns: tuple[str, ...]
    horizon_days: int
    currency: str
    signs: tuple[int, ...]
    attributes: tuple[Column, ...] = ()
    timezone: str = "UTC"

    @property
    def features(self) -> int:
        """How many columns are the stream's own; those of attributes come after them."""
        return len(self.columns) - len(self.attributes)

    @cached_property
    def mean_revenue(self) -> float:
        """Weighted mean revenue; 1 where there is none. Targets divided by it make a penalty of a
        regression mean the same in any currency."""
        return significant(float(np.average(self.revenue, weights=self.weight))) or 1.0

    def of_columns(self, kept: Sequence[int], X: Floats) -> Examples:
        """The same rows by some of the columns, of which X has the values."""
        return replace(
            self,
            X=X,
            columns=tuple(self.columns[at] for at in kept),
            signs=tuple(self.signs[at] for at in kept),
        )

    @property
    def minor_per_major(self) -> float:
        """How many minor units make a major one: 100 for USD."""
        return float(10.0 ** minor_exponent(self.currency))


class ValueModel(Protocol):
    """Expected net revenue of the horizon. Pickled, so made of classes that
    `model.artifact.artifact` allows."""

    def fit(self, examples: Examples) -> Self:
        """Itself, fitted. The same examples give the same model."""
        ...

    def predict(self, X: Floats) -> Floats:
        """Major units, shape (n,), for rows of shape (n, k); neither rounded nor bounded.

        A row's result does not depend on the rows around it, to the last bit or at least far
        below a minor unit.
        """
        ...


class ChanceModel(Protocol):
    """P(no order in the horizon); else as a ValueModel."""

    def fit(self, examples: Examples) -> Self:
        """Itself, fitted on examples of both kinds, with and without an order."""
        ...

    def predict(self, X: Floats) -> Floats:
        """Probabilities of shape (n,) for rows of shape (n, k)."""
        ...
