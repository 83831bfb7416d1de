"""Rolling windows and exponentially decayed sums, as of an instant.

A window of w days ends with the day of `as_of` and begins w - 1 days before it: an order made
on day 0 is in `orders_30d` on day 29 and no longer on day 30, with or without a further event.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from features.arrays import Floats
from features.columns.catalog import HALF_LIVES_DAYS, WINDOWS_DAYS
from features.columns.table import BucketTable
from features.facts.state import HISTORY_DAYS

# Looked up by age instead of computed: the same age gives the same bits in any batch. The last
# weight stands for all ages beyond HISTORY_DAYS, whether their days are summarised yet or not.
_DECAY: Final = {
    half_life: np.append(0.5 ** (np.arange(HISTORY_DAYS + 1) / half_life), 0.0)
    for half_life in HALF_LIVES_DAYS
}


def window_columns(table: BucketTable) -> dict[str, Floats]:
    """Orders, net revenue and average order value (gross per order; 0 without one) in each window,
    arrays of shape (n,); money in minor units."""
    columns: dict[str, Floats] = {}
    for days in WINDOWS_DAYS:
        inside = table.age_days < days
        orders = table.sums(table.orders * inside)
        gross = table.sums(table.gross * inside)
        refunded = table.sums(table.refunded * inside)
        columns[f"orders_{days}d"] = orders
        columns[f"net_minor_{days}d"] = gross - refunded
        columns[f"aov_minor_{days}d"] = gross / np.maximum(orders, 1)
    return columns


def decayed_columns(table: BucketTable) -> dict[str, Floats]:
    """Orders and net revenue with each day's weight halved every `half_life` days, shape (n,).

    Days beyond HISTORY_DAYS weigh nothing (under 1/8 of an order at the longest half-life).
    """
    age = np.minimum(table.age_days, HISTORY_DAYS + 1)
    net = table.gross - table.refunded
    columns: dict[str, Floats] = {}
    for half_life in HALF_LIVES_DAYS:
        weight = _DECAY[half_life][age]
        columns[f"decayed_orders_{half_life}d"] = table.sums(table.orders * weight)
        columns[f"decayed_net_minor_{half_life}d"] = table.sums(net * weight)
    return columns
