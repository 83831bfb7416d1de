"""Many customers' day buckets as one flat table, for NumPy to work on all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from features.arrays import Bools, Floats, Ints, flat_places
from features.facts import buckets
from features.facts.state import NOTHING_BEFORE, Before, CustomerState
from features.times import UTC, Calendar


class Gaps(NamedTuple):
    """Gaps between purchase days in days, by row and newest last. `age`: how many newer ones the
    row has; `number`: of each row."""

    row: Ints
    days: Ints
    age: Ints
    number: Ints


class PurchaseDays(NamedTuple):
    """What n customers bought, shape (n,): on how many days, the first and the last of them with
    their gross revenue (0 without one); `gaps` are those that are not summarised. `bought`: which
    buckets have a purchase; None: all."""

    days: Ints
    first_day: Ints
    first_gross: Ints
    last_day: Ints
    last_gross: Ints
    gaps: Gaps
    bought: Bools | None


@dataclass(frozen=True)
class BucketTable:
    """The buckets of n customers, each as of an instant of its own.

    `row`, `day`, `age_days`, `orders`, `gross` and `refunded` have one element for each bucket that
    is not later than its customer's `as_of` day, in order of row and day; `before` and
    `as_of_day` have a row for each of the n. Money in minor units.
    """

    rows: int
    as_of_day: Ints
    row: Ints
    day: Ints
    age_days: Ints
    orders: Ints
    gross: Ints
    refunded: Ints
    before: Ints

    def sums(self, values: Ints | Floats) -> Floats:
        """Sum of a per-bucket array for each row, shape (n,). Each row is added up in day order by
        itself, so that its result does not depend on the rows around it."""
        # Without a single bucket bincount returns integers.
        return np.asarray(np.bincount(self.row, values, self.rows), np.float64)

    @cached_property
    def purchases(self) -> PurchaseDays:
        """What each row bought, as of its day."""
        row, day, gross = self.row, self.day, self.gross
        bought = self.orders > 0
        # Refunds come on days of their own seldom.
        alike = bool(bought.all())
        if not alike:
            row, day, gross = row[bought], day[bought], gross[bought]
        number, before = np.bincount(row, minlength=self.rows), self.before.T
        days_before = before[BEFORE_COLUMNS["purchase_days"]]
        has, after = number > 0, np.cumsum(number)
        is_new = has & (days_before == 0)
        first, last = (after - number)[has], after[has] - 1
        new = first if is_new.all() else (after - number)[is_new]
        first_day, first_gross, last_day, last_gross = before.take(_ENDS, axis=0)
        first_day[is_new], first_gross[is_new] = day[new], gross[new]
        gaps, known = np.empty(len(row), np.int64), np.ones(len(row), bool)
        np.subtract(day[1:], day[:-1], out=gaps[1:])
        gaps[first] = day[first] - last_day[has]
        known[new] = False
        last_day[has], last_gross[has] = day[last], gross[last]
        row, gaps, count = row[known], gaps[known], number - is_new
        age = np.repeat(np.cumsum(count), count) - np.arange(1, len(row) + 1)
        found = Gaps(row, gaps, age, count)
        return PurchaseDays(
            number + days_before,
            first_day,
            first_gross,
            last_day,
            last_gross,
            found,
            None if alike else bought,
        )


def totals(row: Ints, values: Floats, rows: int) -> Floats:
    """Sums by row of k arrays at once, shape (k, rows) for values of shape (k, b): each is added up
    in its own order."""
    if len(row) > _MANY:
        return np.array([np.bincount(row, one, rows) for one in values])
    place = row + rows * np.arange(len(values))[:, None]
    found = np.bincount(place.ravel(), values.ravel(), rows * len(values))
    return np.asarray(found.reshape(len(values), rows), np.float64)


# Where to look for places costs more than to call once for each array.
_MANY: Final = 1_000


# Columns of `BucketTable.before`, which are the fields of `Before`.
BEFORE_COLUMNS = {name: i for i, name in enumerate(Before.__struct_fields__)}
_ENDS = [
    BEFORE_COLUMNS[name] for name in ("first_day", "first_day_gross", "last_day", "last_day_gross")
]
_ZEROS = (0,) * len(BEFORE_COLUMNS)


class Bought(NamedTuple):
    """First and last purchase day of n customers, 0 without one, and on how many days they bought;
    shape (n,)."""

    first_day: Ints
    last_day: Ints
    days: Ints


@dataclass(frozen=True, slots=True)
class FactColumns:
    """The facts of n customers as arrays, to be looked at as of many instants each.

    `start` and `count`, shape (n,): where each customer's buckets are in `day`, `orders`, `gross`
    and `refunded`, and how many. `before`: as in BucketTable. Money in minor units.
    """

    start: Ints
    count: Ints
    day: Ints
    orders: Ints
    gross: Ints
    refunded: Ints
    before: Ints

    @classmethod
    def of(cls, states: Sequence[CustomerState]) -> FactColumns:
        """The arrays of some customers."""
        raw = np.frombuffer(b"".join([state.buckets for state in states]), buckets.DTYPE)
        size = np.array([len(state.buckets) for state in states], np.int64)
        count = size // buckets.RECORD_BYTES
        return cls(
            start=np.cumsum(count) - count,
            count=count,
            day=raw["day"].astype(np.int64),
            orders=raw["orders"].astype(np.int64),
            gross=raw["gross"].astype(np.int64),
            refunded=raw["refunded"].astype(np.int64),
            before=_before(states),
        )

    @classmethod
    def together(cls, parts: Sequence[FactColumns]) -> FactColumns:
        """The customers of several columns, one after the other."""
        sizes = np.cumsum([0, *(len(part.day) for part in parts)])
        start = [part.start + size for part, size in zip(parts, sizes, strict=False)]
        names = ("count", "day", "orders", "gross", "refunded", "before")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(start=np.concatenate(start), **joined)

    def bought(self) -> Bought:
        """When each customer bought."""
        bought = self.orders > 0
        owner = np.repeat(np.arange(len(self.count)), self.count)[bought]
        day = self.day[bought]
        before = {name: self.before[:, i] for name, i in BEFORE_COLUMNS.items()}
        first_day, last_day = before["first_day"].copy(), before["last_day"].copy()
        # Of several values for one element the last counts.
        last_day[owner] = day
        new = before["purchase_days"][owner] == 0
        first_day[owner[new][::-1]] = day[new][::-1]
        number = np.bincount(owner, minlength=len(self.count)) + before["purchase_days"]
        return Bought(first_day, last_day, number)

    def at(self, customer: Ints, as_of_day: Ints) -> BucketTable:
        """The bucket table of some customers, by their place among the n, each as of a day. Buckets
        later than that are left out."""
        count = self.count[customer]
        row = np.repeat(np.arange(len(customer)), count)
        place = flat_places(self.start[customer], count)
        day = self.day[place]
        age_days = as_of_day[row] - day
        seen = age_days >= 0
        if not seen.all():
            row, place, day, age_days = row[seen], place[seen], day[seen], age_days[seen]
        return BucketTable(
            rows=len(customer),
            as_of_day=as_of_day,
            row=row,
            day=day,
            age_days=age_days,
            orders=self.orders[place],
            gross=self.gross[place],
            refunded=self.refunded[place],
            before=self.before[customer],
        )

    def everybody(self, day: int) -> BucketTable:
        """The bucket table of all customers as of a day."""
        count = len(self.count)
        return self.at(np.arange(count), np.full(count, day, np.int64))


def tabulate(pairs: Sequence[tuple[CustomerState, int]], calendar: Calendar = UTC) -> BucketTable:
    """The bucket table of (state, as_of in epoch ms) pairs. Buckets later than `as_of` are left
    out, so a state can be read as of any of its own last HISTORY_DAYS days."""
    as_of_day = np.array([calendar.day_of(as_of_ms) for _, as_of_ms in pairs], np.int64)
    return FactColumns.of([state for state, _ in pairs]).at(np.arange(len(pairs)), as_of_day)


def _before(states: Sequence[CustomerState]) -> Ints:
    """Shape (n, len(BEFORE_COLUMNS)): the summaries of the days before the buckets."""
    if all(state.before is NOTHING_BEFORE for state in states):
        return np.zeros((len(states), len(BEFORE_COLUMNS)), np.int64)
    return np.array(
        [_ZEROS if state.before is NOTHING_BEFORE else _fields(state.before) for state in states],
        np.int64,
    ).reshape(len(states), len(BEFORE_COLUMNS))


def _fields(before: Before) -> tuple[int, ...]:
    return tuple(getattr(before, name) for name in BEFORE_COLUMNS)
