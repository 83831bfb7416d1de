"""The twin of the judge: one event and one day at a time, one score at a time.

It asks the same rule (`model.decide.rule`) and the same fold, which have twins of their own, and
knows nothing of batches, due times computed ahead or instants that may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from features.events.orders import Order, OrderType
from features.facts.buckets import DTYPE
from features.facts.ledger import entries_newest_first, id_hash
from features.facts.state import Effect, apply
from model.decide import rule
from model.decide.codec import UNKNOWN, CustomerRecord
from model.decide.history import PurchaseHistory
from model.decide.outcome import Answered
from model.decide.rule import RuleEvent
from model.decide.rule_state import Peak, RaisedWarning, Trigger
from model.decide.scoring import Score
from model.judge.judge import Judge
from model.judge.judged import Event, ScheduledCustomer, Scoring


class TwinCustomer:
    """One customer; `passed_ms` is the instant up to which silence has been judged."""

    def __init__(self, judge: Judge, user_id: str, customer: CustomerRecord = UNKNOWN) -> None:
        self.judge = judge
        self.calendar = judge.rules.calendar
        self.user_id = user_id
        self.facts = customer.facts
        self.rule_state = customer.rule_state
        self.passed_ms: int | None = None
        self.scorings: list[Scoring] = []
        self.effects: dict[int, Effect] = {}

    def event(self, event: Event) -> None:
        self._take_on_the_model()
        order = event.order
        applied = apply(self.facts, order, self.judge.memory, self.calendar)
        self.effects[event.offset] = applied.effect
        after = applied.state
        if after is self.facts:
            return
        self.until(event.watermark_ms)
        before, self.facts = self.facts, after
        as_of_ms = max(self.rule_state.as_of_ms, order.ts_ms, event.watermark_ms)
        reference = self.rule_state.reference
        score = self._score(as_of_ms)
        without = self.judge.scorer.scores([(before, as_of_ms)])[0]
        seen = RuleEvent(
            order.type,
            order.ts_ms,
            id_hash(order.order_id),
            late=order.ts_ms < event.watermark_ms,
            void=before.buckets == after.buckets,
            known=any(
                known.id_hash == id_hash(order.order_id) and known.type is order.type
                for known in entries_newest_first(before.ledger)
            ),
            version=(order.amount_minor, order.refund_id, order.updated_ms),
        )
        verdict = rule.on_event(
            self.rule_state,
            seen,
            as_of_ms,
            score.clv_minor,
            without.clv_minor,
            self._history(),
            self.judge.rules,
        )
        self.rule_state = verdict.rule_state
        if not self.rule_state.model_version:
            self.rule_state = msgspec.structs.replace(
                self.rule_state, model_version=self.judge.scorer.model_version
            )
        trigger = Trigger.ORDER if order.type is OrderType.ORDER else Trigger.REFUND
        answered = None
        if verdict.answered:
            answered = Answered(verdict.answered, order.ts_ms, before.last_purchase_day)
        self._tell(
            event.offset, as_of_ms, trigger, score, reference, None, answered, verdict.value_drop
        )
        self.passed_ms = as_of_ms

    def until(self, until_ms: int) -> None:
        """Judges every day up to an instant that was not judged yet."""
        if self.passed_ms is None or until_ms <= self.passed_ms:
            return
        for day in range(
            self.calendar.day_of(self.passed_ms) + 1, self.calendar.day_of(until_ms) + 1
        ):
            if self._past_the_horizon(day):
                break
            if self._due(day):
                self._take_on_the_model()
                self._silent(day)
        self.passed_ms = until_ms

    def track(self) -> ScheduledCustomer:
        return ScheduledCustomer(CustomerRecord(self.facts, self.rule_state), self._next_due())

    def _silent(self, day: int) -> None:
        as_of_ms = self.calendar.start_ms(day)
        reference, rules = self.rule_state.reference, self.judge.rules
        score = self._score(as_of_ms)
        history = self._history()
        assert history is not None
        (index,) = self.judge.scorer.indices([(self.facts, as_of_ms)])
        verdict = rule.on_instant(
            self.rule_state,
            as_of_ms,
            score.clv_minor,
            rules.is_sure(day - history.last_day, index),
            history,
            rules,
        )
        self.rule_state = verdict.rule_state
        if verdict.raised or self._refresh(day):
            self._tell(None, as_of_ms, Trigger.SILENCE, score, reference, verdict.raised)

    def _next_due(self) -> int | None:
        last_day = self.facts.last_purchase_day
        if last_day is None or self.passed_ms is None:
            return None
        first = self.calendar.day_of(self.passed_ms) + 1
        days = range(first, last_day + self.judge.rules.horizon_days + 1)
        return next((self.calendar.start_ms(day) for day in days if self._due(day)), None)

    def _past_the_horizon(self, day: int) -> bool:
        last_day = self.facts.last_purchase_day
        return last_day is None or day > last_day + self.judge.rules.horizon_days

    def _due(self, day: int) -> bool:
        return self._refresh(day) or self._could_fire(day)

    def _could_fire(self, day: int) -> bool:
        rules, history = self.judge.rules, self._history()
        if history is None or history.purchase_days < rules.policy.min_orders:
            return False
        first_day = history.last_day + rules.first_silence_days
        quiet = day < self.rule_state.quiet_until_day
        return self.rule_state.may_warn(rules) and day >= first_day and not quiet

    def _history(self) -> PurchaseHistory | None:
        before, last_day = self.facts.before, self.facts.last_purchase_day
        table = np.frombuffer(self.facts.buckets, DTYPE)
        days = table["day"][table["orders"] > 0].tolist()
        if last_day is None:
            return None
        first_day = before.first_day if before.purchase_days else min(days)
        count = len(days) + before.purchase_days
        return PurchaseHistory(
            first_day, last_day, min(count, self.judge.rules.enough_purchase_days)
        )

    def _refresh(self, day: int) -> bool:
        every, last_day = self.judge.rules.refresh_days, self.facts.last_purchase_day
        if last_day is None or every is None:
            return False
        return day > last_day and (day - last_day) % every == 0

    def _take_on_the_model(self) -> None:
        scorer = self.judge.scorer
        last = self.rule_state.scored_last
        if last and self.rule_state.model_version != scorer.model_version:
            new = self._score(self.calendar.start_ms(last.day))
            self.rule_state = rule.rebased(
                self.rule_state,
                scorer.model_version,
                last.clv_minor,
                new.clv_minor,
            )

    def _score(self, as_of_ms: int) -> Score:
        return self.judge.scorer.scores([(self.facts, as_of_ms)])[0]

    def _tell(
        self,
        offset: int | None,
        as_of_ms: int,
        trigger: Trigger,
        score: Score,
        reference: Peak | None,
        raised: RaisedWarning | None,
        answered: Answered | None = None,
        value_drop: RaisedWarning | None = None,
    ) -> None:
        self.scorings.append(
            Scoring(
                user_id=self.user_id,
                offset=offset,
                as_of_ms=as_of_ms,
                trigger=trigger,
                score=score,
                reference=reference,
                facts=self.facts,
                raised=raised,
                answered=answered,
                value_drop=value_drop,
            )
        )


def events_of(orders: Iterable[Order], lateness_ms: int) -> list[Event]:
    """The orders as events of one partition, each with the watermark that it brings about."""
    events = []
    high_ms = -1
    for place, order in enumerate(orders):
        high_ms = max(high_ms, order.ts_ms)
        events.append(Event(place, order, high_ms - lateness_ms))
    return events


def twins(judge: Judge, events: Iterable[Event], until_ms: int | None) -> dict[str, TwinCustomer]:
    """Every customer of a partition's log, judged event by event and day by day."""
    found: dict[str, TwinCustomer] = {}
    for event in events:
        user = event.order.user_id
        found.setdefault(user, TwinCustomer(judge, user)).event(event)
    if until_ms is not None:
        for twin in found.values():
            twin.until(until_ms)
    return found
