"""How many of the warned did not come back, on a log whose future is known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from features.orders import Order, OrderType
from features.times import day_of

Days = Sequence[int]


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Warnings that can be judged, how many of them were of customers who did not order within the
    horizon after it, and the base rate: the share of all days of customers still active (an order
    within the horizon before) on which the same would have been true."""

    judged: int
    gone: int
    base_rate: float

    @property
    def precision(self) -> float:
        """Share of the judged warnings that were right; 0 without any."""
        return self.gone / self.judged if self.judged else 0.0


def purchase_days(orders: Iterable[Order]) -> dict[str, list[int]]:
    """The UTC days on which each customer ordered, ascending."""
    days: dict[str, set[int]] = {}
    for order in orders:
        if order.type is OrderType.ORDER:
            days.setdefault(order.user_id, set()).add(day_of(order.ts_ms))
    return {user_id: sorted(of_user) for user_id, of_user in days.items()}


def hindsight(
    warned: Iterable[tuple[str, int]],
    purchases: Mapping[str, Days],
    horizon_days: int,
    from_day: int,
    last_day: int,
) -> Hindsight:
    """What became of (user, UTC day) warnings of days `from_day` to `last_day - horizon_days`;
    later ones cannot be judged by a log that ends on `last_day`."""
    until = last_day - horizon_days
    judged = [(user, day) for user, day in warned if from_day <= day <= until]
    gone = sum(_gone(purchases.get(user, ()), day, horizon_days) for user, day in judged)
    return Hindsight(
        len(judged), gone, _base_rate(purchases.values(), horizon_days, from_day, until)
    )


def _gone(purchases: Days, day: int, horizon_days: int) -> bool:
    at = bisect_right(purchases, day)
    return at == len(purchases) or purchases[at] > day + horizon_days


def _base_rate(customers: Iterable[Days], horizon_days: int, from_day: int, until: int) -> float:
    """Share of active customer-days without an order in the horizon after them."""
    active = gone = 0
    for days in customers:
        for this, following in zip(days, [*days[1:], None], strict=True):
            end = (
                this + horizon_days
                if following is None
                else min(following - 1, this + horizon_days)
            )
            # Gone on a day d of this gap means that the next order is later than d + horizon.
            gone_end = end if following is None else min(end, following - horizon_days - 1)
            active += _overlap(this + 1, end, from_day, until)
            gone += _overlap(this + 1, gone_end, from_day, until)
    return gone / active if active else 0.0


def _overlap(first: int, last: int, low: int, high: int) -> int:
    return max(0, min(last, high) - max(first, low) + 1)
