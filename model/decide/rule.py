"""When a silence becomes a warning, and an order event a note that value was lost.

Pure: a decision is a function of the rule state so far and of one scoring. Silence is judged at
midnights (`schedule.py`), because somebody who stops ordering sends no event.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple

import msgspec

from features.arrays import Bools, Ints
from features.events.orders import OrderType
from features.facts.ledger import id_hash
from model.decide.history import PurchaseHistory
from model.decide.policy import Rules
from model.decide.rule_state import Peak, RaisedWarning, RuleState, Trigger

VALUE_DROP: Final = 0.3
"""Share of the reference that is gone where an order or refund is told of as a value drop."""


class RuleEvent(msgspec.Struct, frozen=True, gc=False):
    """An order event as the rule sees it. `late`: it came after its time was closed, so it counts
    but says nothing of the past. `void`: an order that was taken back before it came. `known`: an
    order that had come before, and comes again with another time or amount. `version`: amount,
    refund id and update, which tell the events of one order apart that are of one time."""

    type: OrderType
    ts_ms: int
    order_hash: bytes
    late: bool = False
    void: bool = False
    known: bool = False
    version: tuple[int, str, int] = (0, "", -1)

    @property
    def cause(self) -> bytes:
        """What names this event, and no other of the same order."""
        amount_minor, refund_id, updated_ms = self.version
        told = f"{self.type.name} {amount_minor} {refund_id} {updated_ms}"
        return id_hash(f"{self.order_hash.hex()} {told}")

    @property
    def trigger(self) -> Trigger:
        """ORDER for an order; REFUND for what takes money back."""
        return Trigger.ORDER if self.type is OrderType.ORDER else Trigger.REFUND


class Verdict(NamedTuple):
    """The rule state after a scoring; the warning, if a silence raised one; the warning that the
    customer has answered with an order; and what an event tells of value lost."""

    rule_state: RuleState
    raised: RaisedWarning | None = None
    answered: RaisedWarning | None = None
    value_drop: RaisedWarning | None = None


def is_down_by(drop: float, clv_minor: int, reference_minor: int) -> bool:
    """Whether a share `drop`, as it is written, of the reference is gone: in whole numbers, so that
    70 of 100 are down by 0.3 to the last bit."""
    kept, whole = _kept(drop)
    return clv_minor * whole <= kept * reference_minor


def are_down_by(drop: float, clv_minor: Ints, reference_minor: Ints) -> Bools:
    """`is_down_by` of many."""
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

    A new order re-arms the rule, and answers the warning since the one before. An event never warns
    of churn, and never disarms: when somebody orders is when they are least likely to be gone. One
    that lowers the CLV itself is told of as a value drop; `clv_before_minor` is the CLV without it
    as of the same instant (None: not known to be lower).
    """
    reference, floor_minor = rule_state.reference, max(rules.floor_minor, 1)
    value_drop = None
    if (
        reference is not None
        and reference.clv_minor >= floor_minor
        and is_down_by(VALUE_DROP, clv_minor, reference.clv_minor)
        and clv_before_minor is not None
        and clv_minor < clv_before_minor
        and not event.late
        and (history is None or history.purchase_days >= rules.policy.min_orders)
    ):
        value_drop = RaisedWarning(
            event.trigger,
            as_of_ms,
            clv_minor,
            reference,
            event.ts_ms,
            event.cause,
            rules.policy.version,
        )
    scored = Peak(rules.calendar.day_of(as_of_ms), clv_minor)
    last_day = scored.day if history is None else history.last_day
    peaks = _with_peak(rule_state.peaks, scored, last_day - rules.horizon_days)
    # The shop may send an order again with another amount; that is no new one, and would open the
    # episode of the first time once more, whose warning has its id already.
    if event.type is OrderType.ORDER and not event.void and not event.known:
        after = msgspec.structs.replace(
            rule_state,
            as_of_ms=as_of_ms,
            peaks=peaks,
            armed=True,
            episode_ms=event.ts_ms,
            episode_id=event.order_hash,
            deferred_since_ms=-1,
            floor_minor=rules.floor_minor,
            swapped=False,
            quiet_until_day=-1,
        )
        answered = None if rule_state.armed else rule_state.raised
        return Verdict(after, None, answered, value_drop)
    after = msgspec.structs.replace(
        rule_state, as_of_ms=as_of_ms, peaks=peaks, floor_minor=rules.floor_minor, swapped=False
    )
    return Verdict(after, None, None, value_drop)


def on_instant(
    rule_state: RuleState,
    as_of_ms: int,
    clv_minor: int,
    sure: bool,
    history: PurchaseHistory,
    rules: Rules,
) -> Verdict:
    """What follows from a midnight of a silence; `sure`: whether `Rules.is_sure` of it. Where it
    decides nothing the rule state is the same object, and `clv_minor` is not looked at unless
    sure."""
    day = rules.calendar.day_of(as_of_ms)
    first_day = history.last_day + rules.first_silence_days
    if (
        not rule_state.may_warn(rules)
        or history.purchase_days < rules.policy.min_orders
        or not max(first_day, rule_state.quiet_until_day)
        <= day
        <= history.last_day + rules.horizon_days
    ):
        return Verdict(rule_state)
    reference, swapped = rule_state.reference, rule_state.swapped
    if swapped:
        rule_state = msgspec.structs.replace(rule_state, swapped=False)
    if not sure or reference is None or clv_minor >= reference.clv_minor:
        return Verdict(rule_state)
    if swapped and day > first_day:
        # It did not warn the day before, with the model before: spread such warnings, or they all
        # come on the day of the new model.
        days = 1 + int.from_bytes(rule_state.episode_id) % rules.swap_spread_days
        return Verdict(msgspec.structs.replace(rule_state, quiet_until_day=day + days))
    raised = RaisedWarning(
        Trigger.SILENCE,
        as_of_ms,
        clv_minor,
        reference,
        rule_state.episode_ms,
        rule_state.episode_id,
        rules.policy.version,
    )
    rule_state = msgspec.structs.replace(
        rule_state, as_of_ms=as_of_ms, armed=False, raised=raised, deferred_since_ms=-1
    )
    return Verdict(rule_state, raised)


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
    floor = rule_state.floor_minor
    return msgspec.structs.replace(
        rule_state,
        model_version=model_version,
        peaks=tuple(Peak(p.day, round(p.clv_minor * ratio)) for p in rule_state.peaks),
        floor_minor=floor if floor < 0 else round(floor * ratio),
        swapped=True,
    )


def _with_peak(peaks: tuple[Peak, ...], new: Peak, since_day: int) -> tuple[Peak, ...]:
    """The peaks with one more: those that it overtops, and those before a day, are gone."""
    kept = tuple(p for p in peaks if p.day >= since_day and p.clv_minor > new.clv_minor)
    return (*kept, new)
