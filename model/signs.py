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
