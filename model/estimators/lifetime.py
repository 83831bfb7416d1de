"""BG/NBD with Gamma-Gamma as a part of a model, fed by the RFM that are among the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np

from features.arrays import Floats
from model.estimators.base import Examples
from model.estimators.bgnbd import BGNBD, FitError, GammaGamma, clv

_RFM: Final = ("frequency", "recency_days", "T_days", "monetary_value_minor")
# Four parameters need no more, and a larger shop no more time.
_CUSTOMERS: Final = 100_000
# What a customer with one purchase may be expected to spend, in means of those with more.
_MOST_SPEND: Final = 1.5


class LifetimeValue:
    """A ValueModel: BG/NBD with Gamma-Gamma, fitted on the population; labels are not looked at.

    `bounded` keeps Gamma-Gamma from expecting fortunes of customers with a single purchase where a
    few spend most; without, it is as published. After fit: `purchases` and `spend`, in days and
    major units.
    """

    purchases: BGNBD
    spend: GammaGamma
    reads_windows = False

    def __init__(self, bounded: bool = False) -> None:
        self.bounded = bounded

    def fit(self, examples: Examples) -> Self:
        """Raises FitError where the population has no repeat purchases to learn from, or is so
        alike that the parameters grow without end."""
        self.columns = [examples.columns.index(name) for name in _RFM]
        self.horizon_days = examples.horizon_days
        self.unit = examples.minor_per_major
        # Every k-th customer of a large shop says the same in a fraction of the time.
        step = 1 + (len(examples.population) - 1) // _CUSTOMERS
        learned_from = examples.population[::step]
        x, t_x, T, value_minor = self._rfm(learned_from)
        self.purchases = BGNBD.fit(x, t_x, T)
        self.spend = GammaGamma.fit(
            x, value_minor / self.unit, _MOST_SPEND if self.bounded else None
        )
        if not np.isfinite(self.predict(learned_from)).all():
            raise FitError(
                "customers are so alike that its parameters grow without end, and some have no"
                " number; take another kind"
            )
        return self

    def predict(self, X: Floats) -> Floats:
        """Not finite where the hypergeometric function fails, which was never seen of customers
        unlike those that `fit` accepts."""
        x, t_x, T, value_minor = self._rfm(X)
        value = value_minor / self.unit
        return clv(self.purchases, self.spend, self.horizon_days, x, t_x, T, value)

    def _rfm(self, X: Floats) -> Sequence[Floats]:
        return [X[:, column] for column in self.columns]


def fitted_lifetime(examples: Examples) -> LifetimeValue | None:
    """The lifetime model of the examples; None where they have no repeat purchases."""
    try:
        return LifetimeValue(bounded=True).fit(examples)
    except FitError:
        return None
