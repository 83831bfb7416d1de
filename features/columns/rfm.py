"""Frequency, recency, T and monetary value, and the gaps between purchases.

Purchase periods are days of the shop's zone: several orders on one day are one purchase, as in
Fader, Hardie & Lee (2005), "Counting your customers the easy way", where frequency, recency and T
are x, t_x, T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Floats
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
    bought, before = table.purchases, table.before.T
    gaps_sq = np.bincount(bought.gaps.row, bought.gaps.days**2, table.rows).astype(np.int64)
    gaps_sq += before[BEFORE_COLUMNS["gap_sq_days2"]]
    gross = table.gross if bought.bought is None else table.gross * bought.bought
    total_gross = table.sums(gross) + before[BEFORE_COLUMNS["gross"]]

    has = bought.days > 0
    frequency = np.maximum(bought.days - 1, 0)
    # Of who bought nothing both days are 0.
    recency = bought.last_day - bought.first_day
    gaps = np.maximum(frequency, 1)
    # In integers up to the division: the difference of two large squares would lose its digits.
    variance = (gaps_sq * gaps - recency**2) / gaps**2
    whole = (
        bought.days,
        frequency,
        recency,
        (table.as_of_day - bought.first_day) * has,
        (table.as_of_day - bought.last_day) * has,
        bought.last_gross,
    )
    days, repeats, recency_days, age_days, silence_days, last = np.array(whole, np.float64)
    return RFM(
        purchase_days=days,
        frequency=repeats,
        recency_days=recency_days,
        T_days=age_days,
        monetary_value_minor=np.where(frequency > 0, (total_gross - bought.first_gross) / gaps, 0),
        days_since_last_order=silence_days,
        last_purchase_gross_minor=last,
        gap_mean_days=recency / gaps,
        gap_std_days=np.sqrt(variance),
    )
