"""The one path from facts to a score: for orders, the clock, replay, training and backtest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from features.arrays import Floats, Ints
from features.columns.table import BucketTable, tabulate
from features.columns.vector import FEATURE_NAMES, columns_of, vectors_of
from features.events.money import minor_exponent
from features.facts.state import CustomerState
from features.times import UTC, Calendar
from model.data.attributes import Attributes
from model.decide.learned import NOTHING_LEARNED, Learned
from model.decide.policy import Policy, Rules
from model.estimators.risk import Risk, index

_ORDERS_LIFETIME = FEATURE_NAMES.index("orders_lifetime")


class Score(msgspec.Struct, frozen=True, gc=False):
    """Net revenue expected over the horizon, in minor units, and P(no order within it)."""

    clv_minor: int
    churn_probability: float


class Regressor(Protocol):
    """What scoring asks of a model: arrays of shape (n,) for feature rows of shape (n, k)."""

    def clv(self, X: Floats) -> Floats:
        """Net revenue over the horizon in major units, never negative."""
        ...

    def churn(self, X: Floats) -> Floats:
        """Probability of no order within the horizon."""
        ...


class Priced(Regressor, Protocol):
    """A model that knows its currency and how far it looks ahead."""

    currency: str
    horizon_days: int

    @property
    def calendar(self) -> Calendar:
        """The days that it was trained on."""
        ...


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model with its name and currency.

    `score_quantiles_major` are the 101 percentiles (0 to 100) of the training population's CLVs.
    `risk` has P(churn) and P(an order soon), None where the shop's past was too short for it: the
    P(churn) of `model` counts then. `learned` says from which index on silences warn. `typical` is
    the feature vector of the customer to whom others are compared where a CLV is explained
    (`model.explain.shapley`), empty where there is none. `attributes` are what is known of
    customers beside their orders, None for a model without. `calendar` has the days that it was
    trained on.
    """

    model: Regressor
    model_version: str
    currency: str
    horizon_days: int
    score_quantiles_major: tuple[float, ...]
    risk: Risk | None = None
    learned: Learned = NOTHING_LEARNED
    typical: tuple[float, ...] = ()
    attributes: Attributes | None = None
    calendar: Calendar = UTC

    @classmethod
    def of(
        cls,
        model: Priced,
        version: str = "",
        quantiles: Sequence[float] = (),
        *,
        risk: Risk | None = None,
        learned: Learned = NOTHING_LEARNED,
        typical: Sequence[float] = (),
        attributes: Attributes | None = None,
    ) -> Scorer:
        """The scorer of a model, with the percentiles of its training population."""
        return cls(
            model=model,
            model_version=version,
            currency=model.currency,
            horizon_days=model.horizon_days,
            score_quantiles_major=tuple(quantiles),
            risk=risk,
            learned=learned,
            typical=tuple(typical),
            attributes=attributes,
            calendar=model.calendar,
        )

    def scores(
        self, pairs: Sequence[tuple[CustomerState, int]], user_ids: Sequence[str] | None = None
    ) -> list[Score]:
        """Scores of (state, as_of in epoch ms) pairs, in one model call; `user_ids` say whose they
        are, which only `attributes` make use of.

        A customer without a purchase that was not taken back is worth 0 and counts as churned.
        """
        if not pairs:
            return []
        clv_minor, churn = self.rated(tabulate(pairs, self.calendar), user_ids)
        return [
            Score(worth, gone)
            for worth, gone in zip(clv_minor.tolist(), churn.tolist(), strict=True)
        ]

    def rated(
        self,
        table: BucketTable,
        user_ids: Sequence[str] | None = None,
        churn: Floats | None = None,
    ) -> tuple[Ints, Floats]:
        """The scores of the rows of a bucket table, as arrays: CLV in minor units, P(churn). Where
        `risks` has been asked already, `churn` is what it said of the same rows.

        Raises ValueError where the model gives no number for one of them.
        """
        windows = getattr(self.model, "reads_windows", True)
        X = columns_of(table, windows=windows).T
        if self.attributes is not None:
            X = self.attributes.beside(X, user_ids)
        if churn is None:
            risks = self.risks(table)
            churn = self.model.churn(X) if risks is None else risks[0]
        return self.clv_minor(X), self._checked(X, churn)

    def risks(self, table: BucketTable) -> tuple[Floats, Floats] | None:
        """P(churn), and the index by which a silence warns (`model.estimators.risk.index`), of the
        rows of a bucket table; None where nothing was learnt of them."""
        if self.risk is None:
            return None
        churn, soon = self.risk.predict(self.risk.rows(table))
        return churn, index(churn, soon)

    def rows(
        self, pairs: Sequence[tuple[CustomerState, int]], user_ids: Sequence[str] | None = None
    ) -> Floats:
        """What the value model sees of the pairs, shape (n, k): feature vectors, and attributes."""
        return self.vectors(tabulate(pairs, self.calendar), user_ids)

    def vectors(self, table: BucketTable, user_ids: Sequence[str] | None = None) -> Floats:
        """`rows` of the rows of a bucket table."""
        X = vectors_of(table)
        return X if self.attributes is None else self.attributes.beside(X, user_ids)

    def rate(self, X: Floats, churn: Floats | None = None) -> tuple[Ints, Floats]:
        """The scores of feature vectors, as arrays: CLV in minor units, P(churn); `churn` is what
        is known of that by the customers' own gaps, NaN where nothing is.

        Raises ValueError where the model gives no number for one of them.
        """
        if churn is None:
            churn = self.model.churn(X) if self.risk is None else np.full(len(X), np.nan)
        unknown = np.isnan(churn) & (X[:, _ORDERS_LIFETIME] > 0)
        checked = self._checked(X, np.where(unknown, 0.0, churn))
        return self.clv_minor(X), np.where(unknown, np.nan, checked)

    def _checked(self, X: Floats, churn: Floats) -> Floats:
        """P(churn), 1 for who has bought nothing."""
        churn = np.where(X[:, _ORDERS_LIFETIME] > 0, churn, 1.0)
        if not np.isfinite(churn).all():
            raise self._not_finite()
        return churn

    def clv_minor(self, X: Floats) -> Ints:
        """The CLVs of feature vectors in minor units; 0 for who has bought nothing."""
        scale = 10 ** minor_exponent(self.currency)
        clv = np.where(X[:, _ORDERS_LIFETIME] > 0, np.rint(self.model.clv(X) * scale), 0.0)
        # As an integer a NaN would be the lowest of all CLVs, and a warning.
        if not np.isfinite(clv).all():
            raise self._not_finite()
        return clv.astype(np.int64)

    def indices(self, pairs: Sequence[tuple[CustomerState, int]]) -> list[float]:
        """The index by which a silence warns, of each pair (`model.estimators.risk.index`); -inf
        where nothing was learnt of it."""
        risks = self.risks(tabulate(pairs, self.calendar)) if pairs else None
        return [-math.inf] * len(pairs) if risks is None else risks[1].tolist()

    def _not_finite(self) -> ValueError:
        return ValueError(
            f"model {self.model_version}: a prediction is not finite; train another model"
        )

    def rules(self, policy: Policy) -> Rules:
        """A policy in this model's days, money and probabilities."""
        scale = 10 ** minor_exponent(self.currency)
        return Rules(
            policy=policy,
            horizon_days=self.horizon_days,
            floor_minor=self._percentile_minor(policy.floor_percentile)
            if policy.floor is None
            else round(policy.floor * scale),
            segment_floors_minor=self._floors(policy.segment_percentiles),
            severity_floors_minor=self._floors(policy.severity_percentiles),
            threshold=None if self.risk is None else self.learned.threshold(policy),
            money=self.learned.money(policy),
            calendar=self.calendar,
        )

    def _floors(self, percentiles: Sequence[float]) -> tuple[int, ...]:
        return tuple(self._percentile_minor(percentile) for percentile in percentiles)

    def _percentile_minor(self, percentile: float) -> int:
        major = _at_percentile(percentile, self.score_quantiles_major)
        return int(np.rint(major * 10 ** minor_exponent(self.currency)))


def _at_percentile(percentile: float, quantiles: Sequence[float]) -> float:
    return float(np.interp(percentile, np.linspace(0, 100, len(quantiles)), quantiles))


def score(state: CustomerState, as_of_ms: int, scorer: Scorer, user_id: str | None = None) -> Score:
    """The score of one customer as of an instant; for many, `Scorer.scores` is far cheaper."""
    return scorer.scores([(state, as_of_ms)], None if user_id is None else [user_id])[0]
