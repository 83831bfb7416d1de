"""An order log, day by day, through the very judge that runs live: no clock, no store, no broker.

One partition, nothing late: at 00:00 of a day everyone who is due is judged, then the orders of
the day come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from features.events.orders import Order
from model.decide.codec import UNKNOWN
from model.judge.budget import joined, settle, share, split
from model.judge.judge import Judge
from model.judge.judged import Event, JudgedBatch, ScheduledCustomer, Scoring


class Simulation:
    """Where the log has got to: every customer's track, and who is due when."""

    def __init__(self, orders: Sequence[Order], judge: Judge) -> None:
        """`orders` sorted by event time."""
        self.judge = judge
        self.tracks: dict[str, ScheduledCustomer] = {}
        self.deferred = 0
        self._orders = orders
        self._calendar = judge.rules.calendar
        self._place = 0
        self._due: defaultdict[int, set[str]] = defaultdict(set)
        self._due_days: dict[str, int] = {}

    def day(self, day: int) -> tuple[list[Scoring], set[str]]:
        """Judges a day; days must come in order. What raised, and who had an event."""
        judged = self._judge_due(day)
        raised = [scoring for scoring in judged.scorings if scoring.raised]
        events = self._events_of(day)
        if events:
            judged = self.judge.judge(self._tracks_of(events), events)
            self._take(judged)
            raised += [scoring for scoring in judged.scorings if scoring.raised]
        return raised, set(events)

    def _judge_due(self, day: int) -> JudgedBatch:
        users = sorted(self._due.pop(day, ()))
        instant_ms = self._calendar.start_ms(day)
        judged = self.judge.judge(self._tracks_of(users), {}, instant_ms)
        budget = self.judge.rules.policy.budget_per_day
        if budget is not None and judged.contested:
            places = share(budget, 0, 1, day)
            others, candidates = split(judged)
            settled = settle(candidates, places, instant_ms, self.judge.rules)
            self.deferred += settled.newly_deferred
            judged = joined(others, settled.judged)
        self._take(judged)
        return judged

    def _events_of(self, day: int) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = {}
        end_ms = self._calendar.start_ms(day + 1)
        while self._place < len(self._orders) and self._orders[self._place].ts_ms < end_ms:
            order = self._orders[self._place]
            event = Event(self._place, order, order.ts_ms)
            events.setdefault(order.user_id, []).append(event)
            self._place += 1
        return events

    def _tracks_of(self, users: Iterable[str]) -> dict[str, ScheduledCustomer]:
        unknown = ScheduledCustomer(UNKNOWN, None)
        return {user: self.tracks.get(user, unknown) for user in users}

    def _take(self, judged: JudgedBatch) -> None:
        for user, track in judged.tracks.items():
            self.tracks[user] = track
            before = self._due_days.pop(user, None)
            if before is not None:
                self._due[before].discard(user)
            if track.due_ms is not None:
                after = self._calendar.day_of(track.due_ms)
                self._due[after].add(user)
                self._due_days[user] = after
