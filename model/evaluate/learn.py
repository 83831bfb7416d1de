"""What a shop's past says of silences: P(churn), P(an order soon), and when to warn.

The index at which a silence warns is chosen so that a wanted share of the customers who left would
have been warned of by half of the horizon: of each the highest index between a third and half of it
is taken, and the quantile of these is the threshold. Customers who have bought as often as those
who are about to leave now count as often: a shop that wins no new ones loses others than it did.

How much a budget weighs money is chosen on call lists of the past: the weight at which both the
share of those called who left, and their share of the money that left, are farthest above what the
best simple lists would have had: fewest orders, longest silence, highest spend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

from features.arrays import Bools, Floats, Ints
from features.columns.rhythm import RHYTHM_NAMES
from features.columns.table import FactColumns
from features.columns.vector import vectors_of
from features.facts.state import CustomerState
from features.times import iso_day
from model.data.customer_days import (
    NEVER,
    PastSilences,
    columns_at,
    customer_days,
    silences_of,
    typical_customer,
)
from model.decide.learned import EARLY, Learned, Ranking, Threshold
from model.estimators.risk import Risk, fit_risk, index
from model.judge.budget import weights

_MIN_LEFT: Final = 10
_NEWEST: Final = 200
_MOST: Final = 2_000
_FEW: Final = 30
_DAYS: Final = 20
# Numbers of purchase days from which customers are told apart, and how many customers of the past
# it takes to count others than they were.
_ORDERS: Final = (2, 3, 5, 9)
_ENOUGH: Final = 5.0

MONEY: Final = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""The weights of money that are tried."""
TOP_SHARE: Final = 0.1
_LISTS: Final = 12
_CALLED: Final = 2_000


class Lessons(NamedTuple):
    """What was learnt: the risk model, None where the past is too short for it, and when to
    warn."""

    risk: Risk | None
    learned: Learned


def learn(
    states: Mapping[str, CustomerState],
    day: int,
    horizon_days: int,
    clv: Callable[[Floats], Floats],
    floor: float,
) -> Lessons:
    """The lessons of what was known at 00:00 of a day. `clv` gives CLVs of feature vectors;
    customers whose CLV after an order reaches `floor` are worth a warning."""
    facts = FactColumns.of(list(states.values()))
    risk = _risk(list(states), facts, day, horizon_days)
    if risk is None:
        why = (
            f"of the silences before {iso_day(day)} too few became longer than {horizon_days} days,"
            " or too few ended sooner"
        )
        return Lessons(None, Learned(why_not=why))
    silences = silences_of(facts, day)
    learned = _thresholds(facts, silences, day, risk, clv, floor)
    ranking = _ranking(facts, silences, day, risk, clv)
    return Lessons(risk, msgspec.structs.replace(learned, ranking=ranking))


def learned_risk(states: Mapping[str, CustomerState], day: int, horizon_days: int) -> Risk | None:
    """The risk model of what was known at 00:00 of a day; None where the past is too short."""
    return _risk(list(states), FactColumns.of(list(states.values())), day, horizon_days)


def _risk(users: Sequence[str], facts: FactColumns, day: int, horizon_days: int) -> Risk | None:
    # One thread: sums do not depend on the number of cores.
    with threadpool_limits(limits=1):
        typical = typical_customer(facts, day, horizon_days)
        return fit_risk(customer_days(users, facts, day, horizon_days, typical), typical)


def _thresholds(
    facts: FactColumns,
    silences: PastSilences,
    day: int,
    risk: Risk,
    clv: Callable[[Floats], Floats],
    floor: float,
) -> Learned:
    """When to warn, by the newest silences whose end is known."""
    horizon = risk.horizon_days
    ended = silences.part(silences.since + horizon < day)
    lasted = ended.until - ended.since
    left = _newest(ended.part(lasted > horizon), day - 3 * horizon)
    left, floor = _worth(left, _clvs(facts, left, clv), floor)
    others = ended.part(lasted <= horizon)
    recent = others.since >= left.since.min(initial=day)
    # Of a shop that sells every day, one in so many will do.
    every = max(1, int(recent.sum()) // _MOST)
    others = others.part(np.flatnonzero(recent)[::every])
    others = others.part(_clvs(facts, others, clv) >= floor)
    counts = len(left.since), len(others.since) * every
    if counts[0] < _MIN_LEFT:
        why = (
            f"only {counts[0]} customers worth a warning left in the past that is known;"
            f" {_MIN_LEFT} are needed"
        )
        return Learned(left=counts[0], returned=counts[1], why_not=why)
    first, half, late = -(-horizon // 3), max(horizon // 2, 1), -(-5 * horizon // 6)
    days = np.unique(
        np.concatenate([np.linspace(first, half, 8), np.linspace(first, late, _DAYS)]).astype(int)
    )
    of_left, of_others = (_Past.of(facts, each, risk, days) for each in (left, others))
    shares = _shares(of_left.group, facts, silences, day, risk, clv, floor)
    by_half = of_left.indices[:, days <= max(half, first)].max(axis=1)
    found = []
    for early in EARLY:
        threshold = _quantile(by_half, shares[of_left.group], 1 - early)
        found.append(_judged(early, threshold, of_left, of_others, shares, every, horizon))
    return Learned(
        thresholds=tuple(found),
        since=iso_day(int(left.since.min())),
        until=iso_day(int(left.since.max())),
        left=counts[0],
        returned=counts[1],
    )


class _Past(NamedTuple):
    """Past silences, whose end is known: how long each lasted, its `_group`, and its index after so
    many days, shape (n, len(days)); -inf once it had ended."""

    lasted: Ints
    group: Ints
    days: Ints
    indices: Floats

    @classmethod
    def of(cls, facts: FactColumns, silences: PastSilences, risk: Risk, days: Ints) -> _Past:
        lasted = silences.until - silences.since
        every = silences.part(np.repeat(np.arange(len(lasted)), len(days)))
        rows = _rows(facts, every, risk, np.tile(days, len(lasted)))
        indices = index(*risk.predict(rows)).reshape(len(lasted), len(days))
        still = days[None, :] <= lasted[:, None]
        past = np.where(still, indices, -np.inf)
        return cls(lasted, _group(rows[:: len(days)]), days, past)

    def warned(self, threshold: float, horizon: int) -> Ints:
        """The day of silence on which each is warned of; beyond its end: never."""
        fires = self.indices >= threshold
        late = -(-5 * horizon // 6)
        return np.where(fires.any(axis=1), self.days[np.argmax(fires, axis=1)], late)


def _shares(
    left: Ints,
    facts: FactColumns,
    silences: PastSilences,
    day: int,
    risk: Risk,
    clv: Callable[[Floats], Floats],
    floor: float,
) -> Ints:
    """How often a silence of each group counts, in ten thousandths: as often as its kind is to be
    expected among those who are leaving now, by P(churn) of the customers of today. `left` has the
    groups of those who left before; of few there is little to say, and they count as they were."""
    now = silences.part((silences.until == NEVER) & (silences.since > day - risk.horizon_days))
    now = now.part(np.arange(0, len(now.since), 1 + len(now.since) // _MOST))
    now = now.part(_clvs(facts, now, clv) >= floor)
    rows = _rows(facts, now, risk, day - now.since)
    groups = len(_ORDERS) + 1
    expected = np.bincount(_group(rows), risk.predict(rows)[0], groups)
    were = np.bincount(left, minlength=groups)
    wanted = len(left) * expected / expected.sum() if expected.sum() else were
    return np.asarray(np.rint(1e4 * (wanted + _ENOUGH) / (were + _ENOUGH)), np.int64)


def _group(rows: Floats) -> Ints:
    """Customers by how often they had bought, from 0 for those who had once."""
    orders = np.rint(np.exp(rows[:, RHYTHM_NAMES.index("log_orders")]))
    return np.asarray(np.searchsorted(_ORDERS, orders, side="right"), np.int64)


def _quantile(values: Floats, counts: Ints, share: float) -> float:
    """The smallest of the values, each of which counts so often, that a share is not above."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])])


def _judged(
    early: float,
    threshold: float,
    left: _Past,
    others: _Past,
    shares: Ints,
    every: int,
    horizon: int,
) -> Threshold:
    """What an index would have done on silences whose end is known; `others` are one of `every`."""
    at = left.warned(threshold, horizon)
    counts = shares[left.group]
    # An order within the horizon of the warning makes it wrong, whenever that was.
    right = int(counts[left.lasted >= at + horizon].sum())
    wrongly = others.warned(threshold, horizon) <= others.lasted
    wrong = int(shares[others.group[wrongly]].sum()) * every
    return Threshold(
        early=early,
        index=round(threshold, 6),
        precision=round(right / (int(counts.sum()) + wrong), 4),
        median_lead_days=_quantile((horizon - at).astype(np.float64), counts, 0.5),
    )


def _ranking(
    facts: FactColumns,
    silences: PastSilences,
    day: int,
    risk: Risk,
    clv: Callable[[Floats], Floats],
) -> Ranking | None:
    """How much weight on money would have been best on call lists of the past, a sixth of a horizon
    apart; None where too few of those who could be called left."""
    horizon = risk.horizon_days
    first = int(silences.since.min(initial=day)) + horizon // 3
    days = range(day - horizon, first, -max(1, horizon // 6))[:_LISTS]
    lists = [found for at in days if (found := _past_list(facts, silences, at, risk, clv))]
    left = sum(int(each.gone.sum()) for each in lists)
    if left < _MIN_LEFT:
        return None
    simple = [_held(lists, key) for key in (_fewest_orders, _longest_silence, _highest_spend)]
    surest, dearest = (max(each) for each in zip(*simple, strict=True))
    tried = [(_held(lists, partial(_weight, money)), money) for money in MONEY]
    (precision, value), money = max(tried, key=lambda one: _above(one[0], surest, dearest))
    return Ranking(
        money=money,
        precision=round(precision, 4),
        value=round(value, 4),
        simple_precision=round(surest, 4),
        simple_value=round(dearest, 4),
        lists=len(lists),
        left=left,
        since=iso_day(days[len(days) - 1]),
        until=iso_day(days[0]),
    )


class _PastList(NamedTuple):
    """Customers among whom a list was to choose, shape (n,): P(churn), spend of the horizon before,
    purchase days and days of silence so far; and whether they ordered nothing in the horizon
    after."""

    churn: Floats
    spend: Floats
    orders: Floats
    silent: Floats
    gone: Bools


def _weight(money: float, past: _PastList) -> Floats:
    return np.array(weights(past.churn.tolist(), past.spend.tolist(), money))


def _fewest_orders(past: _PastList) -> Floats:
    return -past.orders


def _longest_silence(past: _PastList) -> Floats:
    return past.silent


def _highest_spend(past: _PastList) -> Floats:
    return past.spend


def _above(held: tuple[float, float], surest: float, dearest: float) -> float:
    """How far a list is above simple ones in what it is less good at: above 1 in both."""
    precision, value = held
    return round(min(precision / max(surest, 1e-9), value / max(dearest, 1e-9)), 9)


def _past_list(
    facts: FactColumns,
    silences: PastSilences,
    at: int,
    risk: Risk,
    clv: Callable[[Floats], Floats],
) -> _PastList | None:
    """The better half of the customers active at 00:00 of a day, by CLV after their last
    order; None where there is nobody."""
    horizon = risk.horizon_days
    active = (silences.since < at) & (silences.since >= at - horizon) & (silences.until >= at)
    known = silences.part(active)
    known = known.part(np.arange(0, len(known.since), 1 + len(known.since) // _CALLED))
    order = np.argsort(-_clvs(facts, known, clv), kind="stable")
    known = known.part(np.sort(order[: (len(order) + 1) // 2]))
    if not len(known.since):
        return None
    table = facts.at(known.customer, np.full(len(known.since), at - 1, np.int64))
    spend = table.sums((table.gross - table.refunded) * (table.age_days < horizon))
    rows = _rows(facts, known, risk, at - known.since)
    return _PastList(
        churn=risk.predict(rows)[0],
        spend=np.maximum(spend, 0.0),
        orders=np.rint(np.exp(rows[:, RHYTHM_NAMES.index("log_orders")])),
        silent=(at - known.since).astype(np.float64),
        gone=known.until >= at + horizon,
    )


def _held(lists: Sequence[_PastList], key: Callable[[_PastList], Floats]) -> tuple[float, float]:
    """Of lists of the tenth with the largest key, the share of those called who left, and the share
    of the money of all who left that was theirs."""
    called = right = 0
    kept = lost = 0.0
    for each in lists:
        largest = np.argsort(-key(each), kind="stable")
        best = largest[: max(1, round(TOP_SHARE * len(largest)))]
        called += len(best)
        right += int(each.gone[best].sum())
        kept += float((each.spend * each.gone)[best].sum())
        lost += float((each.spend * each.gone).sum())
    return right / called, kept / lost if lost else 0.0


def _rows(facts: FactColumns, silences: PastSilences, risk: Risk, silent: Ints) -> Floats:
    """What the regressions see of silences after so many days of each."""
    columns = columns_at(facts, silences, silent, risk.horizon_days, risk.typical)
    return np.clip(columns, risk.low, risk.high)


def _newest(silences: PastSilences, since_day: int) -> PastSilences:
    """The newest silences: those since a day, at least some hundred, at most so many."""
    order = np.argsort(-silences.since, kind="stable")
    count = max(int((silences.since >= since_day).sum()), _NEWEST)
    return silences.part(np.sort(order[: min(count, _MOST)]))


def _worth(left: PastSilences, clvs: Floats, floor: float) -> tuple[PastSilences, float]:
    """The silences of customers worth a warning, and the CLV from which they are: of few, the most
    valuable of those who left."""
    if len(clvs):
        floor = min(floor, float(np.sort(clvs)[::-1][:_FEW].min()))
    return left.part(clvs >= floor), floor


def _clvs(facts: FactColumns, silences: PastSilences, clv: Callable[[Floats], Floats]) -> Floats:
    """The CLV after the order that began each silence."""
    rows = vectors_of(facts.at(silences.customer, silences.since))
    return np.asarray(clv(rows) if len(rows) else np.empty(0), np.float64)
