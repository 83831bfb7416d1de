"""What the drop rule remembers of a customer."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from model.decide.history import PurchaseHistory
from model.decide.policy import ReferenceKind, Rules


class Trigger(enum.StrEnum):
    """What made a customer be scored, and may have made a warning fire."""

    ORDER = "order"
    SILENCE = "silence"
    REFUND = "refund"


class Peak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A CLV at an event, and the UTC day of it."""

    day: int
    clv_minor: int


class RaisedWarning(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A warning, as far as the rule knows it. `episode` names the silence or fall that it is
    about: the order that armed the rule, by time and id hash. `policy_version` is part of its id,
    which whatever answers it has to name under another policy too."""

    trigger: Trigger
    as_of_ms: int
    clv_minor: int
    reference: Peak
    episode_ms: int
    episode_id: bytes
    policy_version: str = ""

    @property
    def drop(self) -> float:
        """Share of the reference that is gone."""
        return 1 - self.clv_minor / self.reference.clv_minor


class RuleState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the rule remembers of one customer.

    `peaks`: for the reference `peak` the CLVs at events that may yet be it: later ones are lower;
    for the other the reference itself. `armed`: no warning since the last order. `episode_…`: that
    order. `as_of_ms`: the last scoring recorded. `raised`: the last warning, None before the first.
    `scored`: the last scoring where `peaks` does not end with it. `deferred`: what an event raised
    that waits for the budget of the next instant; `deferred_since_ms`: the first instant of the
    episode at which a warning was not among the budget's largest; -1: none. `floor_minor`: the
    rules' floor at the last event, so that another model lifts nobody over it and drops nobody
    under it (-1: no event yet). `swapped`: another model has come since the last scoring.
    `quiet_until_day`: what another model made fire waits until this UTC day.
    """

    model_version: str = ""
    as_of_ms: int = -1
    peaks: tuple[Peak, ...] = ()
    armed: bool = False
    episode_ms: int = -1
    episode_id: bytes = b"\0" * 8
    raised: RaisedWarning | None = None
    scored: Peak | None = None
    deferred: RaisedWarning | None = None
    deferred_since_ms: int = -1
    floor_minor: int = -1
    swapped: bool = False
    quiet_until_day: int = -1

    def floor(self, rules: Rules) -> int:
        """The least reference that is worth a warning, in minor units."""
        return max(rules.floor_minor if self.floor_minor < 0 else self.floor_minor, 1)

    def reference(self, as_of_ms: int, rules: Rules) -> Peak | None:
        """What a CLV as of then is compared with, or None."""
        if rules.policy.reference != ReferenceKind.PEAK:
            return self.peaks[-1] if self.peaks else None
        since = rules.calendar.day_of(as_of_ms) - rules.policy.reference_days
        for peak in self.peaks:
            if peak.day >= since:
                return peak
        return None

    def may_fire(self, as_of_ms: int, rules: Rules) -> bool:
        """Whether the rule could fire then, whatever the CLV. Once False it stays False until the
        next event: the reference only falls, or stays, while nothing is scored."""
        if not self.armed:
            return False
        if self.deferred is not None:
            return True
        reference = self.reference(as_of_ms, rules)
        return reference is not None and reference.clv_minor >= self.floor(rules)

    def free_from_day(self, rules: Rules) -> int:
        """The first UTC day at whose 00:00 the cooldown of the last warning is over."""
        if self.raised is None:
            return 0
        return rules.calendar.day_from(self.raised.as_of_ms) + rules.policy.cooldown_days

    def first_day(self, history: PurchaseHistory, rules: Rules) -> int | None:
        """The first UTC day on which a silence since `history.last_day` may fire; None: never."""
        policy = rules.policy
        if history.purchase_days < policy.min_orders:
            return None
        silence = rules.min_silence_days
        if history.purchase_days < 2:
            silence = policy.one_time_silence_days or silence
        return max(
            history.last_day + silence,
            history.first_day + policy.min_history_days,
            self.free_from_day(rules),
            self.quiet_until_day,
        )

    @property
    def scored_last(self) -> Peak | None:
        """The last scoring that was recorded."""
        return self.scored or (self.peaks[-1] if self.peaks else None)


NEW: Final = RuleState()
