"""What a user may set about warnings, and what that means in the scale of a model.

What counts as a churner, as precise and as early, and what the defaults were measured to do, is in
`docs/warnings.md`.
"""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from features.times import UTC, Calendar
from model.errors import ModelError

SEGMENTS: Final = ("top", "high", "middle", "low")
SEVERITIES: Final = ("high", "medium", "low")


class PolicyError(ModelError, ValueError):
    """An invalid policy; the message names the field, its value and what it may be."""


class ReferenceKind(enum.StrEnum):
    """What a CLV is compared with: the highest at an event of the last `reference_days`, or that at
    the last order."""

    PEAK = "peak"
    LAST_ORDER = "last_order"


class Stake(enum.StrEnum):
    """What a customer is worth to a budget: what was spent within the last horizon, or the CLV that
    the rule compares with."""

    SPEND = "spend"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may set about warnings. Defaults are those measured in `docs/warnings.md`.

    What a fall is:
    `reference`: what the CLV is compared with (`ReferenceKind`); `reference_days`: how far back a
    peak counts.
    `drop`: share of the reference that must be gone after a silence. `event_drop`: the same where
    an order or refund lowers the CLV itself.

    Who is warned of:
    `floor_percentile`: only customers whose reference reaches this percentile of the model's
    training population. `floor`: the same as an amount of money, in major units, instead.
    `min_orders`: only who bought on so many different days (2 leaves one-time buyers out);
    `min_history_days`: only so long after the first purchase.

    When:
    `min_silence_days`: days without an order before silence counts (None: half the horizon).
    `one_time_silence_days`: the same for those who bought on one day only (None: no different).
    `churn_percentile`: silence warns once P(churn) reaches this percentile of the active customers
    in training (0: whatever it is), or after `late_silence_days` of it (None: five sixths of the
    horizon). `cooldown_days`: days after a warning without another one of the customer. The rule
    is armed again by the next order, not by a higher score. `swap_spread_days`: days over which
    the warnings that a new model brings for silences already judged are spread (0: all at once).

    How many:
    `budget_per_day`: at most so many warnings a day, those with the largest P(churn) to the power
    `budget_certainty` × the stake that `budget_value` names (None: all). The power weighs being
    right against money: 1 is the most money, more are surer; 1 with the reference is the expected
    loss. What an order or refund fires then waits for the next instant, and competes there.

    Beside that:
    `grid_days`: days between two instants at which silence is judged. `refresh_days`: days between
    scores of a silent customer that are published anyway (None: never). `segment_percentiles`:
    lower bounds of top, high and middle. `severity_percentiles`: lower bounds of high and medium,
    for the expected loss of a warning. `holdout_share`: share of customers stamped `holdout`,
    chosen by a stable hash.
    """

    reference: ReferenceKind = ReferenceKind.PEAK
    reference_days: int = 90
    drop: float = 0.10
    event_drop: float = 0.30
    floor_percentile: float = 70.0
    floor: float | None = None
    min_orders: int = 1
    min_history_days: int = 0
    min_silence_days: int | None = None
    one_time_silence_days: int | None = None
    churn_percentile: float = 50.0
    late_silence_days: int | None = None
    cooldown_days: int = 0
    swap_spread_days: int = 14
    budget_per_day: int | None = None
    budget_value: Stake = Stake.SPEND
    budget_certainty: float = 3.5
    grid_days: int = 1
    refresh_days: int | None = 7
    segment_percentiles: tuple[float, float, float] = (90.0, 70.0, 40.0)
    severity_percentiles: tuple[float, float] = (95.0, 85.0)
    holdout_share: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("reference", ReferenceKind), ("budget_value", Stake)):
            kinds, kind = [each.value for each in known], getattr(self, name)
            _demand(kind in kinds, name, kind, f"one of {', '.join(kinds)}")
        for name in ("drop", "event_drop"):
            _demand(
                0 < getattr(self, name) < 1, name, getattr(self, name), "a share between 0 and 1"
            )
        for name in ("reference_days", "grid_days"):
            _demand(getattr(self, name) >= 1, name, getattr(self, name), "1 day or more")
        for name in _OPTIONAL_DAYS:
            days = getattr(self, name)
            _demand(days is None or days >= 1, name, days, "1 day or more, or nothing")
        for name in ("min_history_days", "cooldown_days", "swap_spread_days"):
            _demand(getattr(self, name) >= 0, name, getattr(self, name), "0 days or more")
        for name in ("floor_percentile", "churn_percentile"):
            _demand(0 <= getattr(self, name) <= 100, name, getattr(self, name), "0 to 100")
        floor, budget = self.floor, self.budget_per_day
        _demand(floor is None or 0 <= floor < math.inf, "floor", floor, "0 or more, or nothing")
        _demand(self.min_orders >= 1, "min_orders", self.min_orders, "1 or more")
        _demand(budget is None or budget >= 1, "budget_per_day", budget, "1 or more, or nothing")
        certainty = self.budget_certainty
        _demand(0 <= certainty <= 100, "budget_certainty", certainty, "0 to 100")
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
    named["ewma_half_life_days"] = 30.0  # versions named before stay as they are
    if policy.budget_per_day is None:
        del named["budget_value"], named["budget_certainty"]  # how to rank, where nothing is
    return hashlib.sha256(msgspec.json.encode(named, order="sorted")).hexdigest()[:8]


_OPTIONAL_DAYS: Final = (
    "min_silence_days",
    "one_time_silence_days",
    "late_silence_days",
    "refresh_days",
)


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
    """A policy bound to a model: horizon and percentiles turned into days, money and probability.

    `floor_minor`, `segment_floors_minor` and `severity_floors_minor` are CLVs in minor units;
    `churn_threshold` is the P(churn) from which silence warns (0: any). `refreshes`: whether silent
    customers are scored for their published score; where nobody reads it, only to decide.
    `calendar` has the days of silence, and of the grid.
    """

    policy: Policy
    horizon_days: int
    floor_minor: int
    segment_floors_minor: tuple[int, ...]
    severity_floors_minor: tuple[int, ...]
    churn_threshold: float = 0.0
    refreshes: bool = True
    calendar: Calendar = UTC

    @property
    def refresh_days(self) -> int | None:
        """Days between scores of a silent customer that are published anyway; None: never."""
        return self.policy.refresh_days if self.refreshes else None

    @property
    def min_silence_days(self) -> int:
        """Days without an order before silence may fire."""
        return self.policy.min_silence_days or max(1, self.horizon_days // 2)

    @property
    def late_silence_days(self) -> int:
        """Days without an order after which P(churn) is no longer required."""
        return self.policy.late_silence_days or max(1, self.horizon_days * 5 // 6)

    @property
    def enough_purchase_days(self) -> int:
        """How many purchase days have to be counted to apply the policy."""
        return max(2, self.policy.min_orders)

    def segment(self, clv_minor: int) -> str:
        """The value tier of a CLV: top, high, middle or low."""
        return _tier(clv_minor, self.segment_floors_minor, SEGMENTS)

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
