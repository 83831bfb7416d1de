"""How a warning ends: kept, recovered or lost.

A warning opens an episode, and the next order answers it. With H the model's horizon:

- kept: the next order came before the customer had been silent for more than H days in all;
- recovered: it came within H days of the warning, after a longer silence than that;
- lost: no order within H days of the warning, whether one came later or never.

So *strict precision* is lost / all, and *episode precision* is (lost + recovered) / all.
"""

from __future__ import annotations

import enum

import msgspec

from features.times import MS_PER_DAY, UTC, Calendar
from model.decide.rule_state import RaisedWarning


class Ending(enum.StrEnum):
    """How an episode ended, or that it has not yet."""

    KEPT = "kept"
    RECOVERED = "recovered"
    LOST = "lost"
    OPEN = "open"


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A warning and the order that came after it; `silent_since_day` is the day of the order
    before (None: there was none)."""

    raised: RaisedWarning
    order_ms: int
    silent_since_day: int | None

    def ending(self, horizon_days: int, calendar: Calendar = UTC) -> Ending:
        """How the episode ended."""
        warned_ms, order_ms = self.raised.as_of_ms, self.order_ms
        return ending(warned_ms, self.silent_since_day, order_ms, order_ms, horizon_days, calendar)


def ending(
    warned_ms: int,
    silent_since_day: int | None,
    order_ms: int | None,
    now_ms: int,
    horizon_days: int,
    calendar: Calendar = UTC,
) -> Ending:
    """How a warning of `warned_ms` ended whose next order came at `order_ms` (None: not until
    `now_ms`). A customer without an earlier order counts as silent since the warning."""
    end_ms = warned_ms + horizon_days * MS_PER_DAY
    if order_ms is None:
        return Ending.LOST if now_ms >= end_ms else Ending.OPEN
    if order_ms >= end_ms:
        return Ending.LOST
    since_day = calendar.day_of(warned_ms) if silent_since_day is None else silent_since_day
    return (
        Ending.KEPT if calendar.day_of(order_ms) - since_day <= horizon_days else Ending.RECOVERED
    )
