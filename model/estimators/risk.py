"""P(churn) and P(an order soon) of a silent customer: two logistic regressions on the same columns.

They are fitted on *customer-days* (`model.data.customer_days`): days of silences of the past, by
what was known then. `features.columns.rhythm` has the columns. The coefficients of P(churn) on
columns that rise in silence are not negative, so P(churn) never falls while nothing happens.

`index` weighs the two: it asks whether anything is still to be gained by waiting. To warn today and
not tomorrow gains a day with P(churn), and is a false alarm with the probability of an order
tomorrow, so the best moment to stop waiting is when their ratio passes a constant.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple

import msgspec
import numpy as np

from features.arrays import Bools, Floats, Ints, in_turn
from features.columns.rhythm import GROUP_OF, GROUPS, RHYTHM_NAMES, RISING, Typical, rhythm
from features.columns.table import BucketTable
from model.data.customer_days import CustomerDays

# Strength of the L2 penalty, in rows; the best of 10, 100 and 1,000 on the early periods of the
# logs of docs/warnings.md.
PENALTY_ROWS: Final = 100.0
_DECIMALS: Final = 6
_LEAST_SOON: Final = 1e-4
_MOST: Final = 700.0
_MIN_ROWS_A_LABEL: Final = 10


class OddsRegression(msgspec.Struct, frozen=True):
    """A logistic regression on clipped columns: log of the odds = bias + weights · columns."""

    bias: float
    weights: tuple[float, ...]

    def probability(self, columns: Floats) -> Floats:
        """Shape (n,), to six decimals: the last bits of an exponential differ by processor."""
        weights = np.array(self.weights)
        read = np.flatnonzero(weights)
        return _probabilities(in_turn(columns.T.take(read, axis=0), weights[read], self.bias))


def _probabilities(logits: Floats) -> Floats:
    odds = np.exp(-np.clip(logits, -_MOST, _MOST))
    return np.asarray(np.round(1.0 / (1.0 + odds), _DECIMALS))


class _Arrays(NamedTuple):
    """Limits of columns, shape (k, 1); of those of them that either regression reads, `read`, both
    their weights; and biases."""

    low: Floats
    high: Floats
    read: Ints
    weights: Floats
    biases: Floats


class Risk(msgspec.Struct, frozen=True, dict=True):
    """P(no order within `horizon_days`) and P(an order soon: within an eighth of that), as of 00:00
    of a day. `low` and `high` bound each of `columns` to what training saw; `means` are those
    of training, empty in a model from before they were written down."""

    horizon_days: int
    typical: Typical
    low: tuple[float, ...]
    high: tuple[float, ...]
    churn: OddsRegression
    soon: OddsRegression
    columns: tuple[str, ...] = RHYTHM_NAMES
    means: tuple[float, ...] = ()

    def rows(self, table: BucketTable, silent_days: Ints | None = None) -> Floats:
        """What the regressions see, shape (n, k); `silent_days` None: from the last purchase to the
        table's day."""
        low, high, *_ = self._arrays
        found = rhythm(table, silent_days, self.horizon_days, self.typical).T
        np.maximum(found, low, out=found)
        return np.minimum(found, high, out=found).T

    def parts(self, rows: Floats) -> Floats | None:
        """Why P(churn) is what it is: what each group of columns (`GROUPS`) adds to the logarithm
        of the odds, beside the customer-days of training on average, shape (n, len(GROUPS)). They
        and `baseline` add up to it. None where the means are not known."""
        if not self.means:
            return None
        # How a sum along memory is added up hangs on how the rows lie.
        terms = np.ascontiguousarray(rows) - np.asarray(self.means)
        terms *= np.asarray(self.churn.weights)
        of = np.array([GROUP_OF[name] for name in self.columns])
        return np.stack([terms[:, of == group].sum(axis=1) for group in GROUPS], axis=1)

    @property
    def baseline(self) -> float:
        """The logarithm of the odds of leaving, of the customer-days of training on average."""
        weights = zip(self.churn.weights, self.means, strict=True)
        return self.churn.bias + sum(weight * mean for weight, mean in weights)

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """P(churn) and P(an order soon), of shape (n,), to six decimals."""
        _, _, read, weights, biases = self._arrays
        columns = rows.T if len(read) == rows.shape[1] else rows.T.take(read, axis=0)
        churn, soon = _probabilities(in_turn(columns, weights, biases))
        return churn, soon

    @cached_property
    def _arrays(self) -> _Arrays:
        both = np.array((self.churn.weights, self.soon.weights))
        read = np.flatnonzero(both.any(axis=0))
        biases = np.array((self.churn.bias, self.soon.bias))
        low, high = np.array(self.low)[:, None], np.array(self.high)[:, None]
        return _Arrays(low, high, read, both[:, read], biases)


def index(churn: Floats, soon: Floats) -> Floats:
    """ln P(churn) - ln P(an order soon), shape (n,), to six decimals."""
    ratio = np.log(np.maximum(churn, 10.0**-_DECIMALS)) - np.log(np.maximum(soon, _LEAST_SOON))
    return np.asarray(np.round(ratio, _DECIMALS))


def fit_risk(days: CustomerDays, typical: Typical) -> Risk | None:
    """The risk model of customer-days; None where a label hardly occurs, and nothing can be told
    apart. The same days give the same model."""
    if not len(days.columns):
        return None
    low, high = np.quantile(days.columns, [0.001, 0.999], axis=0)
    clipped = np.clip(days.columns, low, high)
    signs = [1 if name in RISING else 0 for name in RHYTHM_NAMES]
    churn = _fitted(days, days.churned, days.churn_known, signs, low, high)
    soon = _fitted(days, days.soon, days.soon_known, [0] * len(signs), low, high)
    if churn is None or soon is None:
        return None
    return Risk(
        horizon_days=days.horizon_days,
        typical=typical,
        low=tuple(np.asarray(low).tolist()),
        high=tuple(np.asarray(high).tolist()),
        means=tuple(np.round(clipped.mean(axis=0), 6).tolist()),
        churn=churn,
        soon=soon,
    )


def _fitted(
    days: CustomerDays, label: Bools, known: Bools, signs: list[int], low: Floats, high: Floats
) -> OddsRegression | None:
    # scikit-learn takes two seconds to import; who asks and does not fit needs none of it.
    from model.estimators.glm import SignedLogisticRegression

    target = label[known]
    if min(target.sum(), (~target).sum()) < _MIN_ROWS_A_LABEL:
        return None
    rows, weight = np.clip(days.columns[known], low, high), days.weight[known]
    mean = np.average(rows, axis=0, weights=weight)
    scale = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weight))
    scale[scale < 1e-9] = 1.0
    strength = len(rows) / (PENALTY_ROWS * float(weight.sum()))
    fitted = SignedLogisticRegression(strength, signs)
    fitted.fit((rows - mean) / scale, target, sample_weight=weight)
    weights = np.round(fitted.coef_ / scale, 9)
    bias = float(fitted.intercept_ - np.sum(weights * mean))
    return OddsRegression(round(bias, 9), tuple(weights.tolist()))
