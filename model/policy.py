"""When a fallen CLV becomes a warning: the drop rule, and what it has to remember.

Pure: a decision is a function of the judgement so far and of one scoring. Silence is judged on a
grid of UTC midnights (`schedule.py`), because somebody who stops ordering sends no event.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final

import msgspec

from features.buckets import day_of
from features.orders import OrderType

SEGMENTS: Final = ("top", "high", "middle", "low")
SEVERITIES: Final = ("high", "medium", "low")


class PolicyError(ValueError):
    """A policy that cannot be meant; the message names the field, its value and what it may be."""


class Trigger(enum.StrEnum):
    """What made a customer be scored, and may have made a warning fire."""

    ORDER = "order"
    SILENCE = "silence"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may set about warnings. Defaults are those measured in `docs/warnings.md`.

    `drop`: share of the reference that must be gone. `reference_days`: the reference is the
    highest CLV at an event in so many days. `floor_percentile`: only customers whose reference
    reaches this percentile of the model's training population. `min_silence_days`: days without an
    order before silence counts (None: half the horizon). `grid_days`: days between two instants at
    which silence is judged. `refresh_days`: days between scores of a silent customer that are
    published anyway (None: never). `segment_percentiles`: lower bounds of top, high and middle.
    `severity_percentiles`: lower bounds of high and medium, for the expected loss of a warning.
    `holdout_share`: share of customers stamped `holdout`, chosen by a stable hash.
    """

    drop: float = 0.30
    reference_days: int = 90
    floor_percentile: float = 70.0
    min_silence_days: int | None = None
    grid_days: int = 1
    refresh_days: int | None = 7
    segment_percentiles: tuple[float, float, float] = (90.0, 70.0, 40.0)
    severity_percentiles: tuple[float, float] = (95.0, 85.0)
    holdout_share: float = 0.0

    def __post_init__(self) -> None:
        _demand(0 < self.drop < 1, "drop", self.drop, "a share between 0 and 1")
        for name in ("reference_days", "grid_days"):
            _demand(getattr(self, name) >= 1, name, getattr(self, name), "1 day or more")
        for name in ("min_silence_days", "refresh_days"):
            days = getattr(self, name)
            _demand(days is None or days >= 1, name, days, "1 day or more, or nothing")
        _demand(
            0 <= self.floor_percentile <= 100, "floor_percentile", self.floor_percentile, "0 to 100"
        )
        for name in ("segment_percentiles", "severity_percentiles"):
            bounds = (100, *getattr(self, name), 0)
            falling = all(upper >= lower for upper, lower in pairwise(bounds))
            _demand(falling, name, bounds[1:-1], "percentiles that fall")
        _demand(0 <= self.holdout_share <= 1, "holdout_share", self.holdout_share, "0 to 1")

    @property
    def version(self) -> str:
        """Eight hex digits that name this very policy in every warning and in its id."""
        # 70 and 70.0 are the same policy, and JSON writes them differently.
        said = asdict(self) | {
            "drop": float(self.drop),
            "floor_percentile": float(self.floor_percentile),
            "segment_percentiles": [float(p) for p in self.segment_percentiles],
            "holdout_share": float(self.holdout_share),
        }
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:8]


def _demand(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise PolicyError(f"{field} is {value}; it must be {remedy}")


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy bound to a model: horizon and percentiles turned into days and money.

    `floor_minor`, `segment_floors_minor` and `severity_floors_minor` are CLVs in minor units.
    """

    policy: Policy
    horizon_days: int
    floor_minor: int
    segment_floors_minor: tuple[int, ...]
    severity_floors_minor: tuple[int, ...]

    @property
    def min_silence_days(self) -> int:
        """Days without an order before silence may fire."""
        return self.policy.min_silence_days or max(1, self.horizon_days // 2)

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
    about: the order that armed the rule, by time and id hash."""

    trigger: Trigger
    as_of_ms: int
    clv_minor: int
    reference: Peak
    episode_ms: int
    episode_id: bytes

    @property
    def drop(self) -> float:
        """Share of the reference that is gone."""
        return 1 - self.clv_minor / self.reference.clv_minor


class Judgement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the rule remembers of one customer.

    `peaks`: the CLVs at events that may yet be the reference: later ones are lower. `armed`: no
    warning since the last order. `episode_…`: that order. `as_of_ms`: the last scoring recorded.
    `fired`: the last warning, None before the first.
    """

    model_version: str = ""
    as_of_ms: int = -1
    peaks: tuple[Peak, ...] = ()
    armed: bool = False
    episode_ms: int = -1
    episode_id: bytes = b"\0" * 8
    fired: Fired | None = None

    def reference(self, as_of_ms: int, rules: Rules) -> Peak | None:
        """The highest CLV at an event in the last `reference_days` days, or None."""
        since = day_of(as_of_ms) - rules.policy.reference_days
        for peak in self.peaks:
            if peak.day >= since:
                return peak
        return None

    def may_fire(self, as_of_ms: int, rules: Rules) -> bool:
        """Whether the rule could fire then, whatever the CLV. Once False it stays False until the
        next event: the reference only falls while nothing happens."""
        reference = self.reference(as_of_ms, rules)
        return self.armed and reference is not None and reference.clv_minor >= rules.floor_minor


NEW: Final = Judgement()


class Happening(msgspec.Struct, frozen=True, gc=False):
    """An order event as the rule sees it. `late`: it came after its time was closed, so it counts
    but fires no warning for the past."""

    type: OrderType
    ts_ms: int
    order_hash: bytes
    late: bool = False

    @property
    def trigger(self) -> Trigger:
        """ORDER for an order; REFUND for what takes money back."""
        return Trigger.ORDER if self.type is OrderType.ORDER else Trigger.REFUND


def fallen(judgement: Judgement, as_of_ms: int, clv_minor: int, rules: Rules) -> Peak | None:
    """The reference that the CLV has fallen sharply under, where the rule could fire; else None."""
    reference = judgement.reference(as_of_ms, rules)
    if (
        reference is None
        or reference.clv_minor < max(rules.floor_minor, 1)
        or clv_minor > (1 - rules.policy.drop) * reference.clv_minor
    ):
        return None
    return reference


def on_event(
    judgement: Judgement,
    happening: Happening,
    as_of_ms: int,
    clv_minor: int,
    clv_before_minor: int | None,
    rules: Rules,
) -> tuple[Judgement, Fired | None]:
    """The judgement after an order event scored as of `as_of_ms`, and the warning if it fires.

    An order re-arms the rule. It fires only when it lowers the CLV itself: `clv_before_minor` is
    the CLV without it as of the same instant (None: not known to be lower).
    """
    if happening.type is OrderType.ORDER:
        judgement = msgspec.structs.replace(
            judgement, armed=True, episode_ms=happening.ts_ms, episode_id=happening.order_hash
        )
    reference = fallen(judgement, as_of_ms, clv_minor, rules)
    lowered = clv_before_minor is not None and clv_minor < clv_before_minor
    fired = None
    if reference and judgement.armed and lowered and not happening.late:
        fired = _fire(judgement, happening.trigger, as_of_ms, clv_minor, reference)
    return (
        msgspec.structs.replace(
            judgement,
            as_of_ms=as_of_ms,
            peaks=_with_peak(judgement.peaks, Peak(day_of(as_of_ms), clv_minor), rules),
            armed=judgement.armed and fired is None,
            fired=fired or judgement.fired,
        ),
        fired,
    )


def on_instant(
    judgement: Judgement, as_of_ms: int, clv_minor: int, silent_days: int, rules: Rules
) -> tuple[Judgement, Fired | None]:
    """The judgement after a grid instant, and the warning if it fires; the same object if not."""
    if not judgement.armed or not rules.min_silence_days <= silent_days <= rules.horizon_days:
        return judgement, None
    reference = fallen(judgement, as_of_ms, clv_minor, rules)
    if reference is None:
        return judgement, None
    fired = _fire(judgement, Trigger.SILENCE, as_of_ms, clv_minor, reference)
    return (
        msgspec.structs.replace(judgement, as_of_ms=as_of_ms, armed=False, fired=fired),
        fired,
    )


def rebased(
    judgement: Judgement, model_version: str, old_clv_minor: int, new_clv_minor: int
) -> Judgement:
    """The judgement in the scale of another model, so that a model swap looks like no fall.

    Every reference is multiplied by new / old score of the same facts as of the same instant.
    """
    ratio = new_clv_minor / old_clv_minor if old_clv_minor else 1.0
    peaks = tuple(Peak(peak.day, round(peak.clv_minor * ratio)) for peak in judgement.peaks)
    return msgspec.structs.replace(judgement, model_version=model_version, peaks=peaks)


def _fire(
    judgement: Judgement, trigger: Trigger, as_of_ms: int, clv_minor: int, reference: Peak
) -> Fired:
    return Fired(
        trigger=trigger,
        as_of_ms=as_of_ms,
        clv_minor=clv_minor,
        reference=reference,
        episode_ms=judgement.episode_ms,
        episode_id=judgement.episode_id,
    )


def _with_peak(peaks: tuple[Peak, ...], new: Peak, rules: Rules) -> tuple[Peak, ...]:
    """The peaks with one more: those that it overtops, and those too old to matter, are gone."""
    since = new.day - rules.policy.reference_days
    kept = tuple(peak for peak in peaks if peak.day >= since and peak.clv_minor > new.clv_minor)
    return (*kept, new)
