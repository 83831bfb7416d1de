"""A whole order log folded into the facts of its customers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from features.events.orders import Order
from features.facts.ledger import MAX_EVENTS
from features.facts.state import EMPTY, CustomerState, Effect, apply
from features.times import UTC, Calendar


class LogFold:
    """The customers of a log as known at the beginning of one day after the other.

    `orders` are sorted by event time and read once; `states` are the facts by user id, `effects`
    how many events did what. `wanted` says whose orders are folded (None: everybody's).
    """

    def __init__(
        self,
        orders: Sequence[Order],
        calendar: Calendar = UTC,
        *,
        wanted: Callable[[str], bool] | None = None,
    ) -> None:
        self.states: dict[str, CustomerState] = {}
        self.effects: Counter[Effect] = Counter()
        self._orders = orders
        self._calendar = calendar
        self._wanted = wanted
        self._position = 0

    def until(self, day: int) -> None:
        """Folds the orders before a day begins."""
        end_ms = self._calendar.start_ms(day)
        while (at := self._position) < len(self._orders):
            order = self._orders[at]
            if order.ts_ms >= end_ms:
                return
            self._position += 1
            if self._wanted is None or self._wanted(order.user_id):
                state = self.states.get(order.user_id, EMPTY)
                applied = apply(state, order, calendar=self._calendar)
                self.effects[applied.effect] += 1
                if applied.effect is not Effect.BEYOND_MEMORY:
                    self.states[order.user_id] = applied.state


def uncounted(orders: Sequence[Order], calendar: Calendar = UTC) -> int:
    """How many events of a log no fold can count, as there are more than are remembered of one
    customer (`features.facts.ledger`): they cannot be told from repeats."""
    events = Counter(order.user_id for order in orders)
    busy = {user_id for user_id, count in events.items() if count > MAX_EVENTS}
    if not busy:
        return 0
    fold = LogFold(orders, calendar, wanted=busy.__contains__)
    fold.until(calendar.day_of(orders[-1].ts_ms) + 1)
    return fold.effects[Effect.BEYOND_MEMORY]
