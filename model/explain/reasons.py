"""Why a CLV fell: shares of silence, smaller baskets, lower frequency and refunds.

Counterfactual: how much higher would the CLV be, had the customer not fallen silent, had the
baskets stayed as they were, had nothing been refunded. What these do not explain is frequency.
At most three extra predictions for a warning; none for anything else.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.facts import buckets as day_buckets
from features.facts.state import CustomerState
from model.decide.judged import Scoring
from model.decide.scoring import Scorer

_UNITS = 10_000


class Factor(enum.StrEnum):
    """What a fall may come from."""

    SILENCE = "silence"
    BASKETS = "smaller_baskets"
    FREQUENCY = "lower_frequency"
    REFUNDS = "refunds"


class Share(NamedTuple):
    """A factor's share of the fall; the shares of a warning add up to 1 (four decimals)."""

    factor: Factor
    share: float


def explain(scorer: Scorer, noticed: Sequence[Scoring]) -> list[tuple[Share, ...]]:
    """The shares behind each warning or value drop, largest first, zeros left out."""
    pairs = [pair for scoring in noticed for pair in _counterfactuals(scorer, scoring)]
    scores = iter(scorer.scores(pairs, [s.user_id for s in noticed for _ in range(3)]))
    return [_shares(scoring, [next(scores).clv_minor for _ in range(3)]) for scoring in noticed]


def _counterfactuals(scorer: Scorer, scoring: Scoring) -> list[tuple[CustomerState, int]]:
    """The customer as of the last order, without the refunds since, with baskets as before."""
    assert scoring.notice is not None
    facts, since = scoring.facts, scoring.notice.reference.day
    last_day = facts.last_purchase_day
    awake_ms = scoring.as_of_ms if last_day is None else scorer.calendar.start_ms(last_day)
    return [
        (_with_refunds_by(facts, last_day), min(awake_ms, scoring.as_of_ms)),
        (_without_refunds(facts, since), scoring.as_of_ms),
        (_with_baskets_as_before(facts, since), scoring.as_of_ms),
    ]


def _shares(scoring: Scoring, clvs: Sequence[int]) -> tuple[Share, ...]:
    assert scoring.notice is not None
    now = scoring.notice.clv_minor
    silence, refunds, baskets = (max(clv - now, 0) for clv in clvs)
    fall = scoring.notice.reference.clv_minor - now
    frequency = max(fall - silence - refunds - baskets, 0)
    parts = {
        Factor.SILENCE: silence,
        Factor.BASKETS: baskets,
        Factor.FREQUENCY: frequency,
        Factor.REFUNDS: refunds,
    }
    total = sum(parts.values())
    units = {factor: part * _UNITS // total for factor, part in parts.items()}
    largest = max(parts, key=lambda factor: parts[factor])
    units[largest] += _UNITS - sum(units.values())
    ordered = sorted(units.items(), key=lambda item: -item[1])
    return tuple(Share(factor, unit / _UNITS) for factor, unit in ordered if unit)


def _with_refunds_by(facts: CustomerState, last_day: int | None) -> CustomerState:
    """The facts with what was refunded since the last order refunded on its day: so that to look
    back from there undoes the silence and nothing else."""
    days = np.frombuffer(facts.buckets, day_buckets.DTYPE).copy()
    if last_day is None or not (days["day"] == last_day).any():
        return facts
    days["refunded"][days["day"] == last_day] += days["refunded"][days["day"] > last_day].sum()
    kept = days[days["day"] <= last_day]
    return CustomerState(kept.tobytes(), facts.ledger, facts.before, facts.forgotten_ms)


def _without_refunds(facts: CustomerState, since_day: int) -> CustomerState:
    """The facts as though nothing had been refunded from a day on: a refund on the very day of the
    reference is more likely what it fell by than a part of it."""
    days = np.frombuffer(facts.buckets, day_buckets.DTYPE).copy()
    days["refunded"][days["day"] >= since_day] = 0
    return CustomerState(days.tobytes(), facts.ledger, facts.before, facts.forgotten_ms)


def _with_baskets_as_before(facts: CustomerState, since_day: int) -> CustomerState:
    """The facts as though every order after a day had had the mean value of those up to it."""
    days = np.frombuffer(facts.buckets, day_buckets.DTYPE).copy()
    later = days["day"] > since_day
    orders = int(days["orders"][~later].sum()) + facts.before.orders
    gross = int(days["gross"][~later].sum()) + facts.before.gross
    if orders:
        # In Python's integers: a year's revenue times a day's orders outgrows the array's.
        days["gross"][later] = [count * gross // orders for count in days["orders"][later].tolist()]
    return CustomerState(days.tobytes(), facts.ledger, facts.before, facts.forgotten_ms)
