"""What the rule remembers of a customer."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from model.decide.policy import Rules


class Trigger(enum.StrEnum):
    """What made a customer be scored, and may have made a warning fire."""

    ORDER = "order"
    SILENCE = "silence"
    REFUND = "refund"


class Peak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A CLV at an event, and the day of it."""

    day: int
    clv_minor: int


class RaisedWarning(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A warning or value drop, as far as the rule knows it. `episode` names what it is about, by
    time and id hash: the order before the silence, or the order that lost value. `policy_version`
    is part of its id, which whatever answers it has to name under another policy too."""

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

    `peaks`: the CLVs at events of the horizon before the last order that may yet be the reference:
    later ones are lower, and the first is it. `armed`: no warning since the last order.
    `episode_…`: that order. `as_of_ms`: the last scoring recorded. `raised`: the last warning, None
    before the first. `deferred_since_ms`: the first instant of the episode at which a warning was
    not among the budget's largest; -1: none. `floor_minor`: the rules' floor at the last event, so
    that another model lifts nobody over it and drops nobody under it (-1: no event yet).
    `swapped`: another model has come since the last scoring. `quiet_until_day`: what another model
    would warn of waits until this day. The version before wrote something to `scored` and
    `deferred`, which nobody reads any more.
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

    @property
    def reference(self) -> Peak | None:
        """What a CLV is compared with: the highest at an event of the horizon before the last
        order. It does not age in a silence."""
        return self.peaks[0] if self.peaks else None

    def may_warn(self, rules: Rules) -> bool:
        """Whether the rule could warn of the customer, whatever the scores. Once False it stays
        False until the next event."""
        reference = self.reference
        return self.armed and reference is not None and reference.clv_minor >= self.floor(rules)

    @property
    def scored_last(self) -> Peak | None:
        """The last event as it was scored."""
        return self.peaks[-1] if self.peaks else None


NEW: Final = RuleState()
