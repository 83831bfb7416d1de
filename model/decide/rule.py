"""When a fallen CLV becomes a warning: the drop rule.

Pure: a decision is a function of the rule state so far and of one scoring. Silence is judged on a
grid of UTC midnights (`schedule.py`), because somebody who stops ordering sends no event.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import msgspec

from features.orders import OrderType
from features.times import MS_PER_DAY
from model.decide.history import PurchaseHistory
from model.decide.policy import ReferenceKind, Rules
from model.decide.rule_state import Peak, RaisedWarning, RuleState, Trigger


class RuleEvent(msgspec.Struct, frozen=True, gc=False):
    """An order event as the rule sees it. `late`: it came after its time was closed, so it counts
    but fires no warning for the past. `void`: an order that was taken back before it came.
    `known`: an order that had come before, and comes again with another time or amount."""

    type: OrderType
    ts_ms: int
    order_hash: bytes
    late: bool = False
    void: bool = False
    known: bool = False

    @property
    def trigger(self) -> Trigger:
        """ORDER for an order; REFUND for what takes money back."""
        return Trigger.ORDER if self.type is OrderType.ORDER else Trigger.REFUND


class Verdict(NamedTuple):
    """The rule state after a scoring, the warning if it fires, and the warning that the customer
    has answered with an order."""

    rule_state: RuleState
    raised: RaisedWarning | None = None
    answered: RaisedWarning | None = None


def fallen(
    rule_state: RuleState, as_of_ms: int, clv_minor: int, drop: float, rules: Rules
) -> Peak | None:
    """The reference that the CLV has fallen under by `drop`, where the rule could fire; else
    None."""
    reference = rule_state.reference(as_of_ms, rules)
    if (
        reference is None
        or reference.clv_minor < rule_state.floor(rules)
        or not is_down_by(drop, clv_minor, reference.clv_minor)
    ):
        return None
    return reference


def is_down_by(drop: float, clv_minor: int, reference_minor: int) -> bool:
    """Whether a share `drop`, as it is written, of the reference is gone: in whole numbers, so that
    70 of 100 are down by 0.3 to the last bit."""
    kept, whole = _kept(drop)
    return clv_minor * whole <= kept * reference_minor


@cache
def _kept(drop: float) -> tuple[int, int]:
    """What a drop leaves, as a ratio of whole numbers: 0.3 leaves 7 of 10."""
    return (1 - Fraction(repr(float(drop)))).as_integer_ratio()


def on_event(
    rule_state: RuleState,
    event: RuleEvent,
    as_of_ms: int,
    clv_minor: int,
    clv_before_minor: int | None,
    history: PurchaseHistory | None,
    rules: Rules,
) -> Verdict:
    """What follows from an order event scored as of `as_of_ms`; `history` knows the event.

    A new order re-arms the rule, and answers the warning since the one before. An event fires only
    when it lowers the CLV itself: `clv_before_minor` is the CLV without it as of the same instant
    (None: not known to be lower).
    """
    answered = None
    # The shop may send an order again with another amount; that is no new one, and would open the
    # episode of the first time once more, whose warning has its id already.
    if event.type is OrderType.ORDER and not event.void and not event.known:
        answered = None if rule_state.armed else rule_state.raised
        rule_state = msgspec.structs.replace(
            rule_state,
            armed=True,
            episode_ms=event.ts_ms,
            episode_id=event.order_hash,
            deferred=None,
            deferred_since_ms=-1,
            quiet_until_day=-1,
        )
    rule_state = msgspec.structs.replace(rule_state, floor_minor=rules.floor_minor, swapped=False)
    reference = fallen(rule_state, as_of_ms, clv_minor, rules.policy.event_drop, rules)
    lowered = clv_before_minor is not None and clv_minor < clv_before_minor
    raised, deferred = None, rule_state.deferred
    if (
        reference
        and rule_state.armed
        and lowered
        and not event.late
        and _may_warn_at_event(rule_state, history, as_of_ms, rules)
    ):
        raised = _raised(rule_state, event.trigger, as_of_ms, clv_minor, reference, rules)
        if rules.policy.budget_per_day is not None:
            # Who has no order left is due no more, and so never competes.
            raised, deferred = None, raised if history else None
    scored = Peak(rules.calendar.day_of(as_of_ms), clv_minor)
    rule_state = msgspec.structs.replace(
        rule_state,
        as_of_ms=as_of_ms,
        peaks=_remembered(rule_state, event.type, scored, rules),
        armed=rule_state.armed and raised is None,
        raised=raised or rule_state.raised,
        scored=None if rules.policy.reference == ReferenceKind.PEAK else scored,
        deferred=deferred,
    )
    return Verdict(rule_state, raised, answered)


def on_instant(
    rule_state: RuleState,
    as_of_ms: int,
    clv_minor: int,
    churn_probability: float,
    history: PurchaseHistory,
    rules: Rules,
) -> Verdict:
    """What follows from a grid instant. Where it decides nothing the rule state is the same
    object."""
    day = rules.calendar.day_of(as_of_ms)
    silent_days = day - history.last_day
    if not rule_state.may_fire(as_of_ms, rules) or silent_days > rules.horizon_days:
        return Verdict(rule_state)
    deferred = rule_state.deferred
    if deferred is not None:
        raised = _raised(
            rule_state, deferred.trigger, as_of_ms, clv_minor, deferred.reference, rules
        )
        return _warned(rule_state, raised)
    first_day = rule_state.first_day(history, rules)
    if first_day is None or day < first_day:
        return Verdict(rule_state)
    sure = silent_days >= rules.late_silence_days or churn_probability >= rules.churn_threshold
    reference = fallen(rule_state, as_of_ms, clv_minor, rules.policy.drop, rules) if sure else None
    swapped = rule_state.swapped
    if swapped:
        rule_state = msgspec.structs.replace(rule_state, swapped=False)
    if reference is None:
        return Verdict(rule_state)
    if swapped and day - rules.policy.grid_days >= first_day and rules.policy.swap_spread_days:
        # It did not fire at the instant before, with the model before: spread such warnings, or
        # they all come on the day of the new model.
        days = 1 + int.from_bytes(rule_state.episode_id) % rules.policy.swap_spread_days
        rule_state = msgspec.structs.replace(rule_state, quiet_until_day=day + days)
        return Verdict(rule_state)
    raised = _raised(rule_state, Trigger.SILENCE, as_of_ms, clv_minor, reference, rules)
    return _warned(rule_state, raised)


def deferred(rule_state: RuleState, as_of_ms: int) -> RuleState:
    """The rule state after an instant at which a warning was due and the budget had no place for
    it: still armed, so that it competes again at the next."""
    since_ms = rule_state.deferred_since_ms
    return msgspec.structs.replace(
        rule_state, swapped=False, deferred_since_ms=as_of_ms if since_ms < 0 else since_ms
    )


def rebased(
    rule_state: RuleState, model_version: str, old_clv_minor: int, new_clv_minor: int
) -> RuleState:
    """The rule state in the scale of another model, so that a model swap looks like no fall.

    Every reference, and the floor, is multiplied by new / old score of the same facts as of the
    same instant.
    """
    ratio = new_clv_minor / old_clv_minor if old_clv_minor else 1.0
    deferred, floor = rule_state.deferred, rule_state.floor_minor
    return msgspec.structs.replace(
        rule_state,
        model_version=model_version,
        peaks=tuple(_scaled(peak, ratio) for peak in rule_state.peaks),
        scored=rule_state.scored and Peak(rule_state.scored.day, new_clv_minor),
        deferred=deferred
        and msgspec.structs.replace(deferred, reference=_scaled(deferred.reference, ratio)),
        floor_minor=floor if floor < 0 else round(floor * ratio),
        swapped=True,
    )


def _scaled(peak: Peak, ratio: float) -> Peak:
    return Peak(peak.day, round(peak.clv_minor * ratio))


def _may_warn_at_event(
    rule_state: RuleState, history: PurchaseHistory | None, as_of_ms: int, rules: Rules
) -> bool:
    """Whether minimum history and cooldown allow a warning by an event. `history` is None where the
    event took the last order back, which is a loss of its own."""
    if history is None:
        return True
    policy, day = rules.policy, rules.calendar.day_of(as_of_ms)
    raised = rule_state.raised
    return (
        history.purchase_days >= policy.min_orders
        and day - history.first_day >= policy.min_history_days
        and (raised is None or as_of_ms >= raised.as_of_ms + policy.cooldown_days * MS_PER_DAY)
    )


def _warned(rule_state: RuleState, raised: RaisedWarning) -> Verdict:
    """The verdict of an instant at which a warning fires."""
    rule_state = msgspec.structs.replace(
        rule_state,
        as_of_ms=raised.as_of_ms,
        armed=False,
        raised=raised,
        deferred=None,
        deferred_since_ms=-1,
    )
    return Verdict(rule_state, raised)


def _raised(
    rule_state: RuleState,
    trigger: Trigger,
    as_of_ms: int,
    clv_minor: int,
    reference: Peak,
    rules: Rules,
) -> RaisedWarning:
    return RaisedWarning(
        trigger=trigger,
        as_of_ms=as_of_ms,
        clv_minor=clv_minor,
        reference=reference,
        episode_ms=rule_state.episode_ms,
        episode_id=rule_state.episode_id,
        policy_version=rules.policy.version,
    )


def _remembered(
    rule_state: RuleState, type: OrderType, scored: Peak, rules: Rules
) -> tuple[Peak, ...]:
    """What is remembered for the reference after an event."""
    if rules.policy.reference == ReferenceKind.PEAK:
        return _with_peak(rule_state.peaks, scored, rules)
    return (scored,) if type is OrderType.ORDER or not rule_state.peaks else rule_state.peaks[-1:]


def _with_peak(peaks: tuple[Peak, ...], new: Peak, rules: Rules) -> tuple[Peak, ...]:
    """The peaks with one more: those that it overtops, and those too old to matter, are gone."""
    since = new.day - rules.policy.reference_days
    kept = tuple(peak for peak in peaks if peak.day >= since and peak.clv_minor > new.clv_minor)
    return (*kept, new)
