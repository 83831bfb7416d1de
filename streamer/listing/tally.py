"""What a partition counts for ever: warnings by week and how they were answered, and bad records by
reason. Pure; it is written with the states that it tells of, so that nothing counts twice.

A warning is lost when its horizon has passed without an order, which is no event: of a week's
warnings those are lost that were neither answered in time nor are still open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from features.times import monday_of
from model.decide.outcome import Ending
from model.decide.policy import Rules
from model.judge.judged import Scoring

MAX_WEEKS: Final = 104
"""Weeks that are kept, of those in which there were warnings."""

# The day of a Monday, doubled, and one more for the held-out customers.
WeekKey: TypeAlias = int


class Week(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Warnings of one week, and those of them that were answered by an order in time, by ending;
    `…_minor`: what their customers had been worth, by the reference CLV in minor units."""

    warned: int = 0
    kept: int = 0
    recovered: int = 0
    warned_minor: int = 0
    kept_minor: int = 0
    recovered_minor: int = 0

    def plus(self, more: Week) -> Week:
        return Week(
            self.warned + more.warned,
            self.kept + more.kept,
            self.recovered + more.recovered,
            self.warned_minor + more.warned_minor,
            self.kept_minor + more.kept_minor,
            self.recovered_minor + more.recovered_minor,
        )


class Bad(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many records were unusable for one reason, and the offset of the last."""

    count: int
    offset: int


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """The counts of a partition, or of what is to be added to them."""

    weeks: dict[WeekKey, Week] = {}
    bad: dict[str, Bad] = {}

    def __bool__(self) -> bool:
        return bool(self.weeks or self.bad)

    def plus(self, more: Tally) -> Tally:
        """Both counts; of weeks, the newest. An answer to a warning that was never counted, since
        an older version sent it, does not count either."""
        weeks = dict(self.weeks)
        for key, week in more.weeks.items():
            both = weeks.get(key, Week()).plus(week)
            if both.kept + both.recovered <= both.warned:
                weeks[key] = both
        newest = sorted(weeks, reverse=True)[: 2 * MAX_WEEKS]
        bad = dict(self.bad)
        for reason, some in more.bad.items():
            count = bad[reason].count if reason in bad else 0
            bad[reason] = Bad(count + some.count, some.offset)
        return Tally({key: weeks[key] for key in sorted(newest)}, bad)


NOTHING: Final = Tally()

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Tally)


def encode(tally: Tally) -> bytes:
    """The counts in MessagePack, some 15 bytes a week and arm."""
    return _encode(tally)


def decode(stored: bytes | None) -> Tally:
    """What `encode` wrote; nothing where there is nothing, or what is there was damaged: counts are
    for looking at, and no reason to stop a worker."""
    try:
        return NOTHING if stored is None else _decoder.decode(stored)
    except msgspec.DecodeError:
        return NOTHING


def week_key(day: int, holdout: bool) -> WeekKey:
    """The week of a day of the shop, and the arm."""
    return 2 * monday_of(day) + holdout


def week_of(key: WeekKey) -> tuple[int, bool]:
    """The day of its Monday, and whether it is of the held-out customers."""
    return key // 2, bool(key % 2)


def tally_of(scorings: Iterable[Scoring], rules: Rules, holdout: Callable[[str], bool]) -> Tally:
    """What scorings add to the counts."""
    weeks: dict[WeekKey, Week] = {}
    for scoring in scorings:
        for instant_ms, week in _changes(scoring, rules):
            key = week_key(rules.calendar.day_of(instant_ms), holdout(scoring.user_id))
            weeks[key] = weeks.get(key, Week()).plus(week)
    return Tally(weeks)


def _changes(scoring: Scoring, rules: Rules) -> Iterable[tuple[int, Week]]:
    if scoring.answered is not None:
        before = scoring.answered.raised
        minor = before.reference.clv_minor
        match scoring.answered.ending(rules.horizon_days, rules.calendar):
            case Ending.KEPT:
                yield before.as_of_ms, Week(kept=1, kept_minor=minor)
            case Ending.RECOVERED:
                yield before.as_of_ms, Week(recovered=1, recovered_minor=minor)
            case _:
                pass
    if scoring.raised is not None:
        yield scoring.as_of_ms, Week(warned=1, warned_minor=scoring.raised.reference.clv_minor)


def bad_records(reasons: Mapping[int, str]) -> dict[str, Bad]:
    """What unusable records add to the counts; `reasons` by offset."""
    found: dict[str, Bad] = {}
    for offset, reason in sorted(reasons.items()):
        count = found[reason].count if reason in found else 0
        found[reason] = Bad(count + 1, offset)
    return found
