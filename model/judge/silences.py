"""The silences of many customers judged at once, as arrays.

Whether a midnight warns is asked of the rule itself (`model.decide.rule.on_instant`), once for each
customer: at the first midnight at which it could. All others decide nothing, and are a score to
publish at most. Whoever is not warned of at that one is left to be judged step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from features.arrays import Bools, Floats, Ints
from features.columns.table import FactColumns
from model.decide import rule
from model.decide.history import PurchaseHistory
from model.decide.policy import Rules
from model.decide.rule_state import RaisedWarning, Trigger
from model.decide.scoring import Score, Scorer
from model.judge.customers import NEVER, CustomerArrays
from model.judge.judged import Scoring
from model.judge.scorings import INSTANT, TRIGGERS, Scorings

# Buckets, or days, looked at in one go: what a processor has near, however long silences are.
_MOST_BUCKETS: Final = 20_000
_NO_DAY: Final = 2**40
_SILENCE: Final = TRIGGERS.index(Trigger.SILENCE)


class Silenced(NamedTuple):
    """Customers after their silences: `changed` and `left` are places, of those whose rule state is
    another and of those who are to be judged step by step, who are as they were."""

    customers: CustomerArrays
    changed: Sequence[int]
    left: Sequence[int]
    scorings: Scorings
    instants: int


def judge_silences(
    customers: CustomerArrays, until_ms: Ints, scorer: Scorer, rules: Rules
) -> Silenced:
    """Customers who have a due time and no other model to move to, after the instants that are due
    up to `until_ms` of each."""
    calendar = rules.calendar
    until_day = calendar.days_of(until_ms)
    spans = Spans.of(customers, rules)
    at = spans.midnights(calendar.days_from(customers["due_ms"]), until_day)
    users = customers.users
    rated = _rated(customers.facts(), spans, at, scorer, users)
    starts_ms = calendar.starts_ms(rated.day)

    after = customers.changeable()
    told: dict[int, Scoring] = {}
    changed, left = [], []
    budgeted = rules.policy.budget_per_day is not None
    for row in np.flatnonzero(rated.asked).tolist():
        place, as_of_ms = int(rated.customer[row]), int(starts_ms[row])
        raised = None if budgeted else _warned(after, place, as_of_ms, rated.score(row), rules)
        if raised is None:
            left.append(place)
            continue
        changed.append(place)
        told[row] = Scoring(
            user_id=users[place],
            offset=None,
            as_of_ms=as_of_ms,
            trigger=Trigger.SILENCE,
            score=rated.score(row),
            reference=raised.reference,
            facts=customers.facts_of(place),
            raised=raised,
        )
    spans.may_warn[changed] = False
    after["due_ms"][:] = spans.due_ms(until_day + 1)
    after["due_ms"][left] = customers["due_ms"][left]
    rows = len(rated.day)
    references = customers.compared()[rated.customer]
    scorings = Scorings(
        users,
        place=rated.customer,
        offset=np.full(rows, INSTANT),
        fold=np.full(rows, -1),
        as_of_ms=starts_ms,
        trigger=np.full(rows, _SILENCE),
        clv_minor=rated.clv_minor,
        churn=rated.churn,
        reference_day=references[:, 0],
        reference_minor=references[:, 1],
        whole=told,
    )
    instants = len(at.day)
    if left:
        instants -= int(np.isin(at.customer, left).sum())
        scorings = scorings.take(np.flatnonzero(~np.isin(rated.customer, left)))
    return Silenced(after, changed, left, scorings, instants)


def _warned(
    customers: CustomerArrays, place: int, as_of_ms: int, score: Score, rules: Rules
) -> RaisedWarning | None:
    """The warning of a midnight of which the rule is sure; the customer is as it leaves them."""
    first, last, days = (
        int(customers[name][place]) for name in ("first_day", "last_day", "purchase_days")
    )
    verdict = rule.on_instant(
        customers.rule_state_of(place),
        as_of_ms,
        score.clv_minor,
        True,
        PurchaseHistory(first, last, min(days, rules.enough_purchase_days)),
        rules,
    )
    if verdict.raised is not None:
        customers.put_rule_state(place, verdict.rule_state)
    return verdict.raised


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

    customer: Ints
    day: Ints
    clv_minor: Ints
    churn: Floats
    asked: Bools

    def score(self, row: int) -> Score:
        return Score(int(self.clv_minor[row]), float(self.churn[row]))


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
    def of(cls, customers: CustomerArrays, rules: Rules) -> Spans:
        """The silences of customers; whom the rule could warn of is as `RuleState.may_warn`."""
        last_day, days = customers["last_day"], customers["purchase_days"]
        own, quiet_until = customers["floor_minor"], customers["quiet_until_day"]
        floor = np.maximum(np.where(own < 0, rules.floor_minor, own), 1)
        may_warn = (customers["armed"] != 0) & (customers.references() >= floor)
        return cls(
            rules,
            last_day,
            end_day=np.where(days > 0, last_day + rules.horizon_days, -1),
            may_warn=may_warn & (days >= rules.policy.min_orders),
            warns_from=np.maximum(last_day + rules.first_silence_days, quiet_until),
        )

    def midnights(self, since: Ints, until_day: Ints) -> _Midnights:
        """All that are a refresh or could decide something; of those so late that they warn in any
        case, the first of each customer."""
        end = np.minimum(self.end_day, until_day)
        most = np.full(len(end), max(int((end - since).max(initial=0)), 0))
        found = [self._midnights(part, since, end) for part in parts(most)]
        if len(found) == 1:
            return found[0]
        return _Midnights(*(np.concatenate(each) for each in zip(*found, strict=True)))

    def _midnights(self, part: slice, since: Ints, end: Ints) -> _Midnights:
        """Those of some customers: each day of each is looked at."""
        rules, last_day, since, end = self.rules, self.last_day[part], since[part], end[part]
        first = np.where(self.may_warn[part], np.maximum(since, self.warns_from[part]), _NO_DAY)
        late = rules.first_silence_days if rules.threshold is None else rules.late_silence_days
        last = np.maximum(first, last_day + late)
        day = since[:, None] + np.arange(max(int((end - since).max(initial=-1)) + 1, 0))
        decides = day >= first[:, None]
        wanted = decides & (day <= last[:, None])
        refresh = np.zeros(day.shape, bool)
        if rules.refresh_days is not None:
            silent = day - last_day[:, None]
            refresh = (silent % rules.refresh_days == 0) & (silent > 0)
            wanted |= refresh
        customer, at = np.nonzero(wanted & (day <= end[:, None]))
        place = customer, at
        return _Midnights(customer + (part.start or 0), day[place], refresh[place], decides[place])

    def due_ms(self, since: Ints) -> Ints:
        """The first midnight, not before the day given, at which each customer has to be judged;
        NEVER: there is none."""
        every = self.rules.refresh_days
        due = np.where(self.may_warn, np.maximum(since, self.warns_from), _NO_DAY)
        if every is not None:
            due = np.minimum(due, self._next_refresh(since, every))
        is_due = due <= self.end_day
        starts_ms = self.rules.calendar.starts_ms(np.where(is_due, due, 0))
        return np.where(is_due, starts_ms, NEVER)

    def _next_refresh(self, since: Ints, every: int) -> Ints:
        """The first refresh days at or after those given."""
        silent = since - self.last_day
        return np.asarray(self.last_day + np.maximum(1, -(-silent // every)) * every)


def _rated(
    facts: FactColumns, spans: Spans, at: _Midnights, scorer: Scorer, users: Sequence[str]
) -> _Rated:
    """The scores of the midnights that are a refresh, and of the first of each customer of which
    the rule is sure enough to warn."""
    churn, index = None, np.full(len(at.day), -np.inf)
    if scorer.risk is not None:
        churn = np.empty(len(at.day))
        for part in parts(facts.count[at.customer]):
            risks = scorer.risks(facts.at(at.customer[part], at.day[part]))
            assert risks is not None
            churn[part], index[part] = risks
    silent = at.day - spans.last_day[at.customer]
    sure = np.flatnonzero(at.decides & spans.rules.are_sure(silent, index))
    asked = np.zeros(len(at.day), bool)
    asked[sure[np.diff(at.customer[sure], prepend=-1) != 0]] = True
    wanted = np.flatnonzero(at.refresh | asked)
    whose, day = at.customer[wanted], at.day[wanted]
    known = None if churn is None else churn[wanted]
    clv_minor, gone = np.empty(len(wanted), np.int64), np.empty(len(wanted))
    for part in parts(facts.count[whose]):
        of_part = [users[place] for place in whose[part].tolist()] if scorer.attributes else None
        table = facts.at(whose[part], day[part])
        rated = scorer.rated(table, of_part, None if known is None else known[part])
        clv_minor[part], gone[part] = rated
    return _Rated(whose, day, clv_minor, gone, asked[wanted])


def parts(buckets: Ints) -> Iterator[slice]:
    """Rows with so many buckets each, in parts that fit into memory."""
    after = np.cumsum(buckets + 1)
    if len(after) and after[-1] <= _MOST_BUCKETS:
        yield slice(0, len(after))
        return
    start = 0
    while start < len(after):
        before = after[start - 1] if start else 0
        end = max(int(np.searchsorted(after, before + _MOST_BUCKETS, "right")), start + 1)
        yield slice(start, end)
        start = end
