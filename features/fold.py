"""A whole order log folded into the facts of its customers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from features.orders import Order
from features.state import EMPTY, BeyondMemory, CustomerState, apply


class LogFold:
    """The customers of a log as known at one instant after the other.

    `orders` are sorted by event time and read once; `states` are the facts by user id. `wanted`
    says whose orders are folded (None: everybody's).
    """

    def __init__(
        self, orders: Sequence[Order], wanted: Callable[[str], bool] | None = None
    ) -> None:
        self.states: dict[str, CustomerState] = {}
        self._orders = orders
        self._wanted = wanted
        self._position = 0

    def until(self, instant_ms: int) -> None:
        """Folds the orders before an instant."""
        while (at := self._position) < len(self._orders):
            order = self._orders[at]
            if order.ts_ms >= instant_ms:
                return
            self._position += 1
            if self._wanted is None or self._wanted(order.user_id):
                after = apply(self.states.get(order.user_id, EMPTY), order)
                if not isinstance(after, BeyondMemory):
                    self.states[order.user_id] = after
