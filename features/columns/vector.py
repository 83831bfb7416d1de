"""The feature vector: what a model sees of a customer as of an instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from features.arrays import Floats
from features.columns.catalog import FEATURES
from features.columns.rfm import rfm_of
from features.columns.table import BEFORE_COLUMNS, BucketTable, tabulate, totals
from features.columns.windows import decayed_columns, window_columns
from features.facts.state import CustomerState
from features.times import UTC, Calendar

# Part of every artifact; a change in any feature's name, place or meaning needs a new version.
FEATURE_VERSION: Final = "1"
FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)


def vectors(pairs: Sequence[tuple[CustomerState, int]], calendar: Calendar = UTC) -> Floats:
    """Feature vectors of (state, as_of in epoch ms) pairs: float64, shape (n, len(FEATURE_NAMES)).

    Each row depends on its own pair alone, to the last bit, in a batch of any size.
    """
    return vectors_of(tabulate(pairs, calendar))


def vectors_of(table: BucketTable) -> Floats:
    """The feature vectors of every row of a bucket table; see `vectors`."""
    # Each row by itself in memory, for sums that hang on how it lies.
    return np.ascontiguousarray(columns_of(table).T)


def columns_of(table: BucketTable, *, windows: bool = True) -> Floats:
    """The features of every row of a bucket table, shape (len(FEATURE_NAMES), n): each column by
    itself in memory. Without `windows`, what follows from them is 0: for a model that does not read
    it."""
    purchases = rfm_of(table)
    out = np.zeros((len(FEATURE_NAMES), table.rows))
    if windows:
        out[:_DECAYED] = in_windows = window_columns(table)
        orders_30, orders_90 = in_windows[_ORDERS_30], in_windows[_ORDERS_90]
        # Smoothed by one order, so that it is 1 where there is nothing to compare.
        out[-1] = (orders_30 + 1) / (orders_90 / 3 + 1)
    out[_DECAYED:_LIFETIME] = decayed_columns(table)
    _write_lifetime(table, out[_LIFETIME:_PURCHASES])
    out[_PURCHASES:_TRENDS] = (
        purchases.frequency,
        purchases.recency_days,
        purchases.T_days,
        purchases.monetary_value_minor,
        purchases.days_since_last_order,
        purchases.last_purchase_gross_minor,
        purchases.gap_mean_days,
        purchases.gap_std_days,
    )
    # Silence in units of the customer's own gap, and purchases a day.
    has_gap = purchases.gap_mean_days > 0
    np.divide(
        purchases.days_since_last_order, purchases.gap_mean_days, out=out[_TRENDS], where=has_gap
    )
    out[_TRENDS + 1] = purchases.purchase_days == 1
    out[_TRENDS + 2] = purchases.frequency / np.maximum(purchases.T_days, 1.0)
    return out


# Where in a vector the windows of 30 and of 90 days are, and where each kind of columns begins.
_ORDERS_30, _ORDERS_90 = (FEATURE_NAMES.index(name) for name in ("orders_30d", "orders_90d"))
_DECAYED, _LIFETIME, _PURCHASES, _TRENDS = (
    FEATURE_NAMES.index(name)
    for name in ("decayed_orders_15d", "orders_lifetime", "frequency", "silence_in_gaps")
)


def _write_lifetime(table: BucketTable, out: Floats) -> None:
    """Over the customer's whole life: orders, net revenue, average order value and the share of
    refunds; money in minor units."""
    orders, gross, refunded = totals(
        table.row, np.array((table.orders, table.gross, table.refunded), np.float64), table.rows
    ) + table.before.T.take(_SUMS, axis=0)
    out[0] = orders
    np.subtract(gross, refunded, out=out[1])
    np.divide(gross, np.maximum(orders, 1), out=out[2])
    np.minimum(refunded / np.maximum(gross, 1), 1.0, out=out[3])


_SUMS: Final = [BEFORE_COLUMNS[name] for name in ("orders", "gross", "refunded")]
