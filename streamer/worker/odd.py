"""Orders that were not counted as they came, told of when they are more than a trace."""

from __future__ import annotations

from collections import Counter
from typing import Final

from streamer import log
from streamer.pipeline.batch import Counters

_log = log.get(__name__)

_LEAST: Final = 10
_SHARE: Final = 0.001
_HINTS: Final = {
    "correction": "orders came again with other values; the newest count",
    "id_reused": "order ids came again more than 14 days later; make them unique",
    "rounded": "amounts had more decimals than their currency",
}


class OddOrders:
    """Counts what is odd since the worker began, and warns of each kind when it is at least ten
    orders and a thousandth of all, and again whenever there are twice as many."""

    def __init__(self) -> None:
        self._orders = 0
        self._odd: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    def add(self, done: Counters) -> None:
        """Takes what a partition has done since it was last asked."""
        self._orders += done.orders
        self._odd.update(done.odd)
        for kind in done.odd:
            count = self._odd[kind]
            if count < max(_LEAST, _SHARE * self._orders, 2 * self._told[kind]):
                continue
            self._told[kind] = count
            _log.warning(
                "orders.odd", kind=kind, count=count, orders=self._orders, hint=_HINTS[kind]
            )
