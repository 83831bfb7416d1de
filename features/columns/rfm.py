"""Frequency, recency, T and monetary value, and the gaps between purchases.

Purchase periods are days of the shop's zone: several orders on one day are one purchase, as in
Fader, Hardie & Lee (2005), "Counting your customers the easy way", where frequency, recency and T
are x, t_x, T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Floats, Ints
from features.columns.table import BEFORE_COLUMNS, BucketTable, tabulate
from features.facts.state import CustomerState


@dataclass(frozen=True, slots=True)
class RFM:
    """Arrays of shape (n,), float64, days and minor units.

    `frequency`: distinct purchase days minus one. `recency_days`: age at the last purchase.
    `T_days`: age at `as_of`. `monetary_value_minor`: mean gross value of the repeat purchase days,
    0 without one. `last_purchase_gross_minor`: gross value of the last purchase day.
    `gap_mean_days`, `gap_std_days`: between consecutive purchase days (population deviation), 0
    without a gap. A customer without a purchase has 0 everywhere.
    """

    purchase_days: Floats
    frequency: Floats
    recency_days: Floats
    T_days: Floats
    monetary_value_minor: Floats
    days_since_last_order: Floats
    last_purchase_gross_minor: Floats
    gap_mean_days: Floats
    gap_std_days: Floats


def rfm(pairs: Sequence[tuple[CustomerState, int]]) -> RFM:
    """RFM of (state, as_of in epoch ms) pairs; `recency_days <= T_days` always."""
    return rfm_of(tabulate(pairs))


def rfm_of(table: BucketTable) -> RFM:
    """RFM of every row of a bucket table."""
    before = {name: table.before[:, i] for name, i in BEFORE_COLUMNS.items()}
    bought = table.orders > 0
    row, day, gross = table.row[bought], table.day[bought], table.gross[bought]
    recent = np.bincount(row, minlength=table.rows)
    had_before = before["purchase_days"] > 0
    purchase_days = recent + before["purchase_days"]

    first_at, last_at = _ends(recent)
    has_recent = recent > 0
    first_day = before["first_day"].copy()
    first_gross = before["first_day_gross"].copy()
    last_day = before["last_day"].copy()
    last_gross = before["last_day_gross"].copy()
    only_recent = has_recent & ~had_before
    first_day[only_recent] = day[first_at[only_recent]]
    first_gross[only_recent] = gross[first_at[only_recent]]
    last_day[has_recent] = day[last_at[has_recent]]
    last_gross[has_recent] = gross[last_at[has_recent]]

    gap_sq = before["gap_sq_days2"] + _gap_squares(table.rows, row, day)
    joint = has_recent & had_before
    gap_sq[joint] += (day[first_at[joint]] - before["last_day"][joint]) ** 2

    frequency = np.maximum(purchase_days - 1, 0)
    bought_ever = purchase_days > 0
    recency = np.where(bought_ever, last_day - first_day, 0)
    gaps = np.maximum(frequency, 1)
    gap_mean = recency / gaps
    # In integers up to the division: the difference of two large squares would lose its digits.
    variance = (gap_sq * gaps - recency**2) / gaps**2
    total_gross = table.sums(table.gross * bought) + before["gross"]
    return RFM(
        purchase_days=purchase_days.astype(np.float64),
        frequency=frequency.astype(np.float64),
        recency_days=recency.astype(np.float64),
        T_days=np.where(bought_ever, table.as_of_day - first_day, 0).astype(np.float64),
        monetary_value_minor=np.where(frequency > 0, (total_gross - first_gross) / gaps, 0.0),
        days_since_last_order=np.where(bought_ever, table.as_of_day - last_day, 0).astype(float),
        last_purchase_gross_minor=last_gross.astype(np.float64),
        gap_mean_days=gap_mean,
        gap_std_days=np.sqrt(variance),
    )


def _ends(counts: Ints) -> tuple[Ints, Ints]:
    """Positions of each row's first and last element in arrays grouped by row. Rows with a count
    of 0 have meaningless positions."""
    after = np.cumsum(counts)
    return after - counts, after - 1


def _gap_squares(rows: int, row: Ints, day: Ints) -> Ints:
    """Sum of squared gaps between consecutive purchase days of each row."""
    same = row[1:] == row[:-1]
    squares = (np.diff(day) ** 2) * same
    return np.bincount(row[1:], weights=squares, minlength=rows).astype(np.int64)
