"""Many customers' day buckets as one flat table, for NumPy to work on all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Floats, Ints
from features.facts import buckets
from features.facts.state import NOTHING_BEFORE, Before, CustomerState
from features.times import UTC, Calendar


@dataclass(frozen=True, slots=True)
class BucketTable:
    """The buckets of n customers, each as of an instant of its own.

    `row`, `day`, `age_days`, `orders`, `gross` and `refunded` have one element for each bucket that
    is not later than its customer's `as_of` day, in order of row and day; the `before_…` arrays and
    `as_of_day` have one for each of the n rows. Money in minor units.
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


# Columns of `BucketTable.before`, which are the fields of `Before`.
BEFORE_COLUMNS = {name: i for i, name in enumerate(Before.__struct_fields__)}
_ZEROS = (0,) * len(BEFORE_COLUMNS)


def tabulate(pairs: Sequence[tuple[CustomerState, int]], calendar: Calendar = UTC) -> BucketTable:
    """The bucket table of (state, as_of in epoch ms) pairs. Buckets later than `as_of` are left
    out, so a state can be read as of any of its own last HISTORY_DAYS days."""
    n = len(pairs)
    as_of_day = np.fromiter((calendar.day_of(as_of_ms) for _, as_of_ms in pairs), np.int64, n)
    raw = np.frombuffer(b"".join([state.buckets for state, _ in pairs]), buckets.DTYPE)
    counts = np.fromiter((len(state.buckets) for state, _ in pairs), np.int64, n)
    row = np.repeat(np.arange(n), counts // buckets.RECORD_BYTES)
    day = raw["day"].astype(np.int64)
    age_days = as_of_day[row] - day
    seen = age_days >= 0
    if not seen.all():
        raw, row, day, age_days = raw[seen], row[seen], day[seen], age_days[seen]
    return BucketTable(
        rows=n,
        as_of_day=as_of_day,
        row=row,
        day=day,
        age_days=age_days,
        orders=raw["orders"].astype(np.int64),
        gross=raw["gross"].astype(np.int64),
        refunded=raw["refunded"].astype(np.int64),
        before=_before(pairs),
    )


def _before(pairs: Sequence[tuple[CustomerState, int]]) -> Ints:
    """Shape (n, len(BEFORE_COLUMNS)): the summaries of the days before the buckets."""
    if all(state.before is NOTHING_BEFORE for state, _ in pairs):
        return np.zeros((len(pairs), len(BEFORE_COLUMNS)), np.int64)
    return np.array(
        [_ZEROS if state.before is NOTHING_BEFORE else _fields(state.before) for state, _ in pairs],
        np.int64,
    ).reshape(len(pairs), len(BEFORE_COLUMNS))


def _fields(before: Before) -> tuple[int, ...]:
    return tuple(getattr(before, name) for name in BEFORE_COLUMNS)
