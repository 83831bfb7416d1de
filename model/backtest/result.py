"""What a backtest says: the report, which `model.report.backtest_page` writes out for people."""

from __future__ import annotations

import msgspec

from model.backtest.panel import Bin, CallList, Quality
from model.decide.learned import Learned
from model.errors import ModelError


class BacktestError(ModelError):
    """These orders cannot tell how good warnings are; the message says what would be enough."""


class Baseline(msgspec.Struct, frozen=True):
    """A simple rule, its threshold set so that its `lead` (median or mean) comes closest to the
    rule's. `gain`: by how much the rule's strict precision is above its own, `as_many`: the rule
    cut to as many warnings, the surest; `low` to `high`: the 95 % interval of that."""

    name: str
    threshold: float
    lead: str
    quality: Quality
    gain: float
    low: float
    high: float
    as_many: bool = False

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval has 0 in it."""
        return self.low <= 0.0 <= self.high


class Point(msgspec.Struct, frozen=True):
    """The rule at one share of leaving customers to be warned of by half of the horizon, and how
    good it is."""

    early: float
    per_week: float
    quality: Quality


class WarningWeek(msgspec.Struct, frozen=True):
    """Warnings of a week that begins on an ISO date, by trigger."""

    start: str
    silence: int
    order: int
    refund: int
    active: int


class EndedWarnings(msgspec.Struct, frozen=True):
    """Warnings of a month, such as 1998-01, of which the end is known (`model.decide.outcome`)."""

    month: str
    kept: int = 0
    recovered: int = 0
    lost: int = 0

    @property
    def ended(self) -> int:
        """How many."""
        return self.kept + self.recovered + self.lost


class MoneyPoint(msgspec.Struct, frozen=True):
    """A weight of money in the budget's ranking, and the call lists that it makes."""

    money: float
    list: CallList


class Suggestion(msgspec.Struct, frozen=True):
    """Settings for what was wished for, and what they would have given; `settings` is empty where
    nothing reaches it, and `point` None where no threshold alone does."""

    wish: str
    settings: dict[str, str]
    point: Point | None


class Backtest(msgspec.Struct, frozen=True):
    """The report. Days are ISO dates; the period is from 00:00 of `start` to 00:00 of `end`.

    `rule` are the warnings as they would have been sent; `panel_rule` the same rule read off the
    panel, which has `panel_share` of the customers. `learned` is what the model has learnt of
    when to warn. `baselines` are simple rules at the rule's lead that find nearly everybody,
    `few` those that do not, beside the rule cut to as many warnings. `rankings` are call lists
    of a tenth of the better half of the active customers, three times a horizon; `ranked_by`
    names that of the budget. `order_only_recall` is that of a rule that scores only when orders
    arrive. `left_out`: churns of customers whom the policy leaves out, by standing. `withheld`:
    episodes for which the budget had no place at first. `months`: how the judged warnings of
    `rule` ended."""

    model_version: str
    policy_version: str
    horizon_days: int
    currency: str
    start: str
    end: str
    retrained_every_days: int | None
    models: int
    customers: int
    eligible_silences: int
    base_rate: float | None
    rule: Quality
    by_trigger: dict[str, Quality]
    by_standing: dict[str, int]
    left_out: dict[str, int]
    withheld: int
    per_1000_a_week: float | None
    most_on_a_day: int
    swap_days_share: float | None
    swap_warnings_share: float | None
    order_only_recall: float | None
    panel_share: float
    panel_rule: Quality
    learned: Learned
    baselines: list[Baseline]
    few: list[Baseline]
    points: list[Point]
    ranked_by: str
    moneys: list[MoneyPoint]
    rankings: dict[str, CallList]
    calibration: list[Bin]
    weeks: list[WarningWeek]
    months: list[EndedWarnings]
    suggestions: list[Suggestion]

    @property
    def simpler(self) -> list[Baseline]:
        """All simple rules."""
        return [*self.baselines, *self.few]
