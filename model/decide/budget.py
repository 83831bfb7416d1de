"""At most N warnings a day, those with the most at stake and the surest. Pure.

A partition decides alone: workers share nothing but the log. So N is dealt out to the partitions
(`share`), and within one the choice is exact, because everyone due at an instant is judged before
anything later is: `pieces` cuts a batch where its events close instants. With one partition
(a replay with one, the backtest) the choice is exact for all customers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from features import buckets
from features.state import CustomerState
from features.times import MS_PER_DAY, day_of
from model.decide.judge import Contested, Judged, Scoring
from model.decide.policy import Policy, Rules, Stake


def share(per_day: int, number: int, partitions: int, day: int) -> int:
    """How many of a day's warnings partition `number` may send: shares differ by one at most, add
    up to `per_day`, and the larger ones go round with the days."""
    whole, left = divmod(per_day, partitions)
    return whole + ((number + day) % partitions < left)


def weight(churn_probability: float, stake_minor: float, policy: Policy) -> float:
    """What a budget ranks by: P(churn) to the power of the certainty × what is at stake."""
    sure: float = churn_probability**policy.budget_certainty
    return sure * stake_minor


def spent_minor(facts: CustomerState, as_of_ms: int, days: int) -> int:
    """Net revenue of the last `days` UTC days, that of `as_of_ms` included, at least 0. Days beyond
    the state's memory count for nothing."""
    records, since = facts.buckets, day_of(as_of_ms) - days
    net = 0
    for at in range(len(records) - buckets.RECORD_BYTES, -1, -buckets.RECORD_BYTES):
        bucket = buckets.read(records, at)
        if bucket.day <= since:
            break
        net += bucket.gross - bucket.refunded
    return max(net, 0)


def stake_minor(scoring: Scoring, rules: Rules) -> int:
    """What is at stake with a scoring that fired, as the policy counts it, in minor units."""
    assert scoring.fired is not None
    if rules.policy.budget_value == Stake.REFERENCE:
        return scoring.fired.reference.clv_minor
    return spent_minor(scoring.facts, scoring.as_of_ms, rules.horizon_days)


def chosen(fired: Iterable[Scoring], places: int, rules: Rules) -> set[str]:
    """The customers of the largest weight, as many as there are places; ties go to the lower user
    id, so that nothing depends on the order in which they were found."""

    def rank(scoring: Scoring) -> tuple[float, str]:
        stake = stake_minor(scoring, rules)
        return -weight(scoring.score.churn_probability, stake, rules.policy), scoring.user_id

    return {scoring.user_id for scoring in sorted(fired, key=rank)[: max(places, 0)]}


def split(judged: Judged, candidates: Judged) -> None:
    """Moves everyone contested out of `judged` and to the candidates, in place."""
    contested = judged.contested
    if not contested:
        return
    candidates.contested |= contested
    candidates.changed |= contested.keys()
    candidates.tracks |= {user: judged.tracks.pop(user) for user in contested}
    judged.changed -= contested.keys()
    candidates.scorings += [s for s in judged.scorings if s.user_id in contested]
    judged.scorings = [s for s in judged.scorings if s.user_id not in contested]
    judged.contested = {}


def settle(candidates: Judged, places: int, instant_ms: int, rules: Rules) -> int:
    """Decides, in place, who of the candidates of an instant is warned of; the others stay armed.
    Returns for how many of those it is the first time in their episode."""
    winners = chosen((s for s in candidates.scorings if s.fired), places, rules)
    losers = {user: c for user, c in candidates.contested.items() if user not in winners}
    candidates.tracks |= {user: contested.track for user, contested in losers.items()}
    candidates.scorings = [
        told for scoring in candidates.scorings if (told := _without_place(scoring, losers))
    ]
    candidates.contested = {}
    return sum(
        contested.track.customer.judgement.withheld_ms == instant_ms
        for contested in losers.values()
    )


def _without_place(scoring: Scoring, losers: Mapping[str, Contested]) -> Scoring | None:
    contested = losers.get(scoring.user_id) if scoring.fired else None
    return contested.scoring if contested else scoring


class Piece(NamedTuple):
    """Events `start` to `end` (excluded) of a batch, and the last instant that must be judged for
    everyone before they are (None: they close none)."""

    start: int
    end: int
    until_ms: int | None


def pieces(
    watermarks_ms: Sequence[int | None], closed_ms: int | None, grid_days: int
) -> list[Piece]:
    """A batch cut before each record that closes a grid instant.

    `watermarks_ms`: the partition's watermark with each record counted in (None: before the first
    order); `closed_ms`: that before the batch.
    """
    step_ms = grid_days * MS_PER_DAY
    closed = -1 if closed_ms is None else closed_ms // step_ms
    found: list[Piece] = []
    start, until_ms = 0, None
    for at, watermark_ms in enumerate(watermarks_ms):
        if watermark_ms is None or watermark_ms // step_ms <= closed:
            continue
        if at > start:
            found.append(Piece(start, at, until_ms))
        closed = watermark_ms // step_ms
        start, until_ms = at, closed * step_ms
    if watermarks_ms:
        found.append(Piece(start, len(watermarks_ms), until_ms))
    return found
