"""An order log looked at week by week: the reference of a model, and how the time after it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import msgspec
import numpy as np

from features.buckets import MS_PER_DAY, day_of
from features.money import minor_exponent
from features.orders import Order
from features.state import EMPTY, BeyondMemory, CustomerState, apply
from model.evaluation import iso_day
from model.monitored import Reference, Week
from model.monitoring import (
    MAX_WINDOWS,
    MIN_CUSTOMERS,
    POOLED,
    WINDOW_DAYS,
    Brought,
    Floats,
    Ints,
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
from model.scoring import Scorer

# Customers looked at; of a larger shop a part, chosen by a hash of their ids.
MAX_CUSTOMERS = 20_000


class MonitorError(Exception):
    """The log or the model does not allow it; the message says what would."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The customers `users` as known at 00:00 of `day`."""

    day: int
    states: list[CustomerState]
    users: list[str]


def seen(orders: Sequence[Order], days: Sequence[int]) -> Iterator[Seen]:
    """The customers at each of the days, which ascend; `orders` sorted by event time."""
    every = 1 + len({order.user_id for order in orders}) // MAX_CUSTOMERS
    states: dict[str, CustomerState] = {}
    position = 0
    for day in days:
        while position < len(orders) and orders[position].ts_ms < day * MS_PER_DAY:
            order = orders[position]
            position += 1
            if every > 1 and crc32(order.user_id.encode()) % every:
                continue
            after = apply(states.get(order.user_id, EMPTY), order)
            if not isinstance(after, BeyondMemory):
                states[order.user_id] = after
        yield Seen(day, list(states.values()), list(states))


def rate_of(scorer: Scorer, users: Sequence[str]) -> Rate:
    """The scorer's CLVs in minor units, as floats, of customers by their place among `users`."""

    def rate(X: Floats, place: Ints) -> Floats:
        if not len(X):
            return np.empty(0)
        if scorer.attributes is not None:
            X = scorer.attributes.beside(X, [users[at] for at in place.tolist()])
        return scorer.rate(X)[0].astype(np.float64)

    return rate


def reference(orders: Sequence[Order], scorer: Scorer, cutoff_day: int) -> Reference | None:
    """The reference of a model from the log it was trained on; None where too few bought.

    Of the last MAX_WINDOWS windows before the cutoff, without those of the log's first horizon,
    when everybody looks new, where there is more than that.
    """
    first_day = day_of(orders[0].ts_ms) if orders else cutoff_day
    horizon = scorer.horizon_days
    ends = list(range(cutoff_day, first_day + WINDOW_DAYS - 1, -WINDOW_DAYS))[:MAX_WINDOWS]
    settled = [end for end in ends if end - WINDOW_DAYS >= first_day + horizon]
    ends = sorted(settled if len(settled) > 3 else ends)
    rows: list[Floats] = []
    clv: list[Floats] = []
    levels: dict[int, list[Brought]] = {days: [] for days in checks_of(horizon)}
    for then in seen(orders, ends):
        rate, found = rate_of(scorer, then.users), buyers(then.states, then.day)
        rows.append(rows_of(then.states, found))
        clv.append(rate(rows[-1], found.place))
        for days, windows in levels.items():
            end = _window_checked_at(then.day, days)
            if end >= ends[0]:
                windows.append(brought(then.states, end, days, rate))
    X = np.concatenate(rows) if rows else np.empty((0, 0))
    if len(X) < MIN_CUSTOMERS:
        return None
    known = [level_of(days, windows) for days, windows in levels.items()]
    major = np.concatenate(clv) / 10.0 ** minor_exponent(scorer.currency)
    return reference_of(X, major, len(ends), [level for level in known if level])


def weeks(
    orders: Sequence[Order], scorer: Scorer, known: Reference, from_day: int
) -> Iterator[Week]:
    """Every window that ends after `from_day`, up to the end of the log's last full day."""
    last_day = day_of(orders[-1].ts_ms) if orders else from_day
    ends = range(from_day + WINDOW_DAYS, last_day + 1, WINDOW_DAYS)
    for then in seen(orders, ends):
        yield week(then, scorer, known)


def week(then: Seen, scorer: Scorer, known: Reference) -> Week:
    """What a look at some customers gives: drift of the last window, and levels of earlier ones."""
    rate, unit = rate_of(scorer, then.users), 10.0 ** minor_exponent(scorer.currency)
    found = buyers(then.states, then.day)
    X = rows_of(then.states, found)
    drifted = drifts(X, rate(X, found.place) / unit, known) if len(X) >= MIN_CUSTOMERS else []
    biases = []
    for level in known.levels:
        end = _window_checked_at(then.day, level.days)
        one = brought(then.states, end, level.days, rate, POOLED)
        if len(one.revenue) >= MIN_CUSTOMERS:
            bias = bias_of(one, level, iso_day(end), len(known.levels))
            biases += [bias] if bias else []
    return Week(iso_day(then.day), len(X), drifted, biases)


def within(known: Reference, horizon_days: int) -> Reference:
    """The reference without the levels that need customers of more than a horizon ago, who may
    be due no more, and so out of a sample of those who are."""
    levels = [one for one in known.levels if one.days + POOLED * WINDOW_DAYS <= horizon_days]
    return msgspec.structs.replace(known, levels=levels)


def _window_checked_at(day: int, days: int) -> int:
    """The end of the last window, on the grid of `day`, all of whose customers have had `days`."""
    return day - -(-days // WINDOW_DAYS) * WINDOW_DAYS
