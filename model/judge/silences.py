"""The silences of many customers judged at once, as arrays.

Whether a midnight warns is asked of the rule itself (`model.decide.rule.on_instant`), once for each
customer: at the first midnight at which it could. All others decide nothing, and are a score to
publish at most. Whoever is not warned of at that one is left to be judged step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from features.arrays import Bools, Ints
from features.columns.table import FactColumns
from model.decide import rule
from model.decide.codec import CustomerRecord
from model.decide.history import history_of
from model.decide.policy import Rules
from model.decide.rule import Verdict
from model.decide.rule_state import RuleState, Trigger
from model.decide.scoring import Score, Scorer
from model.judge.judged import JudgedBatch, ScheduledCustomer, Scoring

# Buckets looked at in one go: some MB of columns, however long the silences are.
_MOST_BUCKETS: Final = 100_000
_NEVER: Final = 2**40
_DAY_BITS: Final = 24


def is_settled(rule_state: RuleState, scorer: Scorer) -> bool:
    """Whether a customer has no other model to move to."""
    if rule_state.swapped:
        return False
    return not rule_state.peaks or rule_state.model_version == scorer.model_version


def judge_silences(
    tracks: Mapping[str, ScheduledCustomer],
    until_ms: Mapping[str, int],
    scorer: Scorer,
    rules: Rules,
) -> JudgedBatch:
    """Customers who have a due time and are `is_settled`, after the instants that are due up to
    `until_ms` of each; but for those who are to be judged step by step. Scorings are in the order
    of telling."""
    calendar, users = rules.calendar, list(tracks)
    customers = [track.customer for track in tracks.values()]
    due_ms = [track.due_ms or 0 for track in tracks.values()]
    day_from = {at_ms: calendar.day_from(at_ms) for at_ms in set(due_ms)}
    since = np.array([day_from[at_ms] for at_ms in due_ms], np.int64)
    until_day = np.array([calendar.day_of(until_ms[user_id]) for user_id in users], np.int64)
    facts = FactColumns.of([customer.facts for customer in customers])
    bought = facts.bought()
    states = [customer.rule_state for customer in customers]
    spans = Spans.of(bought.last_day, bought.days, states, rules)
    at = spans.midnights(since, until_day)
    rated = _rated(facts, spans, at, scorer, users)

    start_ms = {day: calendar.start_ms(day) for day in set(rated.days)}
    verdicts = {
        place: _verdict(customers[place], start_ms[day], score, rules)
        for place, day, score, first in zip(*rated, strict=True)
        if first
    }
    budgeted = rules.policy.budget_per_day is not None
    left = {place for place, verdict in verdicts.items() if budgeted or verdict.raised is None}
    judged = JudgedBatch(instants=len(at.day) - int(np.isin(at.customer, list(left)).sum()))
    judged.scorings = [
        Scoring(
            user_id=users[place],
            offset=None,
            as_of_ms=start_ms[day],
            trigger=Trigger.SILENCE,
            score=score,
            reference=customers[place].rule_state.reference,
            facts=customers[place].facts,
            raised=verdicts[place].raised if first else None,
        )
        for place, day, score, first in zip(*rated, strict=True)
        if place not in left
    ]
    for place, verdict in verdicts.items():
        customers[place] = CustomerRecord(customers[place].facts, verdict.rule_state)
        judged.changed.add(users[place])
    spans.may_warn[list(verdicts)] = False
    due_days = spans.due(until_day + 1)
    due_at = {day: calendar.start_ms(day) for day in set(due_days) if day is not None}
    judged.tracks = {
        user_id: ScheduledCustomer(customer, None if day is None else due_at[day])
        for user_id, customer, day in zip(users, customers, due_days, strict=True)
    }
    for place in left:
        del judged.tracks[users[place]]
        judged.changed.discard(users[place])
    return judged


class _Midnights(NamedTuple):
    """Midnights in order of customer and day: the customer's place, the day, whether it is a
    refresh, and whether the rule could warn."""

    customer: Ints
    day: Ints
    refresh: Bools
    decides: Bools


class _Rated(NamedTuple):
    """Midnights with a score: whose (the place of the customer), the day, the score, and whether
    the rule is asked about it."""

    customers: list[int]
    days: list[int]
    scores: list[Score]
    asked: list[bool]


@dataclass(frozen=True, slots=True)
class Spans:
    """The silences of n customers as arrays of shape (n,): the last purchase day, the last day on
    which anything is judged (-1: none), and whether and from which day on the rule could warn."""

    rules: Rules
    last_day: Ints
    end_day: Ints
    may_warn: Bools
    warns_from: Ints

    @classmethod
    def of(
        cls, last_day: Ints, purchase_days: Ints, states: Sequence[RuleState], rules: Rules
    ) -> Spans:
        """The silences of customers who bought last on these days, and on so many."""
        may_warn = np.array([state.may_warn(rules) for state in states], bool)
        quiet_until = np.array([state.quiet_until_day for state in states], np.int64)
        return cls(
            rules,
            last_day,
            end_day=np.where(purchase_days > 0, last_day + rules.horizon_days, -1),
            may_warn=may_warn & (purchase_days >= rules.policy.min_orders),
            warns_from=np.maximum(last_day + rules.first_silence_days, quiet_until),
        )

    def midnights(self, since: Ints, until_day: Ints) -> _Midnights:
        """All that are a refresh or could decide something; of those so late that they warn in any
        case, the first of each customer."""
        rules, last_day = self.rules, self.last_day
        every, learned = rules.refresh_days, rules.threshold is not None
        end = np.minimum(self.end_day, until_day)
        late = last_day + (rules.late_silence_days if learned else rules.first_silence_days)
        first = np.where(self.may_warn, np.maximum(since, self.warns_from), _NEVER)
        first_late = np.maximum(first, late)
        spans = [
            _days(first, np.minimum(end, late - 1)),
            _days(first_late, np.minimum(end, first_late)),
        ]
        if every is not None:
            spans.append(_days(self._next_refresh(since, every), end, every))
        keys = np.unique(np.concatenate([place << _DAY_BITS | day for place, day in spans]))
        customer, day = keys >> _DAY_BITS, keys & ((1 << _DAY_BITS) - 1)
        silent = day - last_day[customer]
        refresh = (
            np.zeros(len(day), bool) if every is None else (silent > 0) & (silent % every == 0)
        )
        return _Midnights(customer, day, refresh, day >= first[customer])

    def due(self, since: Ints) -> list[int | None]:
        """The first day, not before that given, on which each customer has to be judged; None:
        there is none."""
        every = self.rules.refresh_days
        due = np.where(self.may_warn, np.maximum(since, self.warns_from), _NEVER)
        if every is not None:
            due = np.minimum(due, self._next_refresh(since, every))
        is_due = (due <= self.end_day).tolist()
        return [day if is_any else None for day, is_any in zip(due.tolist(), is_due, strict=True)]

    def _next_refresh(self, since: Ints, every: int) -> Ints:
        """The first refresh days at or after those given."""
        silent = since - self.last_day
        return np.asarray(self.last_day + np.maximum(1, -(-silent // every)) * every)


def _days(first: Ints, last: Ints, step: int = 1) -> tuple[Ints, Ints]:
    """Every `step`-th day of spans, both ends included: the place of its span, and the day."""
    count = np.maximum((last - first) // step + 1, 0)
    place = np.repeat(np.arange(len(first)), count)
    number = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    return place, first[place] + step * number


def _rated(
    facts: FactColumns, spans: Spans, at: _Midnights, scorer: Scorer, users: Sequence[str]
) -> _Rated:
    """The scores of the midnights that are a refresh, and of the first of each customer of which
    the rule is sure enough to warn."""
    churn, index = None, np.full(len(at.day), -np.inf)
    if scorer.risk is not None:
        churn = np.empty(len(at.day))
        for part in _parts(facts.count[at.customer]):
            risks = scorer.risks(facts.at(at.customer[part], at.day[part]))
            assert risks is not None
            churn[part], index[part] = risks
    silent = at.day - spans.last_day[at.customer]
    sure = np.flatnonzero(at.decides & spans.rules.are_sure(silent, index))
    asked = np.zeros(len(at.day), bool)
    asked[sure[np.unique(at.customer[sure], return_index=True)[1]]] = True
    wanted = np.flatnonzero(at.refresh | asked)
    # In the order in which they are told of (`model.judge.judged.telling_order`).
    rank = np.empty(len(users), np.int64)
    rank[sorted(range(len(users)), key=users.__getitem__)] = np.arange(len(users))
    wanted = wanted[np.lexsort((rank[at.customer[wanted]], at.day[wanted]))]
    whose, day = at.customer[wanted], at.day[wanted]
    known = None if churn is None else churn[wanted]
    scores: list[Score] = []
    for part in _parts(facts.count[whose]):
        of_part = [users[place] for place in whose[part].tolist()] if scorer.attributes else None
        table = facts.at(whose[part], day[part])
        clv_minor, gone = scorer.rated(table, of_part, None if known is None else known[part])
        scores += map(Score, clv_minor.tolist(), gone.tolist())
    return _Rated(whose.tolist(), day.tolist(), scores, asked[wanted].tolist())


def _verdict(customer: CustomerRecord, as_of_ms: int, score: Score, rules: Rules) -> Verdict:
    """What the rule says of a midnight that it is sure of."""
    history = history_of(customer.facts, rules.enough_purchase_days)
    assert history is not None
    return rule.on_instant(customer.rule_state, as_of_ms, score.clv_minor, True, history, rules)


def _parts(buckets: Ints) -> Iterator[slice]:
    """Rows with so many buckets each, in parts that fit into memory."""
    after = np.cumsum(buckets + 1)
    start = 0
    while start < len(after):
        before = after[start - 1] if start else 0
        end = max(int(np.searchsorted(after, before + _MOST_BUCKETS, "right")), start + 1)
        yield slice(start, end)
        start = end
