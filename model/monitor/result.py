"""What monitoring keeps of training, and what it says of a week."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from features.times import day_of_date

SCORE: Final = "clv"
"""How the model's own output is named beside the features."""


OLD_AFTER_DAYS: Final = 90
"""Days after which a model is old, one horizon not counted."""


class Age(msgspec.Struct, frozen=True):
    """How many `days` of event time a model's `cutoff` (ISO date) lies back, and whether these are
    more than `old_after`."""

    cutoff: str
    days: int
    old_after: int

    @property
    def old(self) -> bool:
        return self.days > self.old_after


def age_at(cutoff: str, horizon_days: int, day: int, old_after: int = OLD_AFTER_DAYS) -> Age:
    """The age on a day since the epoch. A horizon is granted on top of `old_after`: that long
    before the newest orders `retrain` ends training, since it judges by what came then."""
    return Age(cutoff, max(0, day - day_of_date(cutoff)), horizon_days + old_after)


class Bins(msgspec.Struct, frozen=True):
    """A distribution: `shares` of the values under, between and above `edges`, both ascending in
    the values; a value equal to an edge counts above it."""

    edges: list[float]
    shares: list[float]


class Level(msgspec.Struct, frozen=True):
    """`share`: what customers who had bought in the last `base_days` (None: ever) brought within
    `days`, over their CLV, at days before the cutoff; `error`:
    its relative standard error. One customer counts there for at most `top_revenue` and `top_clv`
    (minor units), or a few would decide alone; in `raw_share` everything counts."""

    days: int
    base_days: int | None
    raw_share: float
    share: float
    error: float
    top_clv: float
    top_revenue: float


class DriftReference(msgspec.Struct, frozen=True):
    """Those who bought in the windows before a model's cutoff: `rows` customers in `windows`."""

    rows: int
    windows: int
    bins: dict[str, Bins]
    levels: list[Level]


class Drift(msgspec.Struct, frozen=True):
    """The PSI of a feature, or of the CLV, and from which one on it is an alarm; None: never, for
    features that age with the shop."""

    name: str
    psi: float
    threshold: float | None

    @property
    def alarm(self) -> bool:
        return self.threshold is not None and self.psi >= self.threshold


class Bias(msgspec.Struct, frozen=True):
    """What `customers` were expected to bring within `days` over what they brought; 1: as before
    the cutoff. `bias` counts everything; `typical` what is left when a few cannot decide alone
    (`Level`), and is an alarm below `low` and above `high`. `day` (ISO date): of the CLVs."""

    days: int
    day: str
    customers: int
    bias: float
    typical: float
    low: float
    high: float

    @property
    def alarm(self) -> bool:
        return not self.low <= self.typical <= self.high


def alarms(drifted: Iterable[Drift], biases: Iterable[Bias]) -> list[str]:
    """What is to be looked at, for a person; one line each."""
    found = [
        f"{one.name}: PSI {one.psi:.2f}, from {one.threshold:.2f} on an alarm"
        for one in drifted
        if one.alarm
    ]
    return found + [
        f"level after {one.days} days: expected {one.typical:.2f} of what came, an alarm outside"
        f" of {one.low:.2f} to {one.high:.2f}"
        for one in biases
        if one.alarm
    ]


class MonitoredWeek(msgspec.Struct, frozen=True):
    """What was seen at 00:00 of `end` (ISO date). `drifts` is empty where fewer than
    MIN_CUSTOMERS bought in the window; `biases` has the checks that end with it."""

    end: str
    customers: int
    drifts: list[Drift]
    biases: list[Bias]

    @property
    def alarms(self) -> list[str]:
        return alarms(self.drifts, self.biases)


class Monitored(msgspec.Struct, frozen=True):
    """The report over a log: the weeks after the model's `cutoff` (ISO date), oldest first, and
    how old the model is at the log's end."""

    model_version: str
    cutoff: str
    weeks: list[MonitoredWeek]
    age: Age
