"""The direction in which a feature may move a CLV."""

from __future__ import annotations


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
