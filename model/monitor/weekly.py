"""An order log looked at week by week: the reference of a model, and how the time after it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import msgspec
import numpy as np

from features.arrays import Floats, Ints
from features.columns.table import FactColumns
from features.events.money import minor_exponent
from features.events.orders import Order
from features.facts.fold import LogFold
from features.facts.state import CustomerState
from features.times import UTC, Calendar, iso_day
from model.decide.scoring import Scorer
from model.errors import ModelError
from model.monitor.drift import (
    MAX_WINDOWS,
    MIN_CUSTOMERS,
    WINDOW_DAYS,
    Brought,
    Rate,
    bias_of,
    brought,
    buyers,
    checks_of,
    drifts,
    level_of,
    reference_of,
    rows_of,
)
from model.monitor.result import DriftReference, MonitoredWeek

# Customers looked at; of a larger shop a part, chosen by a hash of their ids.
MAX_CUSTOMERS = 20_000


class MonitorError(ModelError):
    """The log or the model does not allow it; the message says what would."""


@dataclass(frozen=True, slots=True)
class KnownCustomers:
    """The customers `users` as known at 00:00 of `day`."""

    day: int
    states: list[CustomerState]
    users: list[str]

    def facts(self) -> FactColumns:
        """The states as arrays."""
        return FactColumns.of(self.states)


def seen(
    orders: Sequence[Order], days: Sequence[int], calendar: Calendar = UTC
) -> Iterator[KnownCustomers]:
    """The customers at each of the days, which ascend; `orders` sorted by event time."""
    every = 1 + len({order.user_id for order in orders}) // MAX_CUSTOMERS
    fold = LogFold(orders, calendar, wanted=lambda user_id: not crc32(user_id.encode()) % every)
    for day in days:
        fold.until(day)
        yield KnownCustomers(day, list(fold.states.values()), list(fold.states))


def rate_of(scorer: Scorer, users: Sequence[str]) -> Rate:
    """The scorer's CLVs in minor units, as floats, of customers by their place among `users`."""

    def rate(X: Floats, place: Ints) -> Floats:
        if not len(X):
            return np.empty(0)
        if scorer.attributes is not None:
            X = scorer.attributes.beside(X, [users[at] for at in place.tolist()])
        return scorer.clv_minor(X).astype(np.float64)

    return rate


def reference(orders: Sequence[Order], scorer: Scorer, cutoff_day: int) -> DriftReference | None:
    """The reference of a model from the log it was trained on; None where too few bought.

    Of the last MAX_WINDOWS windows before the cutoff, without those of the log's first horizon,
    when everybody looks new, where there is more than that.
    """
    first_day = scorer.calendar.day_of(orders[0].ts_ms) if orders else cutoff_day
    horizon = scorer.horizon_days
    ends = list(range(cutoff_day, first_day + WINDOW_DAYS - 1, -WINDOW_DAYS))[:MAX_WINDOWS]
    settled = [end for end in ends if end - WINDOW_DAYS >= first_day + horizon]
    ends = sorted(settled if len(settled) > 3 else ends)
    rows: list[Floats] = []
    clv: list[Floats] = []
    checks = [(days, back) for days in checks_of(horizon) for back in (None, _half(horizon))]
    levels: dict[tuple[int, int | None], list[Brought]] = {check: [] for check in checks}
    for then in seen(orders, ends, scorer.calendar):
        facts = then.facts()
        rate, found = rate_of(scorer, then.users), buyers(facts, then.day)
        rows.append(rows_of(facts, found))
        clv.append(rate(rows[-1], found.place))
        for (days, back), looks in levels.items():
            if then.day - days >= ends[0]:
                looks.append(brought(facts, then.day - days, days, back, rate))
    X = np.concatenate(rows) if rows else np.empty((0, 0))
    if len(X) < MIN_CUSTOMERS:
        return None
    known = [level_of(*check, looks) for check, looks in levels.items()]
    major = np.concatenate(clv) / 10.0 ** minor_exponent(scorer.currency)
    return reference_of(X, major, len(ends), [level for level in known if level])


def weeks(
    orders: Sequence[Order], scorer: Scorer, known: DriftReference, from_day: int
) -> Iterator[MonitoredWeek]:
    """Every window that ends after `from_day`, up to the end of the log's last full day."""
    last_day = scorer.calendar.day_of(orders[-1].ts_ms) if orders else from_day
    ends = range(from_day + WINDOW_DAYS, last_day + 1, WINDOW_DAYS)
    for then in seen(orders, ends, scorer.calendar):
        yield week(then, scorer, known)


def week(then: KnownCustomers, scorer: Scorer, known: DriftReference) -> MonitoredWeek:
    """What a look at some customers gives: drift of the last window, and levels of earlier ones."""
    rate, unit = rate_of(scorer, then.users), 10.0 ** minor_exponent(scorer.currency)
    facts = then.facts()
    found = buyers(facts, then.day)
    X = rows_of(facts, found)
    drifted = drifts(X, rate(X, found.place) / unit, known) if len(X) >= MIN_CUSTOMERS else []
    biases = []
    for level in known.levels:
        day = then.day - level.days
        one = brought(facts, day, level.days, level.base_days, rate)
        if len(one.revenue) >= MIN_CUSTOMERS:
            bias = bias_of(one, level, iso_day(day), len(known.levels))
            biases += [bias] if bias else []
    return MonitoredWeek(iso_day(then.day), len(X), drifted, biases)


def of_everybody(known: DriftReference) -> DriftReference:
    """The reference with the levels of all customers: for who has all of them."""
    levels = [level for level in known.levels if level.base_days is None]
    return msgspec.structs.replace(known, levels=levels)


def of_the_due(known: DriftReference, horizon_days: int) -> DriftReference:
    """The reference with the levels of customers all of whom still are due for a score: for who has
    but a sample of those."""
    levels = [
        level
        for level in known.levels
        if level.base_days is not None and level.days + level.base_days <= horizon_days
    ]
    return msgspec.structs.replace(known, levels=levels)


def _half(horizon_days: int) -> int:
    """How far back those bought whose level is looked at in a sample of who is due."""
    return max(1, horizon_days // 2)
