"""What a log tells of a past day that nobody knew then: when everybody bought, and when next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.events.orders import Order, OrderType
from features.times import UTC, Calendar
from model.backtest.panel import NEVER


@dataclass(frozen=True, slots=True)
class Period:
    """What is judged of a log that has the days from `first_day` to before `end_day`: the
    warnings from `from_day` on, and the silences that begin before `until_day` (None: all)."""

    first_day: int
    from_day: int
    until_day: int | None
    end_day: int
    horizon_days: int

    def counts(self, since: int) -> bool:
        """Whether a silence that began on a day is judged: with a horizon of log after it."""
        until = self.until_day if self.until_day is not None else NEVER
        return self.from_day <= since < until and since + self.horizon_days < self.end_day

    @property
    def days(self) -> range:
        """The days whose warnings are counted."""
        return range(self.from_day, self.end_day)


class Purchases:
    """The days with an order that nobody took back, ascending, `by_user`."""

    def __init__(self, orders: Sequence[Order], calendar: Calendar = UTC) -> None:
        """`orders` sorted by event time."""
        self.by_user = purchase_days(orders, calendar)
        self._buyers: dict[int, list[str]] = {}
        for user, days in self.by_user.items():
            for day in days:
                self._buyers.setdefault(day, []).append(user)

    def buyers(self, day: int) -> list[str]:
        """Who bought on a day."""
        return self._buyers.get(day, [])

    def following(self, user: str, day: int) -> int:
        """The day of a customer's next order after a day, or NEVER."""
        days = self.by_user[user]
        at = bisect_right(days, day)
        return days[at] if at < len(days) else NEVER

    def number(self, user: str, until: int) -> int:
        """How many purchase days a customer has up to a day."""
        return bisect_right(self.by_user[user], until)

    def median_gap(self, user: str, until: int) -> float:
        """The median of the gaps between a customer's orders up to a day; 0 without two orders."""
        days = self.by_user[user]
        known = days[: bisect_right(days, until)]
        return float(np.median(np.diff(known))) if len(known) > 1 else 0.0


def purchase_days(orders: Sequence[Order], calendar: Calendar = UTC) -> dict[str, list[int]]:
    """The days with an order that nobody took back, ascending, of each customer; `orders`
    sorted by event time."""
    taken_back = {(o.user_id, o.order_id) for o in orders if o.type is OrderType.CANCELLATION}
    days: dict[str, list[int]] = {}
    same: dict[int, int] = {}  # one object a day, not one an order
    for order in orders:
        if order.type is OrderType.ORDER and (order.user_id, order.order_id) not in taken_back:
            day = calendar.day_of(order.ts_ms)
            of_user = days.setdefault(order.user_id, [])
            if not of_user or of_user[-1] != day:
                of_user.append(same.setdefault(day, day))
    return days
