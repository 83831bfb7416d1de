"""Order events and grid instants of a batch of customers: folded, scored, decided.

What comes out for a customer depends on that customer's events and instants alone, in their order,
and never on how they were cut into batches. Scoring is one model call for all of them: facts do
not depend on decisions, so everything worth scoring is known before anything is decided. Only
orders that may have lowered a CLV themselves take a second, small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from features.ledger import IdMemory, id_hash
from features.orders import Order
from features.state import DEFAULT_MEMORY, BeyondMemory, CustomerState, apply, knows
from features.times import MS_PER_DAY
from model.decide import rule, schedule
from model.decide.codec import Customer
from model.decide.history import History, history_of
from model.decide.outcome import Answered
from model.decide.policy import Rules
from model.decide.rule import Happening
from model.decide.rule_state import NEW, Fired, Judgement, Peak, Trigger
from model.decide.scoring import Score, Scorer


class Track(msgspec.Struct, frozen=True, gc=False):
    """A customer, and the next grid instant (epoch ms) at which it is due."""

    customer: Customer
    due_ms: int | None


class Event(msgspec.Struct, frozen=True, gc=False):
    """An order event at a place in the log. `watermark_ms` is the partition's watermark with this
    event counted in: instants up to it are closed and judged before the event is folded."""

    place: int
    order: Order
    watermark_ms: int


class Scoring(msgspec.Struct, frozen=True, gc=False):
    """One scoring that others may want to hear of. `place` is that of the event behind it, None
    for a grid instant; `facts` are those scored; `reference` that of the rule at that moment;
    `answered` the warning that an order came after."""

    user_id: str
    place: int | None
    as_of_ms: int
    trigger: Trigger
    score: Score
    reference: Peak | None
    facts: CustomerState
    fired: Fired | None
    answered: Answered | None = None


class Contested(NamedTuple):
    """What becomes of a customer whose warning the budget has no place for: the track, and the
    scoring if it is to be told anyway."""

    track: Track
    scoring: Scoring | None


@dataclass(slots=True)
class Judged:
    """What a batch did: the customers as they are now, every scoring worth telling, the places
    of repeated events, and the events set aside because they lie beyond the id memory.

    `changed` names the customers whose facts or judgement changed; of the others only the due time
    may have. `contested`: under a budget, everyone who fired at an instant; `model.decide.budget`
    settles who does.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    scorings: list[Scoring] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    set_aside: list[tuple[int, BeyondMemory]] = field(default_factory=list)
    contested: dict[str, Contested] = field(default_factory=dict)
    instants: int = 0


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything that a judgement depends on beside the customer: model, rules, id memory."""

    scorer: Scorer
    rules: Rules
    memory: IdMemory = DEFAULT_MEMORY

    def judge(
        self,
        tracks: Mapping[str, Track],
        events: Mapping[str, Sequence[Event]],
        until_ms: int | None = None,
    ) -> Judged:
        """The tracks after their events, and after the due instants up to `until_ms` if given.

        Every user in `events` must be in `tracks`. Scorings come by instant; those of one customer
        in the order in which they were made. Under a budget whoever is due at an instant must be
        judged for it before anything later is: see `model.decide.budget`.
        """
        judged = Judged()
        courses = [
            self._course(user_id, track, events.get(user_id, ()), until_ms, judged)
            for user_id, track in tracks.items()
        ]
        _score(self.scorer, courses)
        self._score_before(courses)
        for course in courses:
            self._decide(course, until_ms, judged)
        judged.scorings.sort(key=telling_order)
        return judged

    def _course(
        self,
        user_id: str,
        track: Track,
        events: Sequence[Event],
        until_ms: int | None,
        judged: Judged,
    ) -> _Course:
        """Fold a customer's events and list what has to be scored on the way."""
        facts, judgement = track.customer.facts, track.customer.judgement
        course = _Course(user_id, track, facts)
        scored = judgement.scored_last
        if scored and judgement.model_version != self.scorer.model_version:
            course.steps.append(_Rebase(facts, scored.day * MS_PER_DAY))
        as_of_ms, due_ms = judgement.as_of_ms, track.due_ms
        # Found once for what is scored and for what is judged after it.
        history = self._history(facts)
        for event in events:
            after = apply(facts, event.order, self.memory)
            if after is facts:
                judged.repeats.append(event.place)
                continue
            if isinstance(after, BeyondMemory):
                judged.set_aside.append((event.place, after))
                continue
            self._add_instants(course, facts, history, due_ms, event.watermark_ms)
            as_of_ms = max(as_of_ms, event.order.ts_ms, event.watermark_ms)
            history = self._history(after)
            course.steps.append(_Fold(after, as_of_ms, facts, event, history))
            course.events += 1
            facts, due_ms = after, as_of_ms + 1
        if until_ms is not None:
            self._add_instants(course, facts, history, due_ms, until_ms)
        course.facts, course.history = facts, history
        return course

    def _add_instants(
        self,
        course: _Course,
        facts: CustomerState,
        history: History | None,
        from_ms: int | None,
        until_ms: int,
    ) -> None:
        """List the grid instants that may be due while the facts stay as they are."""
        if history is None or from_ms is None or from_ms > until_ms:
            return
        deciding_from = self._deciding_from(course, history, from_ms)
        course.steps.extend(
            [
                _Instant(facts, at, history, refresh)
                for at, refresh in schedule.possible_instants(
                    history, from_ms, until_ms, self.rules, deciding_from=deciding_from
                )
            ]
        )

    def _deciding_from(self, course: _Course, history: History, from_ms: int) -> int | None:
        """The first day on which the rule may decide something; None: never."""
        from_day = -(-from_ms // MS_PER_DAY)
        if not course.steps:
            judgement = course.track.customer.judgement
            return schedule.first_firing_day(history, judgement, from_day, self.rules)
        # What the rule remembers is known here only up to the first scoring in the batch.
        if self.rules.policy.budget_per_day is not None:
            return from_day
        return schedule.first_deciding_day(history, NEW, from_day, self.rules)

    def _history(self, facts: CustomerState) -> History | None:
        return history_of(facts, self.rules.enough_purchase_days)

    def _score_before(self, courses: Sequence[_Course]) -> None:
        """Scores, without the event but as of its instant, the events that may fire by themselves.
        An event can only fire where the CLV is under what the highest reference of the customer,
        before or within the batch, allows."""
        suspects = []
        drop = self.rules.policy.event_drop
        for course in courses:
            if not course.events:
                continue
            highest = max((p.clv_minor for p in course.track.customer.judgement.peaks), default=0)
            swapped = isinstance(course.steps[0], _Rebase)
            for step, score in zip(course.steps, course.scores, strict=True):
                if isinstance(step, _Fold) and (
                    swapped or rule.is_down_by(drop, score.clv_minor, highest)
                ):
                    suspects.append((course, step))
                # A mean of scorings is never above the highest of them, whichever made it up.
                highest = max(highest, score.clv_minor)
        found = self.scorer.scores(
            [(step.before, step.as_of_ms) for _, step in suspects],
            [course.user_id for course, _ in suspects],
        )
        for (course, step), score in zip(suspects, found, strict=True):
            course.before[step.event.place] = score.clv_minor

    def _decide(self, course: _Course, until_ms: int | None, judged: Judged) -> None:
        customer, due_ms = course.track.customer, course.track.due_ms
        judgement = customer.judgement
        contest: tuple[Judgement, Scoring | None] | None = None
        for step, score in zip(course.steps, course.scores, strict=True):
            if isinstance(step, _Instant):
                judged.instants += 1
                before = judgement
                judgement, told = self._at_instant(course, before, step, score)
                if told and told.fired and self.rules.policy.budget_per_day is not None:
                    contest = self._without(before, step, told)
            elif isinstance(step, _Fold):
                judgement, told = self._at_event(course, judgement, step, score)
            else:
                judgement, told = self._rebased(judgement, score), None
            if told:
                judged.scorings.append(told)
        history: History | None = None
        after_ms = -1
        if course.events or until_ms is not None:
            # Without `until_ms` the last step is an event: instants only lead up to one.
            after_ms = max(course.steps[-1].as_of_ms if course.steps else -1, until_ms or -1)
            history = course.history
            due_ms = schedule.next_due(history, judgement, after_ms, self.rules)
        if course.events or judgement is not customer.judgement:
            judged.changed.add(course.user_id)
            customer = Customer(course.facts, judgement)
        judged.tracks[course.user_id] = Track(customer, due_ms)
        if contest:
            due_ms = schedule.next_due(history, contest[0], after_ms, self.rules)
            track = Track(Customer(course.facts, contest[0]), due_ms)
            judged.contested[course.user_id] = Contested(track, contest[1])

    def _without(
        self, judgement: Judgement, step: _Instant, told: Scoring
    ) -> tuple[Judgement, Scoring | None]:
        """What an instant comes to whose warning the budget has no place for."""
        after = rule.withheld(judgement, step.as_of_ms, told.score.clv_minor, self.rules)
        return after, msgspec.structs.replace(told, fired=None) if step.refresh else None

    def _rebased(self, judgement: Judgement, score: Score) -> Judgement:
        scored = judgement.scored_last
        assert scored is not None
        version = self.scorer.model_version
        return rule.rebased(judgement, version, scored.clv_minor, score.clv_minor)

    def _at_instant(
        self, course: _Course, judgement: Judgement, step: _Instant, score: Score
    ) -> tuple[Judgement, Scoring | None]:
        verdict = rule.on_instant(
            judgement,
            step.as_of_ms,
            score.clv_minor,
            score.churn_probability,
            step.history,
            self.rules,
        )
        if verdict.fired is None and not step.refresh:
            return verdict.judgement, None
        return verdict.judgement, Scoring(
            user_id=course.user_id,
            place=None,
            as_of_ms=step.as_of_ms,
            trigger=verdict.fired.trigger if verdict.fired else Trigger.SILENCE,
            score=score,
            reference=judgement.reference(step.as_of_ms, self.rules),
            facts=step.facts,
            fired=verdict.fired,
        )

    def _at_event(
        self,
        course: _Course,
        judgement: Judgement,
        step: _Fold,
        score: Score,
    ) -> tuple[Judgement, Scoring]:
        order = step.event.order
        happening = Happening(
            type=order.type,
            ts_ms=order.ts_ms,
            order_hash=id_hash(order.order_id),
            late=order.ts_ms < step.event.watermark_ms,
            void=step.facts.buckets == step.before.buckets,
            known=knows(step.before, order),
        )
        reference = judgement.reference(step.as_of_ms, self.rules)
        verdict = rule.on_event(
            judgement,
            happening,
            step.as_of_ms,
            score.clv_minor,
            course.before.get(step.event.place),
            step.history,
            self.rules,
        )
        judgement = verdict.judgement
        if not judgement.model_version:
            judgement = msgspec.structs.replace(judgement, model_version=self.scorer.model_version)
        answered = None
        if verdict.answered:
            answered = Answered(verdict.answered, order.ts_ms, step.before.last_purchase_day)
        return judgement, Scoring(
            user_id=course.user_id,
            place=step.event.place,
            as_of_ms=step.as_of_ms,
            trigger=happening.trigger,
            score=score,
            reference=reference,
            facts=step.facts,
            fired=verdict.fired,
            answered=answered,
        )


class _Instant(msgspec.Struct, frozen=True, gc=False):
    """A grid instant that may turn out to be due."""

    facts: CustomerState
    as_of_ms: int
    history: History
    refresh: bool


class _Fold(msgspec.Struct, frozen=True, gc=False):
    """An event, with the facts after and before it, and the history after it."""

    facts: CustomerState
    as_of_ms: int
    before: CustomerState
    event: Event
    history: History | None


class _Rebase(msgspec.Struct, frozen=True, gc=False):
    """A score by the new model of what the old one scored last."""

    facts: CustomerState
    as_of_ms: int


class _Course:
    """One customer's way through a batch: what happens, the score at each step, and the CLVs
    without the event, by place, of events that may fire by themselves."""

    __slots__ = ("before", "events", "facts", "history", "scores", "steps", "track", "user_id")

    def __init__(self, user_id: str, track: Track, facts: CustomerState) -> None:
        self.user_id = user_id
        self.track = track
        self.facts = facts
        self.history: History | None = None
        self.events = 0
        self.steps: list[_Instant | _Fold | _Rebase] = []
        self.scores: list[Score] = []
        self.before: dict[int, int] = {}


def _score(scorer: Scorer, courses: Sequence[_Course]) -> None:
    """Scores every step of every customer in one model call."""
    found = scorer.scores(
        [(step.facts, step.as_of_ms) for c in courses for step in c.steps],
        [c.user_id for c in courses for _ in c.steps] if scorer.attributes else None,
    )
    at = 0
    for course in courses:
        course.scores = found[at : at + len(course.steps)]
        at += len(course.steps)


def telling_order(scoring: Scoring) -> tuple[int, int, str]:
    """The key by which scorings are told of: by instant, and what an event closes before it."""
    # An instant that an event closes is judged before the event is, also where both have one time.
    place = -1 if scoring.place is None else scoring.place
    return scoring.as_of_ms, place, scoring.user_id
