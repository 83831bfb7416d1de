"""An order log, day by day, through the very judge that runs live: no clock, no store, no broker.

One partition, nothing late: at 00:00 of a day everyone who is due is judged, then the orders of
the day come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.events.orders import Order
from model.decide.codec import CustomerRecord
from model.judge.budget import joined, settle, share, split
from model.judge.customers import CustomerArrays
from model.judge.judge import Judge, JudgedArrays
from model.judge.judged import Event, Scoring
from model.judge.kept import KeptCustomers, unknown

_EVERYBODY: Final = 2**62


@dataclass(frozen=True, slots=True)
class SimulatedDay:
    """What raised on a day; and who had an event, before their first one and after their last."""

    raised: list[Scoring]
    before: CustomerArrays
    after: CustomerArrays


class Simulation:
    """Where the log has got to: every customer, with the instant at which each is due."""

    def __init__(self, orders: Iterable[Order], judge: Judge) -> None:
        """`orders` sorted by event time."""
        self.judge = judge
        self.customers = KeptCustomers(_EVERYBODY)
        self.deferred = 0
        self._calendar = judge.rules.calendar
        self._coming = iter(orders)
        self._next = next(self._coming, None)
        self._place = 0

    def day(self, day: int) -> SimulatedDay:
        """Judges a day; days must come in order."""
        silent = self._judge_due(day)
        events = self._events_of(day)
        before = self._known(list(events))
        judged = self.judge.judge_all(before, list(events.values()))
        self.customers.put(judged.customers, judged.changed)
        told = silent.scorings.told + judged.scorings.told
        return SimulatedDay([one for one in told if one.raised], before, judged.customers)

    def records(self) -> Iterator[tuple[str, CustomerRecord]]:
        """Every customer as they are now."""
        customers = self.customers.take(list(self.customers))
        for place, user in enumerate(customers.users):
            yield user, customers.track(place).customer

    def _judge_due(self, day: int) -> JudgedArrays:
        instant_ms = self._calendar.start_ms(day)
        customers = self.customers.take(self.customers.due(instant_ms))
        judged = self.judge.judge_all(customers, (), instant_ms)
        budget = self.judge.rules.policy.budget_per_day
        if budget is not None and judged.contested:
            places = share(budget, 0, 1, day)
            others, candidates = split(judged.batch(customers))
            settled = settle(candidates, places, instant_ms, self.judge.rules)
            self.deferred += settled.newly_deferred
            judged = JudgedArrays.of(joined(others, settled.judged))
        self.customers.put(judged.customers, judged.changed)
        return judged

    def _events_of(self, day: int) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = {}
        end_ms = self._calendar.start_ms(day + 1)
        order = self._next
        while order is not None and order.ts_ms < end_ms:
            event = Event(self._place, order, order.ts_ms)
            events.setdefault(order.user_id, []).append(event)
            self._place += 1
            order = next(self._coming, None)
        self._next = order
        return events

    def _known(self, users: list[str]) -> CustomerArrays:
        new = [user for user in users if user not in self.customers]
        self.customers.put(unknown(new), np.zeros(len(new), bool))
        return self.customers.take(users)
