"""Orders not counted as they came, or not at all: told of when they are more than a trace."""

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
    "ahead": "orders were far ahead of those of two thirds of the customers: they count, but do not"
    " move event time; check the clocks of the devices",
    "late": "orders came more than CLV_ALLOWED_LATENESS late; they count, but raise no warning",
    "future_ts": "orders were ahead of the clock; check those of the devices",
    "no_key": "records came without a key; key every order by its user_id",
    "key_mismatch": "records were keyed by something else; key every order by its user_id",
    "placeholder_user": "orders name nobody; leave the placeholder out or send an id",
}
# What cannot be is told of at once.
_AT_ONCE: Final = frozenset({"future_ts"})


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
        news = {k: n for k, n in (done.odd + done.reasons).items() if k in _HINTS}
        self._odd.update(news)
        for kind in news:
            count = self._odd[kind]
            least = 1 if kind in _AT_ONCE else max(_LEAST, _SHARE * self._orders)
            if count < max(least, 2 * self._told[kind]):
                continue
            self._told[kind] = count
            _log.warning(
                "orders.odd", kind=kind, count=count, orders=self._orders, hint=_HINTS[kind]
            )
