"""When a fallen CLV becomes a warning: the drop rule, and what it has to remember.

Pure: a decision is a function of the judgement so far and of one scoring. Silence is judged on a
grid of UTC midnights (`schedule.py`), because somebody who stops ordering sends no event.

What counts as a churner, as precise and as early, and what the defaults were measured to do, is in
`docs/warnings.md`.
"""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from features.buckets import MS_PER_DAY, day_of
from features.orders import OrderType
from model.standing import History

SEGMENTS: Final = ("top", "high", "middle", "low")
SEVERITIES: Final = ("high", "medium", "low")


class PolicyError(ValueError):
    """A policy that cannot be meant; the message names the field, its value and what it may be."""


class Trigger(enum.StrEnum):
    """What made a customer be scored, and may have made a warning fire."""

    ORDER = "order"
    SILENCE = "silence"
    REFUND = "refund"


class Reference(enum.StrEnum):
    """What a CLV is compared with: the highest at an event of the last `reference_days`; that at
    the last order; that of the scoring before; or a mean of the scorings so far that forgets."""

    PEAK = "peak"
    LAST_ORDER = "last_order"
    PREVIOUS = "previous"
    EWMA = "ewma"


class Stake(enum.StrEnum):
    """What a customer is worth to a budget: what was spent within the last horizon, or the CLV that
    the rule compares with."""

    SPEND = "spend"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may set about warnings. Defaults are those measured in `docs/warnings.md`.

    What a fall is:
    `reference`: what the CLV is compared with (`Reference`); `reference_days`: how far back a peak
    counts; `ewma_half_life_days`: after how many days a scoring weighs half in the mean. The
    scorings of `previous` and `ewma` are the events and the instants at which silence may warn.
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

    reference: Reference = Reference.PEAK
    reference_days: int = 90
    ewma_half_life_days: int = 30
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
        for name, known in (("reference", Reference), ("budget_value", Stake)):
            kinds, kind = [each.value for each in known], getattr(self, name)
            _demand(kind in kinds, name, kind, f"one of {', '.join(kinds)}")
        for name in ("drop", "event_drop"):
            _demand(
                0 < getattr(self, name) < 1, name, getattr(self, name), "a share between 0 and 1"
            )
        for name in ("reference_days", "ewma_half_life_days", "grid_days"):
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
    said = {name: _plain(value) for name, value in asdict(policy).items()}
    if policy.budget_per_day is None:
        del said["budget_value"], said["budget_certainty"]  # how to rank, where nothing is
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:8]


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
    """

    policy: Policy
    horizon_days: int
    floor_minor: int
    segment_floors_minor: tuple[int, ...]
    severity_floors_minor: tuple[int, ...]
    churn_threshold: float = 0.0
    refreshes: bool = True

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
        """Days without an order after which P(churn) is no longer asked."""
        return self.policy.late_silence_days or max(1, self.horizon_days * 5 // 6)

    @property
    def enough_purchase_days(self) -> int:
        """How many purchase days have to be counted to apply the policy."""
        return max(2, self.policy.min_orders)

    def first_day(self, history: History, judgement: Judgement) -> int | None:
        """The first UTC day on which a silence since `history.last_day` may fire; None: never."""
        policy = self.policy
        if history.purchase_days < policy.min_orders:
            return None
        silence = self.min_silence_days
        if history.purchase_days < 2:
            silence = policy.one_time_silence_days or silence
        return max(
            history.last_day + silence,
            history.first_day + policy.min_history_days,
            judgement.free_from_day(self),
            judgement.quiet_until_day,
        )

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


class Peak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A CLV at an event, and the UTC day of it."""

    day: int
    clv_minor: int


class Fired(msgspec.Struct, frozen=True, array_like=True, gc=False):
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


class Judgement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the rule remembers of one customer.

    `peaks`: for the reference `peak` the CLVs at events that may yet be it: later ones are lower;
    for the other kinds the reference itself. `armed`: no warning since the last order.
    `episode_…`: that order. `as_of_ms`: the last scoring recorded. `fired`: the last warning, None
    before the first. `scored`: the last scoring where `peaks` does not end with it. `held`: what an
    event fired that waits for the budget of the next instant. `withheld_ms`: the first instant of
    the episode at which a warning was not among the budget's largest; -1: none. `floor_minor`: the
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
    fired: Fired | None = None
    scored: Peak | None = None
    held: Fired | None = None
    withheld_ms: int = -1
    floor_minor: int = -1
    swapped: bool = False
    quiet_until_day: int = -1

    def floor(self, rules: Rules) -> int:
        """The least reference that is worth a warning, in minor units."""
        return max(rules.floor_minor if self.floor_minor < 0 else self.floor_minor, 1)

    def reference(self, as_of_ms: int, rules: Rules) -> Peak | None:
        """What a CLV as of then is compared with, or None."""
        if rules.policy.reference != Reference.PEAK:
            return self.peaks[-1] if self.peaks else None
        since = day_of(as_of_ms) - rules.policy.reference_days
        for peak in self.peaks:
            if peak.day >= since:
                return peak
        return None

    def may_fire(self, as_of_ms: int, rules: Rules) -> bool:
        """Whether the rule could fire then, whatever the CLV. Once False it stays False until the
        next event: the reference only falls, or stays, while nothing is scored."""
        if not self.armed:
            return False
        if self.held is not None:
            return True
        reference = self.reference(as_of_ms, rules)
        return reference is not None and reference.clv_minor >= self.floor(rules)

    def free_from_day(self, rules: Rules) -> int:
        """The first UTC day at whose 00:00 the cooldown of the last warning is over."""
        if self.fired is None:
            return 0
        return -(-self.fired.as_of_ms // MS_PER_DAY) + rules.policy.cooldown_days

    @property
    def scored_last(self) -> Peak | None:
        """The last scoring that was recorded."""
        return self.scored or (self.peaks[-1] if self.peaks else None)


NEW: Final = Judgement()


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
        return _fired(judgement, held.trigger, as_of_ms, clv_minor, held.reference, rules)
    first_day = rules.first_day(history, judgement)
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
    return _fired(judgement, Trigger.SILENCE, as_of_ms, clv_minor, reference, rules)


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


def _fired(
    judgement: Judgement,
    trigger: Trigger,
    as_of_ms: int,
    clv_minor: int,
    reference: Peak,
    rules: Rules,
) -> Verdict:
    fired = _fire(judgement, trigger, as_of_ms, clv_minor, reference, rules)
    return Verdict(
        msgspec.structs.replace(
            judgement, as_of_ms=as_of_ms, armed=False, fired=fired, held=None, withheld_ms=-1
        ),
        fired,
    )


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
