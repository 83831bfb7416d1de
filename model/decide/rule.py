"""When a fallen CLV becomes a warning: the drop rule.

Pure: a decision is a function of the judgement so far and of one scoring. Silence is judged on a
grid of UTC midnights (`schedule.py`), because somebody who stops ordering sends no event.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import msgspec

from features.orders import OrderType
from features.times import MS_PER_DAY, day_of
from model.decide.history import History
from model.decide.policy import Reference, Rules
from model.decide.rule_state import Fired, Judgement, Peak, Trigger


class Happening(msgspec.Struct, frozen=True, gc=False):
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
    """The judgement after a scoring, the warning if it fires, and the warning that the customer
    has answered with an order."""

    judgement: Judgement
    fired: Fired | None = None
    answered: Fired | None = None


def fallen(
    judgement: Judgement, as_of_ms: int, clv_minor: int, drop: float, rules: Rules
) -> Peak | None:
    """The reference that the CLV has fallen under by `drop`, where the rule could fire; else
    None."""
    reference = judgement.reference(as_of_ms, rules)
    if (
        reference is None
        or reference.clv_minor < judgement.floor(rules)
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
    judgement: Judgement,
    happening: Happening,
    as_of_ms: int,
    clv_minor: int,
    clv_before_minor: int | None,
    history: History | None,
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
    if happening.type is OrderType.ORDER and not happening.void and not happening.known:
        answered = None if judgement.armed else judgement.fired
        judgement = msgspec.structs.replace(
            judgement,
            armed=True,
            episode_ms=happening.ts_ms,
            episode_id=happening.order_hash,
            held=None,
            withheld_ms=-1,
            quiet_until_day=-1,
        )
    judgement = msgspec.structs.replace(judgement, floor_minor=rules.floor_minor, swapped=False)
    reference = fallen(judgement, as_of_ms, clv_minor, rules.policy.event_drop, rules)
    lowered = clv_before_minor is not None and clv_minor < clv_before_minor
    fired, held = None, judgement.held
    if (
        reference
        and judgement.armed
        and lowered
        and not happening.late
        and _may_warn_at_event(judgement, history, as_of_ms, rules)
    ):
        fired = _fire(judgement, happening.trigger, as_of_ms, clv_minor, reference, rules)
        if rules.policy.budget_per_day is not None:
            # Who has no order left is due no more, and so never competes.
            fired, held = None, fired if history else None
    scored = Peak(day_of(as_of_ms), clv_minor)
    judgement = msgspec.structs.replace(
        judgement,
        as_of_ms=as_of_ms,
        peaks=_remembered(judgement, happening.type, scored, rules),
        armed=judgement.armed and fired is None,
        fired=fired or judgement.fired,
        scored=None if rules.policy.reference == Reference.PEAK else scored,
        held=held,
    )
    return Verdict(judgement, fired, answered)


def on_instant(
    judgement: Judgement,
    as_of_ms: int,
    clv_minor: int,
    churn_probability: float,
    history: History,
    rules: Rules,
) -> Verdict:
    """What follows from a grid instant. Where it decides nothing the judgement is the same object,
    unless the reference moves with every scoring."""
    day = day_of(as_of_ms)
    silent_days = day - history.last_day
    if not judgement.may_fire(as_of_ms, rules) or silent_days > rules.horizon_days:
        return Verdict(judgement)
    held = judgement.held
    if held is not None:
        fired = _fire(judgement, held.trigger, as_of_ms, clv_minor, held.reference, rules)
        return _warned(judgement, fired)
    first_day = judgement.first_day(history, rules)
    if first_day is None or day < first_day:
        return Verdict(judgement)
    sure = silent_days >= rules.late_silence_days or churn_probability >= rules.churn_threshold
    reference = fallen(judgement, as_of_ms, clv_minor, rules.policy.drop, rules) if sure else None
    swapped = judgement.swapped
    if swapped:
        judgement = msgspec.structs.replace(judgement, swapped=False)
    if reference is None:
        return Verdict(_moved(judgement, Peak(day, clv_minor), rules))
    if swapped and day - rules.policy.grid_days >= first_day and rules.policy.swap_spread_days:
        # It did not fire at the instant before, with the model before: spread such warnings, or
        # they all come on the day of the new model.
        days = 1 + int.from_bytes(judgement.episode_id) % rules.policy.swap_spread_days
        judgement = msgspec.structs.replace(judgement, quiet_until_day=day + days)
        return Verdict(_moved(judgement, Peak(day, clv_minor), rules))
    fired = _fire(judgement, Trigger.SILENCE, as_of_ms, clv_minor, reference, rules)
    return _warned(judgement, fired)


def withheld(judgement: Judgement, as_of_ms: int, clv_minor: int, rules: Rules) -> Judgement:
    """The judgement after an instant at which the rule fired and the budget had no place for it:
    still armed, so that it competes again at the next."""
    judgement = msgspec.structs.replace(judgement, swapped=False)
    if judgement.held is None:
        judgement = _moved(judgement, Peak(day_of(as_of_ms), clv_minor), rules)
    if judgement.withheld_ms < 0:
        judgement = msgspec.structs.replace(judgement, withheld_ms=as_of_ms)
    return judgement


def rebased(
    judgement: Judgement, model_version: str, old_clv_minor: int, new_clv_minor: int
) -> Judgement:
    """The judgement in the scale of another model, so that a model swap looks like no fall.

    Every reference, and the floor, is multiplied by new / old score of the same facts as of the
    same instant.
    """
    ratio = new_clv_minor / old_clv_minor if old_clv_minor else 1.0
    held, floor = judgement.held, judgement.floor_minor
    return msgspec.structs.replace(
        judgement,
        model_version=model_version,
        peaks=tuple(_scaled(peak, ratio) for peak in judgement.peaks),
        scored=judgement.scored and Peak(judgement.scored.day, new_clv_minor),
        held=held and msgspec.structs.replace(held, reference=_scaled(held.reference, ratio)),
        floor_minor=floor if floor < 0 else round(floor * ratio),
        swapped=True,
    )


def _scaled(peak: Peak, ratio: float) -> Peak:
    return Peak(peak.day, round(peak.clv_minor * ratio))


def _may_warn_at_event(
    judgement: Judgement, history: History | None, as_of_ms: int, rules: Rules
) -> bool:
    """Whether minimum history and cooldown allow a warning by an event. `history` is None where the
    event took the last order back, which is a loss of its own."""
    if history is None:
        return True
    policy, day = rules.policy, day_of(as_of_ms)
    fired = judgement.fired
    return (
        history.purchase_days >= policy.min_orders
        and day - history.first_day >= policy.min_history_days
        and (fired is None or as_of_ms >= fired.as_of_ms + policy.cooldown_days * MS_PER_DAY)
    )


def _warned(judgement: Judgement, fired: Fired) -> Verdict:
    """The verdict of an instant at which a warning fires."""
    judgement = msgspec.structs.replace(
        judgement, as_of_ms=fired.as_of_ms, armed=False, fired=fired, held=None, withheld_ms=-1
    )
    return Verdict(judgement, fired)


def _fire(
    judgement: Judgement,
    trigger: Trigger,
    as_of_ms: int,
    clv_minor: int,
    reference: Peak,
    rules: Rules,
) -> Fired:
    return Fired(
        trigger=trigger,
        as_of_ms=as_of_ms,
        clv_minor=clv_minor,
        reference=reference,
        episode_ms=judgement.episode_ms,
        episode_id=judgement.episode_id,
        policy_version=rules.policy.version,
    )


def _remembered(
    judgement: Judgement, type: OrderType, scored: Peak, rules: Rules
) -> tuple[Peak, ...]:
    """What is remembered for the reference after an event."""
    kind = rules.policy.reference
    if kind == Reference.PEAK:
        return _with_peak(judgement.peaks, scored, rules)
    if kind == Reference.LAST_ORDER:
        return (scored,) if type is OrderType.ORDER or not judgement.peaks else judgement.peaks[-1:]
    return _moved(judgement, scored, rules).peaks


def _moved(judgement: Judgement, scored: Peak, rules: Rules) -> Judgement:
    """The judgement after a scoring, where the reference moves with every one of them."""
    policy = rules.policy
    if policy.reference in (Reference.PEAK, Reference.LAST_ORDER):
        return judgement
    mean = scored.clv_minor
    if policy.reference == Reference.EWMA and judgement.peaks:
        # The weight of what was known halves with every half-life since it was.
        last = judgement.peaks[-1]
        kept = 0.5 ** (max(scored.day - last.day, 0) / policy.ewma_half_life_days)
        mean = round(kept * last.clv_minor + (1 - kept) * scored.clv_minor)
    return msgspec.structs.replace(
        judgement,
        peaks=(Peak(scored.day, mean),),
        scored=scored,
    )


def _with_peak(peaks: tuple[Peak, ...], new: Peak, rules: Rules) -> tuple[Peak, ...]:
    """The peaks with one more: those that it overtops, and those too old to matter, are gone."""
    since = new.day - rules.policy.reference_days
    kept = tuple(peak for peak in peaks if peak.day >= since and peak.clv_minor > new.clv_minor)
    return (*kept, new)
