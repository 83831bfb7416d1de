"""The direction in which a feature may move a CLV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sign_of(feature: str) -> int:
    """The sign that a feature's weight in the CLV may have; 0 for either.

    While a customer is silent, what is counted in a window can only fall and ages can only grow.
    With these signs so does the CLV, and silence alone never looks like a recovery.
    """
    if feature in ("T_days", "days_since_last_order", "silence_in_gaps"):
        return -1
    windowed = feature.startswith(("orders_", "net_minor_", "aov_minor_", "decayed_"))
    if feature == "purchase_rate_per_day" or (windowed and "lifetime" not in feature):
        return 1
    return 0


def smooth_in_silence(feature: str) -> bool:
    """Whether a feature moves in one direction, and little by little, while a customer is silent.

    A window loses an order on one day; its average order may rise when a small one leaves it, and
    its net revenue when a refund does. Decayed sums do neither, nor do features of a whole life.
    Attributes of a customer do not move at all.
    """
    windowed = feature.startswith(("orders_", "net_minor_", "aov_minor_"))
    return not windowed or feature.endswith("_lifetime")


def never_negative(feature: str) -> bool:
    """Whether a feature is taken for 0 below it: the decayed sum of refunds of older orders would
    rise again in silence."""
    return feature.startswith("decayed_net_minor_")


def smooth_columns(columns: Sequence[str]) -> tuple[list[int], list[int]]:
    """Which of the columns are `smooth_in_silence`, and which of those, counted among themselves,
    are `never_negative`."""
    kept = [at for at, name in enumerate(columns) if smooth_in_silence(name)]
    floored = [at for at, column in enumerate(kept) if never_negative(columns[column])]
    return kept, floored


def smooth_rows(
    X: NDArray[np.float64], kept: Sequence[int], floored: Sequence[int]
) -> NDArray[np.float64]:
    """The columns of rows that `smooth_columns` found: a copy, of shape (n, len(kept)). Of a silent
    customer each of them moves one way, and little by little."""
    rows = X[:, kept]
    for column in floored:
        np.maximum(rows[:, column], 0.0, out=rows[:, column])
    return rows
