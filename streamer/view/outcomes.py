"""What the counts of all partitions say together: how warnings ended, and how the stream stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from features.times import day_of_date, iso_day, rfc3339
from model.evaluate.acting import Arms, Interval, Measured, compare, needed, weeks_until
from model.evaluate.proportions import interval
from streamer.listing import tally
from streamer.listing.tally import Tally, Week, week_of
from streamer.pipeline.batch import Pipeline
from streamer.view.listed import Board, Wanted


class WeekOutcome(msgspec.Struct, frozen=True):
    """Warnings sent in the week that begins on an ISO date (a Monday, in
    `timezone`), by how they ended,
    apart for the customers held out. Shares are of those that have ended, with their 95 % intervals
    (Wilson); null before the first has. Money in major units."""

    week: str
    holdout: bool
    warnings: int
    kept: int
    recovered: int
    lost: int
    open: int
    strict_precision: float | None
    strict_interval: tuple[float, float] | None
    episode_precision: float | None
    value_warned: float
    value_lost: float


class Arm(msgspec.Struct, frozen=True):
    """Warnings that have ended, of customers who were acted on or held out."""

    ended: int
    returned: int
    share_returned: float | None
    interval: tuple[float, float] | None
    mean_reference_clv: float | None


class ActingView(msgspec.Struct, frozen=True):
    """What acting on warnings brought, by `model.evaluate.acting`: how many more of the treated
    than of the held-out ordered again within the horizon, with its 95 % interval, and that
    difference times the mean reference CLV of the treated, for each 100 warnings. Null where an arm
    is too small: `too_few` says what is missing. `weeks_until_told`: in how many weeks such a
    difference can be told from chance, four times out of five; null where it can be now, or never.

    It counts warnings. `python -m streamer outcomes` counts each customer once, within the policy
    that held some out, and measures revenue.
    """

    treated: Arm
    held_out: Arm
    difference: Interval | None
    too_few: str
    value_per_100_warnings: float | None
    weeks_until_told: int | None


class OutcomesView(msgspec.Struct, frozen=True):
    """How warnings ended. `strict_precision`: of all weeks together; `promised_precision`: what the
    threshold in use had on the training log, null where none was learnt. `as_of`: event time;
    `complete`: false while open warnings of a partition are still being counted."""

    weeks: list[WeekOutcome]
    acting: ActingView
    strict_precision: float | None
    strict_interval: tuple[float, float] | None
    promised_precision: float | None
    currency: str
    timezone: str
    horizon_days: int
    as_of: str | None
    complete: bool


class BadRecords(msgspec.Struct, frozen=True):
    """Dead letters of one reason, and where the newest of them came from."""

    reason: str
    count: int
    partition: int
    offset: int


class PartitionStatus(msgspec.Struct, frozen=True):
    """A partition: the next offset to be applied, how far event time has come, open warnings (null
    while they are being listed), and records that wait (null where another worker has it)."""

    partition: int
    next_offset: int
    event_time: str | None
    open: int | None
    lag: int | None


class Status(msgspec.Struct, frozen=True):
    """How the stream stands. `applied` grows by one for each record; money in major units."""

    clock: str
    event_time: str | None
    applied: int
    lag: int | None
    partitions: list[PartitionStatus]
    dead_letters: list[BadRecords]
    open_warnings: int
    expected_loss: float
    value_at_risk: float
    currency: str
    timezone: str
    model_version: str
    horizon_days: int


class Forgotten(msgspec.Struct, frozen=True):
    """The erasure stands in the log; workers apply it when they read it. `known`: whether there was
    anything of the customer when it was asked for."""

    user_id: str
    known: bool
    as_of: str


def status(
    board: Board, pipeline: Pipeline, clock_ms: int, lags: Mapping[int, int | None]
) -> Status:
    """How all partitions stand; `lags`: records that wait in each, as far as that is known."""
    scorer = pipeline.judge.scorer
    rows = board.rows(Wanted(), pipeline)
    named = board.numbered
    known = [lag for lag in lags.values() if lag is not None]
    return Status(
        clock=rfc3339(clock_ms),
        event_time=rfc3339(board.now_ms) if board.now_ms else None,
        applied=sum(one.next_offset or 0 for _, one in named),
        lag=sum(known) if known else None,
        partitions=[
            PartitionStatus(
                number,
                one.next_offset or 0,
                None if one.high_ts_ms is None else rfc3339(one.high_ts_ms),
                one.open,
                lags.get(number),
            )
            for number, one in named
        ],
        dead_letters=_bad({number: tally.decode(one.tally) for number, one in named}),
        open_warnings=len(rows),
        expected_loss=round(sum(row.warning.expected_loss for row in rows), 4),
        value_at_risk=round(sum(row.warning.value_at_risk for row in rows), 4),
        currency=scorer.currency,
        timezone=scorer.calendar.name,
        model_version=scorer.model_version,
        horizon_days=scorer.horizon_days,
    )


def outcomes(board: Board, pipeline: Pipeline) -> OutcomesView:
    """How the warnings of all partitions ended."""
    scorer, policy = pipeline.judge.scorer, pipeline.judge.rules.policy
    total = Tally()
    for standing in board.standings:
        total = total.plus(tally.decode(standing.tally))
    calendar = scorer.calendar
    still_open, worth = board.open_by_week(calendar)
    weeks = [
        _week(key, week, still_open[key], worth[key], pipeline.writer.major)
        for key, week in sorted(total.weeks.items())
        if week.warned
    ]
    chosen = scorer.learned.chosen(policy)
    ended, lost = sum(one.warnings - one.open for one in weeks), sum(one.lost for one in weeks)
    return OutcomesView(
        weeks=weeks,
        acting=_acting(weeks, calendar.day_of(board.now_ms), scorer.horizon_days),
        strict_precision=lost / ended if ended else None,
        strict_interval=interval(lost, ended),
        promised_precision=None if chosen is None else chosen.precision,
        currency=scorer.currency,
        timezone=scorer.calendar.name,
        horizon_days=scorer.horizon_days,
        as_of=rfc3339(board.now_ms) if board.now_ms else None,
        complete=board.complete,
    )


def _week(
    key: int, week: Week, still_open: int, open_worth: float, major: Callable[[int], float]
) -> WeekOutcome:
    """One week: what was neither answered in time nor is open is lost."""
    day, holdout = week_of(key)
    is_open = min(still_open, week.warned - week.kept - week.recovered)
    ended = week.warned - is_open
    lost = ended - week.kept - week.recovered
    answered = major(week.kept_minor + week.recovered_minor)
    return WeekOutcome(
        week=iso_day(day),
        holdout=holdout,
        warnings=week.warned,
        kept=week.kept,
        recovered=week.recovered,
        lost=lost,
        open=is_open,
        strict_precision=lost / ended if ended else None,
        strict_interval=interval(lost, ended),
        episode_precision=(lost + week.recovered) / ended if ended else None,
        value_warned=major(week.warned_minor),
        value_lost=round(max(major(week.warned_minor) - answered - open_worth, 0), 4),
    )


def _acting(weeks: list[WeekOutcome], today: int, horizon_days: int) -> ActingView:
    treated, held_out = _arm(weeks, holdout=False), _arm(weeks, holdout=True)
    counts = [
        (holdout, returned, count)
        for holdout, arm in ((False, treated), (True, held_out))
        for returned, count in ((True, arm.returned), (False, arm.ended - arm.returned))
    ]
    sizes = [count for _, _, count in counts]
    n = sum(sizes)
    arms = Arms(
        policy=[""] * n,
        held_out=np.repeat([holdout for holdout, _, _ in counts], sizes),
        returned=np.repeat([returned for _, returned, _ in counts], sizes),
        revenue=np.full(n, np.nan),
    )
    found = compare(arms) if treated.ended and held_out.ended else None
    between = None if found is None else found.returned.difference
    mean = treated.mean_reference_clv or 0.0
    told = between is not None and not between.may_be_chance
    missing = "no warning of one of the two groups has ended yet"
    return ActingView(
        treated=treated,
        held_out=held_out,
        difference=between,
        too_few=missing if found is None else found.returned.too_few,
        value_per_100_warnings=None if between is None else round(100 * between.value * mean, 2),
        weeks_until_told=None
        if found is None or told
        else _until(found.returned, held_out.ended / n, _sent_days(weeks), today, horizon_days),
    )


def _until(
    measured: Measured, held_out: float, sent_days: list[int], today: int, horizon_days: int
) -> int | None:
    size = abs(measured.treated - measured.held_out)
    if not size:
        return None
    return weeks_until(needed(measured.variances, held_out, size), sent_days, today, horizon_days)


def _sent_days(weeks: list[WeekOutcome]) -> list[int]:
    """The day of the Monday of each warning that has ended, ascending."""
    return sorted(
        day for one in weeks for day in [day_of_date(one.week)] * (one.warnings - one.open)
    )


def _arm(weeks: list[WeekOutcome], *, holdout: bool) -> Arm:
    of_arm = [one for one in weeks if one.holdout is holdout]
    warned = sum(one.warnings for one in of_arm)
    returned = sum(one.kept + one.recovered for one in of_arm)
    ended = returned + sum(one.lost for one in of_arm)
    return Arm(
        ended=ended,
        returned=returned,
        share_returned=returned / ended if ended else None,
        interval=interval(returned, ended),
        mean_reference_clv=round(sum(one.value_warned for one in of_arm) / warned, 4)
        if warned
        else None,
    )


def _bad(tallies: Mapping[int, Tally]) -> list[BadRecords]:
    """Dead letters by reason, the most frequent first."""
    found: dict[str, BadRecords] = {}
    for number, one in tallies.items():
        for reason, some in one.bad.items():
            before = found.get(reason)
            count = some.count + (before.count if before else 0)
            found[reason] = BadRecords(reason, count, number, some.offset)
    return sorted(found.values(), key=lambda one: (-one.count, one.reason))
