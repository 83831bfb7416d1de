"""At most N warnings a day, those with the most at stake and the surest. Pure.

A partition decides alone: workers share nothing but the log. So N is dealt out to the partitions
(`share`), and within one the choice is exact, because everyone due at an instant is judged before
anything later is: `pieces` cuts a batch where its events close instants. With one partition
(a replay with one, the backtest) the choice is exact for all customers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from features.facts import buckets
from features.facts.state import CustomerState
from model.decide.policy import Rules
from model.judge.judged import Contested, JudgedBatch, Scoring


def share(per_day: int, number: int, partitions: int, day: int) -> int:
    """How many of a day's warnings partition `number` may send: shares differ by one at most, add
    up to `per_day`, and the larger ones go round with the days."""
    whole, left = divmod(per_day, partitions)
    return whole + ((number + day) % partitions < left)


def weights(churn: Sequence[float], spent: Sequence[float], money: float) -> list[float]:
    """What a budget ranks by: P(churn) x (1 + money x spend / mean spend), the mean weighed by
    P(churn). A place on the list adds P(churn) to the right ones and P(churn) x spend to the money,
    so any best trade of one for the other is such a sum."""
    mean = math.fsum(p * s for p, s in zip(churn, spent, strict=True)) / (math.fsum(churn) or 1.0)
    scale = money / mean if mean else 0.0
    return [p * (1.0 + scale * s) for p, s in zip(churn, spent, strict=True)]


def spent_minor(facts: CustomerState, as_of_day: int, days: int) -> int:
    """Net revenue of the last `days` days, `as_of_day` included, at least 0. Days beyond
    the state's memory count for nothing."""
    records, since = facts.buckets, as_of_day - days
    net = 0
    for at in range(len(records) - buckets.RECORD_BYTES, -1, -buckets.RECORD_BYTES):
        bucket = buckets.read(records, at)
        if bucket.day <= since:
            break
        net += bucket.gross - bucket.refunded
    return max(net, 0)


def chosen(raised: Iterable[Scoring], places: int, rules: Rules) -> set[str]:
    """The customers of the largest weight, as many as there are places; ties go to the lower user
    id, so that nothing depends on the order in which they were found."""
    candidates = list(raised)
    ranks = weights(
        [scoring.score.churn_probability for scoring in candidates],
        [
            spent_minor(s.facts, rules.calendar.day_of(s.as_of_ms), rules.horizon_days)
            for s in candidates
        ],
        rules.money,
    )
    users = [scoring.user_id for scoring in candidates]
    best = sorted(zip((-rank for rank in ranks), users, strict=True))
    return {user for _, user in best[: max(places, 0)]}


def split(judged: JudgedBatch) -> tuple[JudgedBatch, JudgedBatch]:
    """A batch in two: what is settled, and everyone contested."""
    contested = judged.contested
    if not contested:
        return judged, JudgedBatch()
    candidates = JudgedBatch(
        tracks={user: judged.tracks[user] for user in contested},
        changed=set(contested),
        scorings=[s for s in judged.scorings if s.user_id in contested],
        contested=contested,
    )
    settled = replace(
        judged,
        tracks={user: t for user, t in judged.tracks.items() if user not in contested},
        changed=judged.changed - contested.keys(),
        scorings=[s for s in judged.scorings if s.user_id not in contested],
        contested={},
    )
    return settled, candidates


def joined(one: JudgedBatch, other: JudgedBatch) -> JudgedBatch:
    """Two batches, of different customers, as one."""
    return JudgedBatch(
        tracks=one.tracks | other.tracks,
        changed=one.changed | other.changed,
        scorings=one.scorings + other.scorings,
        effects=one.effects | other.effects,
        reach_ms=one.reach_ms | other.reach_ms,
        contested=one.contested | other.contested,
        instants=one.instants + other.instants,
    )


class Settled(NamedTuple):
    """The candidates of an instant once it is decided who of them is warned of, and how many of the
    others are deferred for the first time in their episode."""

    judged: JudgedBatch
    newly_deferred: int


def settle(candidates: JudgedBatch, places: int, instant_ms: int, rules: Rules) -> Settled:
    """Warns of as many candidates of an instant as there are places; the others stay armed."""
    winners = chosen((s for s in candidates.scorings if s.raised), places, rules)
    losers = {user: c for user, c in candidates.contested.items() if user not in winners}
    judged = replace(
        candidates,
        tracks=candidates.tracks | {user: contested.track for user, contested in losers.items()},
        scorings=[
            told for scoring in candidates.scorings if (told := _without_place(scoring, losers))
        ],
        contested={},
    )
    newly = sum(
        contested.track.customer.rule_state.deferred_since_ms == instant_ms
        for contested in losers.values()
    )
    return Settled(judged, newly)


def _without_place(scoring: Scoring, losers: Mapping[str, Contested]) -> Scoring | None:
    contested = losers.get(scoring.user_id) if scoring.raised else None
    return contested.scoring if contested else scoring


class Piece(NamedTuple):
    """Events `start` to `end` (excluded) of a batch, and the last instant that must be judged for
    everyone before they are (None: they close none)."""

    start: int
    end: int
    until_ms: int | None


def pieces(watermarks_ms: Sequence[int | None], closed_ms: int | None, rules: Rules) -> list[Piece]:
    """A batch cut before each record that closes a grid instant.

    `watermarks_ms`: the partition's watermark with each record counted in (None: before the first
    order); `closed_ms`: that before the batch.
    """
    calendar = rules.calendar
    closed = -1 if closed_ms is None else calendar.day_of(closed_ms)
    found: list[Piece] = []
    start, until_ms = 0, None
    for at, watermark_ms in enumerate(watermarks_ms):
        if watermark_ms is None or (step := calendar.day_of(watermark_ms)) <= closed:
            continue
        if at > start:
            found.append(Piece(start, at, until_ms))
        closed = step
        start, until_ms = at, calendar.start_ms(closed)
    if watermarks_ms:
        found.append(Piece(start, len(watermarks_ms), until_ms))
    return found
