"""The scorer: CLV from a value model, P(churn) from a chance model, checked and bounded here.

Which models they are is a matter of `model.estimators.kinds`; `model.estimators.blend` is the
default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from features.arrays import Floats
from features.events.money import minor_exponent
from features.times import Calendar, calendar_of
from model.estimators.base import ChanceModel, Examples, ValueModel
from model.estimators.parameters import Numbers, numbers_of

CHURN_DECIMALS: Final = 6

__all__ = ["CHURN_DECIMALS", "ClvModel", "FeatureError", "Floats"]


class FeatureError(ValueError):
    """A feature matrix is not one that the model was trained on, or is not finite. This is a fault
    in the program that made it, never in an order."""


class ClvModel:
    """CLV and churn probability over one horizon, for feature vectors of shape (n, k).

    A model that knows customer attributes has them as its last columns; rows without these are
    those of customers of whom none is known.

    Two estimators behind one interface (`model.estimators.base`): `value` for the CLV, `chance` for
    the churn probability. `kind` and `options` name how the value model was made.
    """

    timezone = "UTC"  # of a model that is silent of it, as those before there were others are

    def __init__(
        self,
        value: ValueModel,
        chance: ChanceModel,
        examples: Examples,
        kind: str,
        options: Mapping[str, Any],
    ) -> None:
        """`value` and `chance` are fitted on the examples."""
        self.value = value
        self.chance = chance
        self.kind = kind
        self.options = dict(options)
        self.feature_names = examples.columns
        self.attributes = examples.attributes
        self.horizon_days = examples.horizon_days
        self.currency = examples.currency
        if examples.timezone != self.timezone:
            self.timezone = examples.timezone
        # No prediction above what any customer was seen to bring: features are clipped one by one,
        # but a combination of them may still be one that training never saw.
        self.top = float(examples.revenue.max())

    @classmethod
    def fit(
        cls,
        examples: Examples,
        value: ValueModel,
        chance: ChanceModel,
        kind: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> ClvModel:
        """The model of n >= 2 examples, among them both a customer who churned and one who did
        not."""
        return cls(value.fit(examples), chance.fit(examples), examples, kind, options or {})

    @property
    def reads_windows(self) -> bool:
        """Whether the value is read off features that follow from windows, too; P(churn) is not."""
        return getattr(self.value, "reads_windows", True)

    @property
    def calendar(self) -> Calendar:
        """The shop's days, on which it was trained."""
        return calendar_of(self.timezone)

    def clv(self, X: Floats) -> Floats:
        """Net revenue expected in the horizon, major units, >= 0, finite, shape (n,).

        Rounded to the currency's minor unit: nothing finer is money, and the last bits of a
        logarithm differ between processors.
        """
        rows = self._checked(X)
        if not len(rows):
            return np.empty(0)
        revenue = np.clip(self.value.predict(rows), 0.0, self.top)
        return np.asarray(np.round(revenue, minor_exponent(self.currency)), dtype=np.float64)

    def churn(self, X: Floats) -> Floats:
        """P(no order in the horizon), in [0, 1] to six decimals, shape (n,)."""
        rows = self._checked(X)
        return np.round(self.chance.predict(rows), CHURN_DECIMALS) if len(rows) else np.empty(0)

    def parameters(self) -> tuple[Numbers, ...]:
        """All that decides a score: equal parameters mean an equal model."""
        return tuple(numbers_of(vars(self)))

    def _checked(self, X: Floats) -> Floats:
        k = len(self.feature_names)
        own = k - len(self.attributes)
        if X.ndim != 2 or X.shape[1] not in (own, k):
            raise FeatureError(f"a feature matrix of shape {X.shape}; the model needs (n, {k})")
        finite = np.isfinite(X)
        if self.attributes:
            X = widened(X, k)
            finite = np.isfinite(X)
            # Attributes may be missing, which NaN stands for.
            finite[:, own:] |= np.isnan(X[:, own:])
        if not finite.all():
            at = int(np.argmin(finite.all(axis=0)))
            raise FeatureError(f"feature {self.feature_names[at]} is not finite")
        return np.asarray(X, np.float64)


def widened(X: Floats, width: int) -> Floats:
    """The rows with NaN, for attributes that are not known, up to a width."""
    missing = np.full((len(X), width - X.shape[1]), np.nan)
    return np.hstack([X, missing]) if missing.size else X
