"""The order events of many customers: folded one after the other, scored by one call, and then
decided.

Silences that a customer's first event closes are judged before it, for all at once
(`model.judge.silences`). Whoever has a midnight between two events of the batch is left to be
judged step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from features.columns.table import FactColumns
from features.facts.ledger import IdMemory
from features.facts.state import Applied, CustomerState, apply
from model.decide import rule
from model.decide.codec import CustomerRecord
from model.decide.history import PurchaseHistory, histories_of
from model.decide.outcome import Answered
from model.decide.policy import Rules
from model.decide.rule import RuleEvent
from model.decide.rule_state import RuleState
from model.decide.scoring import Score, Scorer
from model.judge.judged import Event, JudgedBatch, ScheduledCustomer, Scoring
from model.judge.silences import Spans, judge_silences


class FoldedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that changed the facts of a customer, these before and after it, and the instant as
    of which they are scored."""

    user_id: str
    event: Event
    applied: Applied
    before: CustomerState
    facts: CustomerState
    as_of_ms: int


def judge_events(
    tracks: Mapping[str, ScheduledCustomer],
    events: Mapping[str, Sequence[Event]],
    scorer: Scorer,
    rules: Rules,
    memory: IdMemory,
) -> JudgedBatch:
    """The customers, all of them `is_settled`, after their events; but for those who are to be
    judged step by step. Scorings are in no order, but those of one customer in theirs."""
    judged = JudgedBatch()
    of_users: dict[str, list[FoldedEvent]] = {}
    closing: dict[str, int] = {}
    effects: dict[str, list[tuple[int, Applied]]] = {}
    for user_id, track in tracks.items():
        done: list[tuple[int, Applied]] = []
        folds = _folded(user_id, track.customer, events[user_id], memory, rules, done)
        if folds is None:
            continue
        judged.tracks[user_id] = track
        effects[user_id] = done
        if folds:
            of_users[user_id] = folds
            due_ms, watermark_ms = track.due_ms, folds[0].event.watermark_ms
            if due_ms is not None and due_ms <= watermark_ms:
                closing[user_id] = watermark_ms
    if closing:
        silent = {user_id: tracks[user_id] for user_id in closing}
        closed = judge_silences(silent, closing, scorer, rules)
        judged.tracks |= closed.tracks
        judged.scorings, judged.instants = closed.scorings, closed.instants
        for user_id in silent.keys() - closed.tracks.keys():
            del of_users[user_id], judged.tracks[user_id], effects[user_id]
    for done in effects.values():
        judged.note(done)
    if of_users:
        _decide(of_users, judged, scorer, rules)
    return judged


def _folded(
    user_id: str,
    customer: CustomerRecord,
    events: Sequence[Event],
    memory: IdMemory,
    rules: Rules,
    done: list[tuple[int, Applied]],
) -> list[FoldedEvent] | None:
    """What a customer's events change, and in `done` what each did; None where a midnight lies
    between two of them."""
    facts, as_of_ms, calendar = customer.facts, customer.rule_state.as_of_ms, rules.calendar
    folds: list[FoldedEvent] = []
    for event in events:
        order, before = event.order, facts
        applied = apply(before, order, memory, calendar)
        done.append((event.offset, applied))
        facts = applied.state
        if facts is before:
            continue
        if folds and calendar.day_of(event.watermark_ms) > calendar.day_of(as_of_ms):
            return None
        as_of_ms = max(as_of_ms, order.ts_ms, event.watermark_ms)
        folds.append(FoldedEvent(user_id, event, applied, before, facts, as_of_ms))
    return folds


def _decide(
    of_users: Mapping[str, Sequence[FoldedEvent]], judged: JudgedBatch, scorer: Scorer, rules: Rules
) -> None:
    """Scores the folds, and asks the rule of each; `judged` has the customers before them, and has
    them after."""
    folds = [fold for of_user in of_users.values() for fold in of_user]
    facts = FactColumns.of([fold.facts for fold in folds])
    day_of = rules.calendar.day_of
    as_of_day = np.array([day_of(fold.as_of_ms) for fold in folds], np.int64)
    users = [fold.user_id for fold in folds] if scorer.attributes else None
    rated = scorer.rated(facts.at(np.arange(len(folds)), as_of_day), users)
    scores = list(map(Score, *(column.tolist() for column in rated)))
    bought = facts.bought()
    histories = histories_of(bought, rules.enough_purchase_days)
    states = [judged.tracks[user_id].customer.rule_state for user_id in of_users]
    before = _clvs_before(zip(states, of_users.values(), strict=True), scores, scorer)
    last: list[int] = []
    at = 0
    for place, of_user in enumerate(of_users.values()):
        for fold in of_user:
            states[place], told = at_event(
                states[place], fold, scores[at], before.get(at), histories[at], scorer, rules
            )
            judged.scorings.append(told)
            at += 1
        last.append(at - 1)
    spans = Spans.of(bought.last_day[last], bought.days[last], states, rules)
    for user_id, of_user, state, day in zip(
        of_users, of_users.values(), states, spans.due(as_of_day[last] + 1), strict=True
    ):
        due_ms = None if day is None else rules.calendar.start_ms(day)
        customer = CustomerRecord(of_user[-1].facts, state)
        judged.tracks[user_id] = ScheduledCustomer(customer, due_ms)
        judged.changed.add(user_id)


def _clvs_before(
    customers: Iterable[tuple[RuleState, Sequence[FoldedEvent]]],
    scores: Sequence[Score],
    scorer: Scorer,
) -> dict[int, int]:
    """The CLVs without the event but as of its instant, by place, of the events that may be value
    drops: where the CLV is under what the highest reference of the customer, before or within the
    batch, allows."""
    suspects: dict[int, FoldedEvent] = {}
    at = 0
    for state, folds in customers:
        highest = max((peak.clv_minor for peak in state.peaks), default=0)
        for fold in folds:
            clv_minor = scores[at].clv_minor
            if rule.is_down_by(rule.VALUE_DROP, clv_minor, highest):
                suspects[at] = fold
            highest = max(highest, clv_minor)
            at += 1
    found = scorer.scores(
        [(fold.before, fold.as_of_ms) for fold in suspects.values()],
        [fold.user_id for fold in suspects.values()],
    )
    return {at: score.clv_minor for at, score in zip(suspects, found, strict=True)}


def at_event(
    rule_state: RuleState,
    fold: FoldedEvent,
    score: Score,
    clv_before_minor: int | None,
    history: PurchaseHistory | None,
    scorer: Scorer,
    rules: Rules,
) -> tuple[RuleState, Scoring]:
    """What the rule makes of an event, and what there is to be told of it; `history` knows it."""
    order, watermark_ms = fold.event.order, fold.event.watermark_ms
    event = RuleEvent(
        type=order.type,
        ts_ms=order.ts_ms,
        order_hash=fold.applied.order_hash,
        late=order.ts_ms < watermark_ms,
        void=fold.facts.buckets == fold.before.buckets,
        known=fold.applied.known,
        version=(order.amount_minor, order.refund_id, order.updated_ms),
    )
    verdict = rule.on_event(
        rule_state, event, fold.as_of_ms, score.clv_minor, clv_before_minor, history, rules
    )
    after = verdict.rule_state
    if not after.model_version:
        after = msgspec.structs.replace(after, model_version=scorer.model_version)
    answered = None
    if verdict.answered:
        answered = Answered(verdict.answered, order.ts_ms, fold.before.last_purchase_day)
    return after, Scoring(
        user_id=fold.user_id,
        offset=fold.event.offset,
        as_of_ms=fold.as_of_ms,
        trigger=event.trigger,
        score=score,
        reference=rule_state.reference,
        facts=fold.facts,
        raised=None,
        answered=answered,
        value_drop=verdict.value_drop,
    )
