"""Why a CLV fell: shares of silence, smaller baskets, lower frequency and refunds.

Counterfactual: how much higher would the CLV be, had the customer not fallen silent, had the
baskets stayed as they were, had nothing been refunded. What these do not explain is frequency.
At most three extra predictions for a warning; none for anything else.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from features.arrays import Ints
from features.columns.table import BEFORE_COLUMNS, FactColumns
from model.decide.rule_state import RaisedWarning
from model.decide.scoring import Scorer
from model.judge.judged import Scoring

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
    if not noticed:
        return []
    n = len(noticed)
    facts = FactColumns.of([scoring.facts for scoring in noticed])
    bought = facts.bought()
    day_of = scorer.calendar.day_of
    as_of_day = np.array([day_of(scoring.as_of_ms) for scoring in noticed], np.int64)
    since_day = np.array([_notice(scoring).reference.day for scoring in noticed], np.int64)
    awake_day = np.where(bought.days > 0, np.minimum(bought.last_day, as_of_day), as_of_day)
    owner = np.repeat(np.arange(n), facts.count)
    # As of the last order, without the refunds since, with baskets as before.
    parts = [
        replace(facts, refunded=_refunded_by(facts, owner, awake_day)),
        # A refund on the very day of the reference is more likely what it fell by than part of it.
        replace(facts, refunded=np.where(facts.day >= since_day[owner], 0, facts.refunded)),
        replace(facts, gross=_as_before(facts, owner, since_day)),
    ]
    days = np.concatenate([awake_day, as_of_day, as_of_day])
    table = FactColumns.together(parts).at(np.arange(3 * n), days)
    X = scorer.vectors(table, [scoring.user_id for scoring in noticed] * 3)
    clvs = scorer.clv_minor(X).reshape(3, n).T.tolist()
    return [_shares(scoring, clv) for scoring, clv in zip(noticed, clvs, strict=True)]


def _notice(scoring: Scoring) -> RaisedWarning:
    assert scoring.notice is not None
    return scoring.notice


def _shares(scoring: Scoring, clvs: Sequence[int]) -> tuple[Share, ...]:
    notice = _notice(scoring)
    now = notice.clv_minor
    silence, refunds, baskets = (max(clv - now, 0) for clv in clvs)
    fall = notice.reference.clv_minor - now
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


def _refunded_by(facts: FactColumns, owner: Ints, awake_day: Ints) -> Ints:
    """What was refunded on each day, refunds since the last order counted on the day of it: so that
    to look back from there undoes the silence and nothing else."""
    since = np.where(facts.day > awake_day[owner], facts.refunded, 0)
    later = np.zeros(len(awake_day), np.int64)
    np.add.at(later, owner, since)
    return np.where(facts.day == awake_day[owner], facts.refunded + later[owner], facts.refunded)


def _as_before(facts: FactColumns, owner: Ints, since_day: Ints) -> Ints:
    """The gross of each day as though every order after `since_day` had had the mean value of those
    up to it."""
    later = facts.day > since_day[owner]
    orders = facts.before[:, BEFORE_COLUMNS["orders"]].copy()
    gross = facts.before[:, BEFORE_COLUMNS["gross"]].copy()
    np.add.at(orders, owner, np.where(later, 0, facts.orders))
    np.add.at(gross, owner, np.where(later, 0, facts.gross))
    changed = facts.gross.copy()
    # In Python's integers: a year's revenue times a day's orders outgrows the array's.
    for at in np.flatnonzero(later & (orders[owner] > 0)).tolist():
        who = owner[at]
        changed[at] = int(facts.orders[at]) * int(gross[who]) // int(orders[who])
    return changed
