"""What a log tells of a past day that nobody knew then: when everybody bought, and when next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.arrays import Floats, Ints
from features.events.orders import Order
from features.times import UTC, Calendar
from model.backtest.panel import NEVER
from model.files.columns import OrderColumns

_DAY_BITS: Final = 24
_FIRST_DAY: Final = -(2**23)


@dataclass(frozen=True, slots=True)
class Period:
    """What is judged of a log that has the days from `first_day` to before `end_day`: the
    warnings from `from_day` on, and the silences that begin before `until_day` (None: all)."""

    first_day: int
    from_day: int
    until_day: int | None
    end_day: int
    horizon_days: int

    def counts(self, since: int) -> bool:
        """Whether a silence that began on a day is judged: with a horizon of log after it."""
        until = self.until_day if self.until_day is not None else NEVER
        return self.from_day <= since < until and since + self.horizon_days < self.end_day

    @property
    def days(self) -> range:
        """The days whose warnings are counted."""
        return range(self.from_day, self.end_day)


class Purchases:
    """The days with an order that nobody took back. Customers are numbered by the first of these,
    and `users` has their ids; `customer` and `day`, shape (n,), are in order of both."""

    def __init__(self, orders: Sequence[Order], calendar: Calendar = UTC) -> None:
        """`orders` sorted by event time."""
        columns = OrderColumns.of(orders)
        bought = columns.kept_orders()
        user, first, number = np.unique(
            columns.user[bought], return_index=True, return_inverse=True
        )
        by_first = np.argsort(first)
        self.users = [columns.users[at] for at in user[by_first].tolist()]
        self._numbers = {user: number for number, user in enumerate(self.users)}
        customer = np.argsort(by_first)[number]
        self._keys = np.unique(_keys(customer, calendar.days_of(columns.ts_ms[bought])))
        self.customer = self._keys >> _DAY_BITS
        self.day = (self._keys & ((1 << _DAY_BITS) - 1)) + _FIRST_DAY
        self._first = np.searchsorted(self.customer, np.arange(len(self.users)))
        self._by_day = np.argsort(self.day, kind="stable")
        self._days = self.day[self._by_day]

    def numbers(self, users: Iterable[str]) -> Ints:
        """The numbers of customers; -1 where one never bought."""
        return np.array([self._numbers.get(user, -1) for user in users], np.int64)

    def buyers(self, day: int) -> Ints:
        """Who bought on a day, ascending."""
        first, last = np.searchsorted(self._days, [day, day + 1])
        return np.asarray(self.customer[self._by_day[first:last]], np.int64)

    def following(self, customer: Ints, day: Ints) -> Ints:
        """The day of each customer's next order after a day, or NEVER."""
        at = self._after(customer, day)
        there = np.minimum(at, len(self.day) - 1)
        is_there = (at < len(self.day)) & (self.customer[there] == customer)
        return np.where(is_there, self.day[there], NEVER)

    def number(self, customer: Ints, until: Ints) -> Ints:
        """How many purchase days each customer has up to a day."""
        return np.asarray(self._after(customer, until) - self._first[customer], np.int64)

    def median_gap(self, customer: Ints, until: Ints) -> Floats:
        """The median of the gaps between a customer's orders up to a day; 0 without two orders."""
        count, found = self.number(customer, until), np.zeros(len(customer))
        for number in np.unique(count[count > 1]).tolist():
            which = np.flatnonzero(count == number)
            at = self._first[customer[which]][:, None] + np.arange(number)
            found[which] = np.median(np.diff(self.day[at], axis=1), axis=1)
        return found

    def _after(self, customer: Ints, day: Ints) -> Ints:
        return np.searchsorted(self._keys, _keys(customer, day), side="right")


def _keys(customer: Ints, day: Ints) -> Ints:
    return (customer << _DAY_BITS) + (day - _FIRST_DAY)


def purchase_days(orders: Sequence[Order]) -> dict[str, list[int]]:
    """The UTC days with an order that nobody took back, ascending, of each customer; `orders`
    sorted by event time."""
    bought = Purchases(orders)
    days = np.split(bought.day, bought._first[1:])
    return dict(zip(bought.users, (each.tolist() for each in days), strict=False))
