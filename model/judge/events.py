"""What becomes of customers with new orders: scored by one call for all, and then decided.

The rule is `model.decide.rule.on_event`; here is what that comes to for an order that is new and
newer than all others, of many customers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from features.arrays import Floats, Ints, flat_places
from features.facts.ledger import IdMemory
from model.decide import rule
from model.decide.outcome import Answered
from model.decide.policy import Rules
from model.decide.rule import RuleEvent
from model.decide.rule_state import Peak, RaisedWarning, Trigger
from model.decide.scoring import Score, Scorer
from model.judge.customers import NEVER, CustomerArrays
from model.judge.folds import Folds, appended, days_of
from model.judge.judged import Event, Scoring
from model.judge.scorings import TRIGGERS, Scorings
from model.judge.silences import Spans, judge_silences, parts

_ORDER: Final = TRIGGERS.index(Trigger.ORDER)


class Followed(NamedTuple):
    """Some customers after their events, with the `places` that they have among all; `left`: places
    of those who are to be judged step by step; `folds`: those of which scorings say."""

    customers: CustomerArrays
    places: Ints
    left: Sequence[int]
    scorings: Sequence[Scorings]
    folds: Folds | None
    instants: int


def judge_events(
    customers: CustomerArrays,
    events: Sequence[Sequence[Event]],
    scorer: Scorer,
    rules: Rules,
    memory: IdMemory,
) -> Followed:
    """Customers who have no other model to move to, after their events and the instants that the
    first of these closes. `events`: of each customer."""
    new, left = appended(customers, events, memory, rules.calendar)
    days, odd = days_of(customers, new, rules.calendar)
    if odd.any():
        left += np.unique(new.place[odd]).tolist()
        kept = np.flatnonzero(~odd)
        new, days = new.take(kept), days.take(kept)

    first, _ = new.ends
    who, closes_ms = new.place[first], days.watermark_ms[first]
    due_ms = customers["due_ms"][who]
    closing = np.flatnonzero((due_ms != NEVER) & (due_ms <= closes_ms))
    scorings: list[Scorings] = []
    instants, silent = 0, None
    if len(closing):
        silent = judge_silences(customers.take(who[closing]), closes_ms[closing], scorer, rules)
        instants = silent.instants
        of_all = who[closing]
        scorings.append(silent.scorings.of_all(customers.users, of_all))
        if silent.left:
            left += of_all[silent.left].tolist()
            kept = np.flatnonzero(~np.isin(new.place, of_all[silent.left]))
            new, days = new.take(kept), days.take(kept)
            first, _ = new.ends
            who = new.place[first]
    some = customers.some(who)
    if silent is not None:
        some = some.changeable()
        for place in silent.changed:
            at = int(np.searchsorted(who, of_all[place]))
            some.put_rule_state(at, silent.customers.rule_state_of(place))
    if not len(who):
        return Followed(some, who, left, scorings, None, instants)
    decided = _Decided.of(Folds.of(some, new, days), scorer, rules)
    scorings.append(decided.scorings(customers.users, who))
    return Followed(decided.customers(), who, left, scorings, decided.folds, instants)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What the rule makes of folds, arrays of shape (e,): their scores, the reference of each (its
    CLV -1: none), and by place the value drops. `peaks`, with `peak_at` and `peaks_of`, are those
    after all events."""

    folds: Folds
    scorer: Scorer
    rules: Rules
    clv_minor: Ints
    churn: Floats
    reference: Ints
    drops: dict[int, RaisedWarning]
    peaks: Ints
    peak_at: Ints
    peaks_of: Ints

    @classmethod
    def of(cls, folds: Folds, scorer: Scorer, rules: Rules) -> _Decided:
        """Scores folds, and asks the rule of each: of the first event of every customer, then of
        every second one, and so on."""
        clv_minor, churn = _rated(folds, np.arange(len(folds.place)), scorer)
        reference = np.tile(np.array([0, -1]), (len(folds.place), 1))
        customers = folds.customers
        peaks, at, count = customers.peaks, customers["peak_at"].copy(), customers["peaks"].copy()
        since_day = folds.days.day - rules.horizon_days
        scored = np.array((folds.days.as_of_day, clv_minor)).T
        events, who = folds.first, np.arange(len(folds.first))
        while len(events):
            start, size = at[who], count[who]
            had = size > 0
            reference[events[had]] = peaks[start[had]]
            old, of_old = flat_places(start, size), np.repeat(events, size)
            stays = (peaks[old, 0] >= since_day[of_old]) & (peaks[old, 1] > clv_minor[of_old])
            # What stays of each, and the new one behind it.
            place = np.append(of_old[stays], events)
            order = np.argsort(place, kind="stable")
            size = np.diff(np.searchsorted(place, events, sorter=order), append=len(place))
            count[who], at[who] = size, len(peaks) + np.cumsum(size) - size
            peaks = np.concatenate(
                [peaks, np.concatenate([peaks[old[stays]], scored[events]])[order]]
            )
            more = events < folds.last[who]
            events, who = events[more] + 1, who[more]
        every = np.arange(len(folds.place))
        drops = _value_drops(folds, every, reference, clv_minor, scorer, rules)
        return cls(folds, scorer, rules, clv_minor, churn, reference, drops, peaks, at, count)

    def customers(self) -> CustomerArrays:
        """The customers after their events."""
        folds, last = self.folds, self.folds.last
        facts = folds.customers
        made = CustomerArrays(facts.numbers.copy(), facts.objects.copy(), facts.buckets, self.peaks)
        made["peak_at"][:], made["peaks"][:] = self.peak_at, self.peaks_of
        made["as_of_ms"][:], made["episode_ms"][:] = (
            folds.days.as_of_ms[last],
            folds.days.ts_ms[last],
        )
        made["armed"][:], made["swapped"][:] = 1, 0
        made["deferred_since_ms"][:], made["quiet_until_day"][:] = -1, -1
        made["floor_minor"][:] = self.rules.floor_minor
        made["episode_id"][:] = [folds.new.hashes[at] for at in last.tolist()]
        unversioned = np.asarray(made["model_version"] == "", bool)
        made["model_version"][unversioned] = self.scorer.model_version
        spans = Spans.of(made, self.rules)
        made["due_ms"][:] = spans.due_ms(folds.days.as_of_day[last] + 1)
        return made

    def scorings(self, users: Sequence[str], places: Ints) -> Scorings:
        """A scoring of each event; customers are at these places among the users."""
        folds, count = self.folds, len(self.clv_minor)
        before = folds.customers
        unarmed = np.flatnonzero(before["armed"] == 0).tolist()
        told = {int(folds.first[n]) for n in unarmed if before["raised"][n] is not None}
        return Scorings(
            users,
            place=places[folds.place],
            offset=folds.days.offset,
            fold=np.arange(count),
            as_of_ms=folds.days.as_of_ms,
            trigger=np.full(count, _ORDER),
            clv_minor=self.clv_minor,
            churn=self.churn,
            reference_day=self.reference[:, 0],
            reference_minor=self.reference[:, 1],
            whole={at: self._scoring(at, at in told) for at in sorted(told | self.drops.keys())},
        )

    def _scoring(self, at: int, is_answer: bool) -> Scoring:
        folds = self.folds
        event, place = folds.new.events[at], int(folds.place[at])
        day, reference_minor = self.reference[at].tolist()
        since_day = int(folds.bought_before[at])
        answered = None
        if is_answer:
            raised = folds.customers["raised"][place]
            answered = Answered(raised, event.order.ts_ms, since_day if since_day >= 0 else None)
        return Scoring(
            user_id=folds.customers["user"][place],
            offset=event.offset,
            as_of_ms=int(folds.days.as_of_ms[at]),
            trigger=Trigger.ORDER,
            score=Score(int(self.clv_minor[at]), float(self.churn[at])),
            reference=None if reference_minor < 0 else Peak(day, reference_minor),
            facts=folds.facts_after(at),
            raised=None,
            answered=answered,
            value_drop=self.drops.get(at),
        )


def _rated(
    folds: Folds, events: Ints, scorer: Scorer, *, before: bool = False
) -> tuple[Ints, Floats]:
    """The scores of customers after some events, or before them, as of these."""
    clv_minor, churn = np.empty(len(events), np.int64), np.empty(len(events))
    for part in parts(folds.buckets[events]):
        some = events[part]
        users = None
        if scorer.attributes:
            users = folds.customers["user"][folds.place[some]].tolist()
        clv_minor[part], churn[part] = scorer.rated(folds.table(some, before=before), users)
    return clv_minor, churn


def _value_drops(
    folds: Folds, events: Ints, reference: Ints, clv_minor: Ints, scorer: Scorer, rules: Rules
) -> dict[int, RaisedWarning]:
    """What events tell of value lost, by event."""
    compared, clv = reference[events, 1], clv_minor[events]
    may = (
        (compared >= max(rules.floor_minor, 1))
        & rule.are_down_by(rule.VALUE_DROP, clv, compared)
        & (folds.days.ts_ms[events] >= folds.days.watermark_ms[events])
        & (folds.purchase_days[events] >= rules.policy.min_orders)
    )
    if not may.any():
        return {}
    events = events[may]
    without, _ = _rated(folds, events, scorer, before=True)
    found = {}
    for at in events[clv_minor[events] < without].tolist():
        order = folds.new.events[at].order
        event = RuleEvent(
            order.type,
            order.ts_ms,
            folds.new.hashes[at],
            version=(order.amount_minor, order.refund_id, order.updated_ms),
        )
        day, minor = reference[at].tolist()
        found[at] = RaisedWarning(
            event.trigger,
            int(folds.days.as_of_ms[at]),
            int(clv_minor[at]),
            Peak(day, minor),
            order.ts_ms,
            event.cause,
            rules.policy.version,
        )
    return found
