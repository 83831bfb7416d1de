"""The feature vector: what a model sees of a customer as of an instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from features.arrays import Floats
from features.columns.catalog import FEATURES
from features.columns.rfm import RFM, rfm_of
from features.columns.table import BEFORE_COLUMNS, BucketTable, tabulate
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
    columns = columns_of(table)
    out = np.empty((table.rows, len(FEATURE_NAMES)))
    for i, name in enumerate(FEATURE_NAMES):
        out[:, i] = columns[name]
    return out


def columns_of(table: BucketTable) -> dict[str, Floats]:
    """The features of every row of a bucket table, by name, in the order of the catalog."""
    purchases = rfm_of(table)
    windows = window_columns(table)
    return (
        windows
        | decayed_columns(table)
        | _lifetime_columns(table)
        | _purchase_columns(purchases)
        | _trend_columns(windows, purchases)
    )


def _lifetime_columns(table: BucketTable) -> dict[str, Floats]:
    """Over the customer's whole life; money in minor units."""
    before = {name: table.before[:, i] for name, i in BEFORE_COLUMNS.items()}
    orders = table.sums(table.orders) + before["orders"]
    gross = table.sums(table.gross) + before["gross"]
    refunded = table.sums(table.refunded) + before["refunded"]
    return {
        "orders_lifetime": orders,
        "net_minor_lifetime": gross - refunded,
        "aov_minor_lifetime": gross / np.maximum(orders, 1),
        "refunded_share_lifetime": np.minimum(refunded / np.maximum(gross, 1), 1.0),
    }


def _purchase_columns(purchases: RFM) -> dict[str, Floats]:
    return {
        "frequency": purchases.frequency,
        "recency_days": purchases.recency_days,
        "T_days": purchases.T_days,
        "monetary_value_minor": purchases.monetary_value_minor,
        "days_since_last_order": purchases.days_since_last_order,
        "last_purchase_gross_minor": purchases.last_purchase_gross_minor,
        "gap_mean_days": purchases.gap_mean_days,
        "gap_std_days": purchases.gap_std_days,
    }


def _trend_columns(windows: dict[str, Floats], purchases: RFM) -> dict[str, Floats]:
    """Ratios: silence in units of the customer's own gap, purchases a day, the last 30 days against
    the last 90 (smoothed by one order, so that it is 1 where there is nothing to compare)."""
    has_gap = purchases.gap_mean_days > 0
    gap = np.where(has_gap, purchases.gap_mean_days, 1.0)
    return {
        "silence_in_gaps": np.where(has_gap, purchases.days_since_last_order / gap, 0.0),
        "single_purchase": (purchases.purchase_days == 1).astype(np.float64),
        "purchase_rate_per_day": purchases.frequency / np.maximum(purchases.T_days, 1.0),
        "orders_trend_30_90": (windows["orders_30d"] + 1) / (windows["orders_90d"] / 3 + 1),
    }
