"""Rolling windows and exponentially decayed sums, as of an instant.

A window of w days ends with the day of `as_of` and begins w - 1 days before it: an order made
on day 0 is in `orders_30d` on day 29 and no longer on day 30, with or without a further event.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from features.arrays import Floats
from features.columns.catalog import HALF_LIVES_DAYS, WINDOWS_DAYS
from features.columns.table import BucketTable, totals
from features.facts.state import HISTORY_DAYS

# Looked up by age instead of computed: the same age gives the same bits in any batch. The last
# weight stands for all ages beyond HISTORY_DAYS, whether their days are summarised yet or not.
_DECAY: Final = np.array(
    [
        np.append(0.5 ** (np.arange(HISTORY_DAYS + 1) / half_life), 0.0)
        for half_life in HALF_LIVES_DAYS
    ]
)
_WINDOWS: Final = np.array(WINDOWS_DAYS)[:, None]


def window_columns(table: BucketTable) -> Floats:
    """Orders, net revenue and average order value (gross per order; 0 without one) in each window
    in turn, shape (3 windows, n); money in minor units."""
    inside = table.age_days < _WINDOWS
    values = [table.orders * inside, table.gross * inside, table.refunded * inside]
    sums = totals(table.row, np.concatenate(values), table.rows)
    orders, gross, refunded = sums.reshape(3, len(_WINDOWS), table.rows)
    columns = np.empty_like(sums)
    columns[0::3] = orders
    np.subtract(gross, refunded, out=columns[1::3])
    np.divide(gross, np.maximum(orders, 1), out=columns[2::3])
    return columns


def decayed_columns(table: BucketTable) -> Floats:
    """Orders and net revenue with each day's weight halved every half-life, of each half-life in
    turn, shape (2 half-lives, n).

    Days beyond HISTORY_DAYS weigh nothing (under 1/8 of an order at the longest half-life).
    """
    weight = _DECAY.take(np.minimum(table.age_days, HISTORY_DAYS + 1), axis=1)
    values = np.empty((2 * len(weight), len(table.row)))
    np.multiply(table.orders, weight, out=values[0::2])
    np.multiply(table.gross - table.refunded, weight, out=values[1::2])
    return totals(table.row, values, table.rows)
