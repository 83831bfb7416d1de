"""Customers judged one step after the other: any event, any instant, another model, a budget.

It is the slow way, for whom `model.judge.silences` and `model.judge.events` do not judge, and what
both are held equal to. Scoring is one model call for all of them: facts do not depend on decisions,
so everything worth scoring is known before anything is decided. Only orders that may have lowered a
CLV themselves take a second, small one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import msgspec

from features.facts.ledger import IdMemory
from features.facts.state import DEFAULT_MEMORY, Applied, CustomerState, apply
from model.decide import rule
from model.decide.codec import CustomerRecord
from model.decide.history import PurchaseHistory, history_of
from model.decide.outcome import Answered
from model.decide.policy import Rules
from model.decide.rule import RuleEvent
from model.decide.rule_state import RuleState, Trigger
from model.decide.scoring import Score, Scorer
from model.judge import schedule
from model.judge.judged import Contested, Event, JudgedBatch, ScheduledCustomer, Scoring


@dataclass(frozen=True, slots=True)
class Stepwise:
    """A judge of one customer after the other; see `model.judge.judge.Judge`."""

    scorer: Scorer
    rules: Rules
    memory: IdMemory = DEFAULT_MEMORY

    def judge(
        self,
        tracks: Mapping[str, ScheduledCustomer],
        events: Mapping[str, Sequence[Event]],
        until_ms: int | None = None,
    ) -> JudgedBatch:
        """The tracks after their events, and after the due instants up to `until_ms` if given.
        Scorings are in no order, but those of one customer in theirs."""
        judged = JudgedBatch()
        courses = [
            self._course(user_id, track, events.get(user_id, ()), until_ms)
            for user_id, track in tracks.items()
        ]
        scores = _scores(self.scorer, self.rules, courses)
        before = _scores_before(self.scorer, courses, scores)
        for course in courses:
            judged.instants += sum(isinstance(step, _Instant) for step in course.steps)
            judged.note(course.applied)
        for course, of_course in zip(courses, scores, strict=True):
            decided = self._decide(course, of_course, before, until_ms)
            judged.tracks[course.user_id] = decided.track
            judged.scorings += decided.scorings
            if decided.changed:
                judged.changed.add(course.user_id)
            if decided.contested:
                judged.contested[course.user_id] = decided.contested
        return judged

    def _course(
        self,
        user_id: str,
        track: ScheduledCustomer,
        events: Sequence[Event],
        until_ms: int | None,
    ) -> _Course:
        """A customer's events folded, and what has to be scored on the way."""
        facts, rule_state = track.customer.facts, track.customer.rule_state
        steps: list[_Instant | _Fold | _Rebase] = []
        done: list[tuple[int, Applied]] = []
        scored = rule_state.scored_last
        if scored and rule_state.model_version != self.scorer.model_version:
            steps.append(_Rebase(facts, self.rules.calendar.start_ms(scored.day)))
        as_of_ms, due_ms = rule_state.as_of_ms, track.due_ms
        # Found once for what is scored and for what is judged after it.
        history = history_of(facts, self.rules.enough_purchase_days)
        for event in events:
            applied = apply(facts, event.order, self.memory, self.rules.calendar)
            done.append((event.offset, applied))
            if (after := applied.state) is facts:
                continue
            # What the rule remembers is known here only up to the first scoring in the batch.
            known = None if steps else rule_state
            steps += self._instants(facts, history, known, due_ms, event.watermark_ms)
            as_of_ms = max(as_of_ms, event.order.ts_ms, event.watermark_ms)
            history = history_of(after, self.rules.enough_purchase_days)
            steps.append(_Fold(after, as_of_ms, facts, event, applied, history))
            facts, due_ms = after, as_of_ms + 1
        if until_ms is not None:
            known = None if steps else rule_state
            steps += self._instants(facts, history, known, due_ms, until_ms)
        return _Course(user_id, track, facts, history, steps, done)

    def _instants(
        self,
        facts: CustomerState,
        history: PurchaseHistory | None,
        rule_state: RuleState | None,
        from_ms: int | None,
        until_ms: int,
    ) -> list[_Instant]:
        """The grid instants that may be due while the facts stay as they are."""
        if history is None or from_ms is None or from_ms > until_ms:
            return []
        from_day = self.rules.calendar.day_from(from_ms)
        deciding_from = schedule.first_deciding_day(history, rule_state, from_day, self.rules)
        return [
            _Instant(facts, at, history, refresh)
            for at, refresh in schedule.possible_instants(
                history, from_ms, until_ms, self.rules, deciding_from=deciding_from
            )
        ]

    def _decide(
        self,
        course: _Course,
        scores: Sequence[_Scored],
        before: Mapping[int, int],
        until_ms: int | None,
    ) -> _Decided:
        """What the rule makes of a course whose steps have these scores; `before` are those of
        `_scores_before`."""
        customer, due_ms = course.track.customer, course.track.due_ms
        rule_state = customer.rule_state
        scorings: list[Scoring] = []
        contest: tuple[RuleState, Scoring | None] | None = None
        for step, (score, sure) in zip(course.steps, scores, strict=True):
            if isinstance(step, _Instant):
                earlier = rule_state
                rule_state, told = self._at_instant(course, earlier, step, score, sure)
                if told and told.raised and self.rules.policy.budget_per_day is not None:
                    contest = _without_place(earlier, step, told)
                if told:
                    scorings.append(told)
                continue
            assert score is not None
            if isinstance(step, _Fold):
                clv_before = before.get(step.event.offset)
                fold = FoldedEvent(
                    course.user_id,
                    step.event,
                    step.applied,
                    step.before,
                    step.facts,
                    step.as_of_ms,
                )
                rule_state, told = at_event(
                    rule_state, fold, score, clv_before, step.history, self.scorer, self.rules
                )
                scorings.append(told)
            else:
                rule_state = self._rebased(rule_state, score)
        history: PurchaseHistory | None = None
        after_ms = -1
        if course.has_events or until_ms is not None:
            # Without `until_ms` the last step is an event: instants only lead up to one.
            after_ms = max(course.steps[-1].as_of_ms if course.steps else -1, until_ms or -1)
            history = course.history
            due_ms = schedule.next_due(history, rule_state, after_ms, self.rules)
        changed = course.has_events or rule_state is not customer.rule_state
        if changed:
            customer = CustomerRecord(course.facts, rule_state)
        contested = None
        if contest:
            contest_due_ms = schedule.next_due(history, contest[0], after_ms, self.rules)
            track = ScheduledCustomer(CustomerRecord(course.facts, contest[0]), contest_due_ms)
            contested = Contested(track, contest[1])
        return _Decided(ScheduledCustomer(customer, due_ms), changed, scorings, contested)

    def _rebased(self, rule_state: RuleState, score: Score) -> RuleState:
        scored = rule_state.scored_last
        assert scored is not None
        version = self.scorer.model_version
        return rule.rebased(rule_state, version, scored.clv_minor, score.clv_minor)

    def _at_instant(
        self,
        course: _Course,
        rule_state: RuleState,
        step: _Instant,
        score: Score | None,
        sure: bool,
    ) -> tuple[RuleState, Scoring | None]:
        clv_minor = 0 if score is None else score.clv_minor
        verdict = rule.on_instant(
            rule_state, step.as_of_ms, clv_minor, sure, step.history, self.rules
        )
        if score is None or (verdict.raised is None and not step.refresh):
            return verdict.rule_state, None
        return verdict.rule_state, Scoring(
            user_id=course.user_id,
            offset=None,
            as_of_ms=step.as_of_ms,
            trigger=Trigger.SILENCE,
            score=score,
            reference=rule_state.reference,
            facts=step.facts,
            raised=verdict.raised,
        )


class FoldedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that changed the facts of a customer, these before and after it, and the instant as
    of which they are scored."""

    user_id: str
    event: Event
    applied: Applied
    before: CustomerState
    facts: CustomerState
    as_of_ms: int


class _Instant(msgspec.Struct, frozen=True, gc=False):
    """A grid instant that may turn out to be due."""

    facts: CustomerState
    as_of_ms: int
    history: PurchaseHistory
    refresh: bool


class _Fold(msgspec.Struct, frozen=True, gc=False):
    """An event, with the facts after and before it, and the history after it."""

    facts: CustomerState
    as_of_ms: int
    before: CustomerState
    event: Event
    applied: Applied
    history: PurchaseHistory | None


class _Rebase(msgspec.Struct, frozen=True, gc=False):
    """A score by the new model of what the old one scored last."""

    facts: CustomerState
    as_of_ms: int


class _Course(NamedTuple):
    """One customer's way through a batch: the facts and history after it, what has to be scored on
    the way, and what the events did, by offset."""

    user_id: str
    track: ScheduledCustomer
    facts: CustomerState
    history: PurchaseHistory | None
    steps: list[_Instant | _Fold | _Rebase]
    applied: list[tuple[int, Applied]]

    @property
    def has_events(self) -> bool:
        """Whether an event was folded."""
        return self.facts is not self.track.customer.facts


class _Decided(NamedTuple):
    """What became of one customer in a batch, as `JudgedBatch` has it of all."""

    track: ScheduledCustomer
    changed: bool
    scorings: list[Scoring]
    contested: Contested | None


class _Scored(NamedTuple):
    """The score of a step, None where nobody asks for it; and of a midnight whether the silence is
    one to warn of, by its length and its index."""

    score: Score | None
    sure: bool


def _scores(scorer: Scorer, rules: Rules, courses: Sequence[_Course]) -> list[list[_Scored]]:
    """The scores of the steps of every customer: the risk of those who may be warned of, then the
    rest of who is to be warned of or told of, each by one model call."""
    steps = [(course.user_id, step) for course in courses for step in course.steps]
    silent = [
        rules.calendar.day_of(step.as_of_ms) - step.history.last_day
        if isinstance(step, _Instant)
        else -1
        for _, step in steps
    ]
    doubtful = range(rules.first_silence_days, rules.late_silence_days)
    asked = [n for n, days in enumerate(silent) if days in doubtful and rules.threshold is not None]
    found_indices = scorer.indices([(steps[n][1].facts, steps[n][1].as_of_ms) for n in asked])
    indices = dict(zip(asked, found_indices, strict=True))
    sure = [rules.is_sure(days, indices.get(n, -math.inf)) for n, days in enumerate(silent)]
    wanted = [
        n
        for n, (_, step) in enumerate(steps)
        if sure[n] or not isinstance(step, _Instant) or step.refresh
    ]
    found = scorer.scores(
        [(steps[n][1].facts, steps[n][1].as_of_ms) for n in wanted],
        [steps[n][0] for n in wanted] if scorer.attributes else None,
    )
    scores = dict(zip(wanted, found, strict=True))
    every = iter([_Scored(scores.get(n), sure[n]) for n in range(len(steps))])
    return [list(islice(every, len(course.steps))) for course in courses]


def _scores_before(
    scorer: Scorer, courses: Sequence[_Course], scores: Sequence[Sequence[_Scored]]
) -> dict[int, int]:
    """The CLVs without the event but as of its instant, by offset, of the events that may be
    value drops. An event can only be one where the CLV is under what the highest reference of
    the customer, before or within the batch, allows."""
    suspects: list[tuple[str, _Fold]] = []
    for course, of_course in zip(courses, scores, strict=True):
        if not course.has_events:
            continue
        highest = max((p.clv_minor for p in course.track.customer.rule_state.peaks), default=0)
        swapped = isinstance(course.steps[0], _Rebase)
        for step, (score, _) in zip(course.steps, of_course, strict=True):
            if score is None or isinstance(step, _Instant):
                continue
            low = swapped or rule.is_down_by(rule.VALUE_DROP, score.clv_minor, highest)
            if low and isinstance(step, _Fold):
                suspects.append((course.user_id, step))
            highest = max(highest, score.clv_minor)
    found = scorer.scores(
        [(step.before, step.as_of_ms) for _, step in suspects], [user for user, _ in suspects]
    )
    return {
        step.event.offset: score.clv_minor for (_, step), score in zip(suspects, found, strict=True)
    }


def _without_place(
    rule_state: RuleState, step: _Instant, told: Scoring
) -> tuple[RuleState, Scoring | None]:
    """What an instant comes to whose warning the budget has no place for."""
    after = rule.deferred(rule_state, step.as_of_ms)
    return after, msgspec.structs.replace(told, raised=None) if step.refresh else None


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
