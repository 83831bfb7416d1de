"""What a shop's past says of silences: P(churn), P(an order soon), and when to warn.

The index at which a silence warns is chosen so that a wanted share of the customers who left would
have been warned of by half of the horizon: of each the highest index between a third and half of it
is taken, and the quantile of these is the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

from features.arrays import Floats, Ints
from features.columns.vector import vectors
from features.facts.state import CustomerState
from features.times import MS_PER_DAY, iso_day
from model.data.customer_days import (
    PastSilences,
    columns_at,
    customer_days,
    silences_of,
    typical_customer,
)
from model.decide.learned import EARLY, Learned, Threshold
from model.estimators.risk import Risk, fit_risk, index

_MIN_LEFT: Final = 10
_NEWEST: Final = 200
_MOST: Final = 2_000
_FEW: Final = 30
_DAYS: Final = 20


class Lessons(NamedTuple):
    """What was learnt: the risk model, None where the past is too short for it, and when to
    warn."""

    risk: Risk | None
    learned: Learned


def learn(
    states: Mapping[str, CustomerState],
    day: int,
    horizon_days: int,
    clv: Callable[[Floats], Floats],
    floor: float,
) -> Lessons:
    """The lessons of what was known at 00:00 UTC of a day. `clv` gives CLVs of feature vectors;
    customers whose CLV after an order reaches `floor` are worth a warning."""
    risk = learned_risk(states, day, horizon_days)
    if risk is None:
        why = (
            f"of the silences before {iso_day(day)} too few became longer than {horizon_days} days,"
            " or too few ended sooner"
        )
        return Lessons(None, Learned(why_not=why))
    return Lessons(risk, _thresholds(list(states.values()), day, risk, clv, floor))


def learned_risk(states: Mapping[str, CustomerState], day: int, horizon_days: int) -> Risk | None:
    """The risk model of what was known at 00:00 UTC of a day; None where the past is too short."""
    # One thread: sums do not depend on the number of cores.
    with threadpool_limits(limits=1):
        typical = typical_customer(list(states.values()), day, horizon_days)
        return fit_risk(customer_days(states, day, horizon_days, typical), typical)


def _thresholds(
    states: list[CustomerState],
    day: int,
    risk: Risk,
    clv: Callable[[Floats], Floats],
    floor: float,
) -> Learned:
    """When to warn, by the newest silences whose end is known."""
    horizon = risk.horizon_days
    silences = silences_of(states, day)
    ended = silences.part(silences.since + horizon < day)
    lasted = ended.until - ended.since
    left = _newest(ended.part(lasted > horizon), day - 3 * horizon)
    left, floor = _worth(left, _clvs(states, left, clv), floor)
    others = ended.part(lasted <= horizon)
    recent = others.since >= left.since.min(initial=day)
    # Of a shop that sells every day, one in so many will do.
    every = max(1, int(recent.sum()) // _MOST)
    others = others.part(np.flatnonzero(recent)[::every])
    others = others.part(_clvs(states, others, clv) >= floor)
    counts = len(left.since), len(others.since) * every
    if counts[0] < _MIN_LEFT:
        why = (
            f"only {counts[0]} customers worth a warning left in the past that is known;"
            f" {_MIN_LEFT} are needed"
        )
        return Learned(left=counts[0], returned=counts[1], why_not=why)
    first, half, late = -(-horizon // 3), max(horizon // 2, 1), -(-5 * horizon // 6)
    days = np.unique(
        np.concatenate([np.linspace(first, half, 8), np.linspace(first, late, _DAYS)]).astype(int)
    )
    of_left, of_others = (_Past.of(states, each, risk, days) for each in (left, others))
    by_half = of_left.indices[:, days <= max(half, first)].max(axis=1)
    found = [
        _judged(early, float(np.quantile(by_half, 1 - early)), of_left, of_others, every, horizon)
        for early in EARLY
    ]
    return Learned(
        thresholds=tuple(found),
        since=iso_day(int(left.since.min())),
        until=iso_day(int(left.since.max())),
        left=counts[0],
        returned=counts[1],
    )


class _Past(NamedTuple):
    """Past silences, whose end is known: how long each lasted, and its index after so many days,
    shape (n, len(days)); -inf once it had ended."""

    lasted: Ints
    days: Ints
    indices: Floats

    @classmethod
    def of(
        cls, states: list[CustomerState], silences: PastSilences, risk: Risk, days: Ints
    ) -> _Past:
        lasted = silences.until - silences.since
        indices = [_index(states, silences, risk, int(at)) for at in days]
        still = days[None, :] <= lasted[:, None]
        return cls(lasted, days, np.where(still, np.stack(indices, axis=1), -np.inf))

    def warned(self, threshold: float, horizon: int) -> Ints:
        """The day of silence on which each is warned of; beyond its end: never."""
        fires = self.indices >= threshold
        late = -(-5 * horizon // 6)
        return np.where(fires.any(axis=1), self.days[np.argmax(fires, axis=1)], late)


def _judged(
    early: float, threshold: float, left: _Past, others: _Past, every: int, horizon: int
) -> Threshold:
    """What an index would have done on silences whose end is known; `others` are one of `every`."""
    at = left.warned(threshold, horizon)
    # An order within the horizon of the warning makes it wrong, whenever that was.
    right = int((left.lasted >= at + horizon).sum())
    wrong = int((others.warned(threshold, horizon) <= others.lasted).sum()) * every
    return Threshold(
        early=early,
        index=round(threshold, 6),
        precision=round(right / (len(at) + wrong), 4),
        median_lead_days=float(np.median(horizon - at)),
    )


def _index(
    states: list[CustomerState], ended: PastSilences, risk: Risk, silent_days: int
) -> Floats:
    days = np.full(len(ended.since), silent_days, np.int64)
    columns = columns_at(states, ended, days, risk.horizon_days, risk.typical)
    return index(*risk.predict(np.clip(columns, risk.low, risk.high)))


def _newest(silences: PastSilences, since_day: int) -> PastSilences:
    """The newest silences: those since a day, at least some hundred, at most so many."""
    order = np.argsort(-silences.since, kind="stable")
    count = max(int((silences.since >= since_day).sum()), _NEWEST)
    return silences.part(np.sort(order[: min(count, _MOST)]))


def _worth(left: PastSilences, clvs: Floats, floor: float) -> tuple[PastSilences, float]:
    """The silences of customers worth a warning, and the CLV from which they are: of few, the most
    valuable of those who left."""
    if len(clvs):
        floor = min(floor, float(np.sort(clvs)[::-1][:_FEW].min()))
    return left.part(clvs >= floor), floor


def _clvs(
    states: list[CustomerState], silences: PastSilences, clv: Callable[[Floats], Floats]
) -> Floats:
    """The CLV after the order that began each silence."""
    pairs = [
        (states[at], day * MS_PER_DAY)
        for at, day in zip(silences.customer.tolist(), silences.since.tolist(), strict=True)
    ]
    return np.asarray(clv(vectors(pairs)) if pairs else np.empty(0), np.float64)
