"""The features: a row for each, from which follow the vector's names and whatever is done by name.

To add one: a row here, and its column in `vector` (or in what it puts together). Names are part of
every model, so that raises `vector.FEATURE_VERSION`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

WINDOWS_DAYS: Final = (7, 30, 90, 365)
# Hard windows drop a customer's score on days 7, 30, 90; decayed sums beside them smooth that.
HALF_LIVES_DAYS: Final = (15, 45, 120, 360)


class Group(enum.StrEnum):
    """What a CLV may be high or low by."""

    SILENCE = "silence"
    FREQUENCY = "frequency"
    BASKETS = "baskets"
    REFUNDS = "refunds"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class Feature:
    """What is to be known of a column beside its values.

    `group`: what it says most of. `unit`: of its values.
    `sign`: the direction in which it may move a CLV, 0 for either. While a customer is silent, what
    is counted in a window can only fall and ages can only grow; with these signs so does the CLV,
    and silence alone never looks like a recovery.
    `smooth`: it moves in one direction, and little by little, while a customer is silent. A window
    loses an order on one day; its average order may rise when a small one leaves it, and its net
    revenue when a refund does.
    `floored`: it is taken for 0 below it, where it has to be smooth: the decayed sum of refunds of
    older orders would rise again in silence.
    `ages`: it can only grow as a customer does, and so drifts in every shop that does not stand
    still.
    `derived`: it follows from other features, whatever a row says of it.
    """

    name: str
    group: Group
    unit: str
    sign: int = 0
    smooth: bool = True
    floored: bool = False
    ages: bool = False
    derived: bool = False


_F, _B = Group.FREQUENCY, Group.BASKETS
_MONEY: Final = "minor units"

FEATURES: Final = (
    *(
        feature
        for window in (f"{days}d" for days in WINDOWS_DAYS)
        for feature in (
            Feature(f"orders_{window}", _F, "orders", sign=1, smooth=False),
            Feature(f"net_minor_{window}", _B, _MONEY, sign=1, smooth=False),
            Feature(f"aov_minor_{window}", _B, _MONEY, sign=1, smooth=False),
        )
    ),
    *(
        feature
        for half_life in (f"{days}d" for days in HALF_LIVES_DAYS)
        for feature in (
            Feature(f"decayed_orders_{half_life}", _F, "orders", sign=1),
            Feature(f"decayed_net_minor_{half_life}", _B, _MONEY, sign=1, floored=True),
        )
    ),
    Feature("orders_lifetime", _F, "orders", ages=True),
    Feature("net_minor_lifetime", _B, _MONEY, ages=True),
    Feature("aov_minor_lifetime", _B, _MONEY),
    Feature("refunded_share_lifetime", Group.REFUNDS, "share"),
    Feature("frequency", _F, "purchase days", ages=True),
    Feature("recency_days", _F, "days", ages=True),
    Feature("T_days", _F, "days", sign=-1, ages=True, derived=True),
    Feature("monetary_value_minor", _B, _MONEY),
    Feature("days_since_last_order", Group.SILENCE, "days", sign=-1),
    Feature("last_purchase_gross_minor", _B, _MONEY),
    Feature("gap_mean_days", _F, "days"),
    Feature("gap_std_days", _F, "days"),
    Feature("silence_in_gaps", Group.SILENCE, "gaps", sign=-1, derived=True),
    Feature("single_purchase", _F, "0 or 1"),
    Feature("purchase_rate_per_day", _F, "purchases a day", sign=1, derived=True),
    Feature("orders_trend_30_90", _F, "ratio", sign=1, smooth=False, derived=True),
)

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}
# Attributes of a customer do not move at all, and may move a CLV either way.
_ATTRIBUTE: Final = Feature("", Group.ATTRIBUTES, "")


def feature_of(column: str) -> Feature:
    """The row of a model's column: of a feature, or of an attribute, which every other name is."""
    return _BY_NAME.get(column) or replace(_ATTRIBUTE, name=column)
