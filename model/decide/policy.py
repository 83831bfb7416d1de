"""What a user may set about warnings, and what that means in the scale of a model.

What counts as a churner, as precise and as early, and what the defaults were measured to do, is in
`docs/warnings.md`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np

from features.arrays import Bools, Floats, Ints
from features.times import UTC, Calendar
from model.errors import ModelError

SEGMENTS: Final = ("top", "high", "middle", "low")
SEVERITIES: Final = ("high", "medium", "low")


class PolicyError(ModelError, ValueError):
    """An invalid policy; the message names the field, its value and what it may be."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may set about warnings; all else is learnt from the shop's own past.

    Who is warned of: `floor_percentile`: only customers whose reference reaches this percentile of
    the model's training population; `floor`: the same as an amount of money, in major units,
    instead; `min_orders`: only who bought on so many different days (2 leaves one-time buyers out).

    How early: `early`: share of the customers who leave whose warning has come by half of the
    horizon, as the shop's past has it. How sure: `precision`: instead, the earliest warnings of
    which this share is strictly right, as the shop's past has it.

    How many: `budget_per_day`: at most so many warnings a day (None: all), those with the largest
    P(churn) x (1 + `money` x spend / mean spend). 0 ranks by who is surest to leave, 2 follows the
    money; None: as the shop's past has it.

    Beside that: `segment_percentiles`: lower bounds of top, high and middle.
    `severity_percentiles`: lower bounds of high and medium, for the expected loss of a warning.
    `holdout_share`: share of customers stamped `holdout`, chosen by a stable hash.
    """

    floor_percentile: float = 70.0
    floor: float | None = None
    min_orders: int = 1
    early: float = 0.5
    precision: float | None = None
    budget_per_day: int | None = None
    money: float | None = None
    segment_percentiles: tuple[float, float, float] = (90.0, 70.0, 40.0)
    severity_percentiles: tuple[float, float] = (95.0, 85.0)
    holdout_share: float = 0.0

    def __post_init__(self) -> None:
        percentile, floor = self.floor_percentile, self.floor
        _demand(0 <= percentile <= 100, "floor_percentile", percentile, "0 to 100")
        _demand(floor is None or 0 <= floor < math.inf, "floor", floor, "0 or more, or nothing")
        _demand(self.min_orders >= 1, "min_orders", self.min_orders, "1 or more")
        _demand(0 < self.early < 1, "early", self.early, "a share between 0 and 1")
        sure, budget = self.precision, self.budget_per_day
        valid = sure is None or 0 < sure < 1
        _demand(valid, "precision", sure, "a share between 0 and 1, or nothing")
        _demand(budget is None or budget >= 1, "budget_per_day", budget, "1 or more, or nothing")
        weighs = self.money is None or 0 <= self.money <= 100
        _demand(weighs, "money", self.money, "0 to 100, or nothing")
        for name in ("segment_percentiles", "severity_percentiles"):
            bounds = (100, *getattr(self, name), 0)
            falling = all(upper >= lower for upper, lower in pairwise(bounds))
            _demand(falling, name, bounds[1:-1], "percentiles that fall")
        _demand(0 <= self.holdout_share <= 1, "holdout_share", self.holdout_share, "0 to 1")

    @property
    def version(self) -> str:
        """Eight hex digits that name this very policy in every warning and in its id."""
        return _version_of(self)


@lru_cache(maxsize=64)
def _version_of(policy: Policy) -> str:
    # 70 and 70.0 are the same policy, and JSON writes them differently.
    named = {name: _plain(value) for name, value in asdict(policy).items()}
    if policy.budget_per_day is None:
        del named["money"]  # how to rank, where nothing is
    return hashlib.sha256(msgspec.json.encode(named, order="sorted")).hexdigest()[:8]


def _plain(value: object) -> object:
    """A setting as it is named in the version: every number as a float."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return float(value) if isinstance(value, int | float) else value


def _demand(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise PolicyError(f"{field} is {value}; it must be {remedy}")


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy bound to a model: shares of the horizon in days, percentiles in money.

    `floor_minor`, `segment_floors_minor` and `severity_floors_minor` are CLVs in minor units.
    `threshold`: the index (`model.estimators.risk.index`) from which a silence warns; None where
    there was too little to learn it from. `money`: how a budget weighs it. `refreshes`: whether
    silent customers are scored for their published score; where nobody reads it, only to decide.
    `calendar` has the days of silence.
    """

    policy: Policy
    horizon_days: int
    floor_minor: int
    segment_floors_minor: tuple[int, ...]
    severity_floors_minor: tuple[int, ...]
    threshold: float | None = None
    money: float = 0.0
    refreshes: bool = True
    calendar: Calendar = UTC

    @property
    def refresh_days(self) -> int | None:
        """Days between scores of a silent customer that are published anyway; None: never."""
        return max(1, self.horizon_days // 12) if self.refreshes else None

    @property
    def first_silence_days(self) -> int:
        """Days without an order before silence may warn: a third of the horizon, or half of it
        where no threshold could be learnt."""
        return -(-self.horizon_days // (2 if self.threshold is None else 3))

    @property
    def late_silence_days(self) -> int:
        """Days without an order from which silence warns whatever the index: 5/6 of the horizon."""
        return -(-5 * self.horizon_days // 6)

    @property
    def swap_spread_days(self) -> int:
        """Days over which the warnings that a new model brings are spread."""
        return max(1, self.horizon_days // 6)

    def is_sure(self, silent_days: int, index: float) -> bool:
        """Whether a silence of so many days, with this index, is one to warn of."""
        if silent_days < self.first_silence_days:
            return False
        if self.threshold is None or silent_days >= self.late_silence_days:
            return True
        return index >= self.threshold

    def are_sure(self, silent_days: Ints, index: Floats) -> Bools:
        """`is_sure` of many, shape (n,)."""
        if self.threshold is None:
            return silent_days >= self.first_silence_days
        late = silent_days >= self.late_silence_days
        return (silent_days >= self.first_silence_days) & (late | (index >= self.threshold))

    @property
    def enough_purchase_days(self) -> int:
        """How many purchase days have to be counted to apply the policy."""
        return max(2, self.policy.min_orders)

    def segment(self, clv_minor: int) -> str:
        """The value tier of a CLV: top, high, middle or low."""
        return _tier(clv_minor, self.segment_floors_minor, SEGMENTS)

    def segments(self, clv_minor: Sequence[int]) -> list[str]:
        """The value tiers of many CLVs."""
        rising, names = self.segment_floors_minor[::-1], SEGMENTS[::-1]
        tiers = np.searchsorted(rising, np.asarray(clv_minor, np.int64), side="right")
        return [names[tier] for tier in tiers.tolist()]

    def severity(self, expected_loss_minor: float) -> str:
        """How bad a warning is, by P(churn) × the CLV that was there to lose: high, medium or low.

        Source of the loss: Glady, Baesens & Croux (2009), "Modeling churn using customer lifetime
        value", where the cost of missing a churner is the CLV lost.
        """
        return _tier(expected_loss_minor, self.severity_floors_minor, SEVERITIES)


def _tier(value: float, floors: tuple[int, ...], names: tuple[str, ...]) -> str:
    for name, floor in zip(names, floors, strict=False):
        if value >= floor:
            return name
    return names[-1]
