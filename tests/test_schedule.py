"""Due times against the calendar: every day is looked at, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.buckets import MS_PER_DAY
from model.policy import Judgement, Peak, Policy, Rules
from model.schedule import first_deciding_day, next_due, possible_instants

LAST_DAY = 20_000


@st.composite
def calendars(draw: st.DrawFn) -> Rules:
    policy = Policy(
        grid_days=draw(st.integers(1, 12)),
        refresh_days=draw(st.none() | st.integers(1, 20)),
        min_silence_days=draw(st.none() | st.integers(1, 60)),
        reference_days=draw(st.integers(1, 60)),
    )
    return Rules(policy, draw(st.integers(1, 60)), 100, (3, 2, 1))


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    return Judgement(
        armed=draw(st.booleans()),
        peaks=(Peak(LAST_DAY - draw(st.integers(0, 30)), draw(st.sampled_from([99, 100, 500]))),),
    )


def twin_is_refresh(day: int, rules: Rules) -> bool:
    """Whether the day is the first of the grid at or after some whole number of refresh periods."""
    refresh, grid = rules.policy.refresh_days, rules.policy.grid_days
    if refresh is None or day % grid:
        return False
    # The grid days before this one end at day - grid: the period's own day lies after that.
    return any(
        ago > 0 and ago % refresh == 0
        for ago in range(day - grid + 1 - LAST_DAY, day + 1 - LAST_DAY)
    )


def twin_decides(day: int, rules: Rules) -> bool:
    return day % rules.policy.grid_days == 0 and day - LAST_DAY >= rules.min_silence_days


def twin_due(judgement: Judgement, after_ms: int, rules: Rules) -> int | None:
    for day in range(LAST_DAY - 100, LAST_DAY + rules.horizon_days + 1):
        if day * MS_PER_DAY <= after_ms:
            continue
        may_fire = judgement.may_fire(day * MS_PER_DAY, rules)
        if twin_is_refresh(day, rules) or (twin_decides(day, rules) and may_fire):
            return day * MS_PER_DAY
    return None


# Scorings are never as of an instant before the last order.
AFTERS = st.integers(LAST_DAY * MS_PER_DAY, (LAST_DAY + 80) * MS_PER_DAY) | st.integers(0, 80).map(
    lambda days: (LAST_DAY + days) * MS_PER_DAY
)


@given(rules=calendars(), judgement=judgements(), after_ms=AFTERS)
def test_the_next_due_time_is_the_first_day_with_something_to_decide_or_to_refresh(
    rules: Rules, judgement: Judgement, after_ms: int
) -> None:
    assert next_due(LAST_DAY, judgement, after_ms, rules) == twin_due(judgement, after_ms, rules)


@given(
    rules=calendars(),
    from_ms=AFTERS,
    span=st.integers(0, 90 * MS_PER_DAY),
    deciding=st.booleans(),
)
def test_the_possible_instants_are_all_days_that_could_be_due_and_no_others(
    rules: Rules, from_ms: int, span: int, deciding: bool
) -> None:
    until_ms = from_ms + span
    expected = [
        (day * MS_PER_DAY, twin_is_refresh(day, rules))
        for day in range(LAST_DAY, LAST_DAY + rules.horizon_days + 1)
        if from_ms <= day * MS_PER_DAY <= until_ms
        and (twin_is_refresh(day, rules) or (deciding and twin_decides(day, rules)))
    ]
    found = possible_instants(LAST_DAY, from_ms, until_ms, rules, deciding=deciding)
    assert list(found) == expected


@given(rules=calendars(), judgement=judgements(), after_ms=AFTERS)
def test_whoever_is_due_is_due_at_an_instant_that_was_possible(
    rules: Rules, judgement: Judgement, after_ms: int
) -> None:
    due = next_due(LAST_DAY, judgement, after_ms, rules)
    possible = possible_instants(LAST_DAY, after_ms + 1, 2**60, rules, deciding=True)
    assert due is None or due in {instant for instant, _ in possible}


@given(rules=calendars(), from_day=st.integers(LAST_DAY, LAST_DAY + 80))
def test_silence_may_fire_first_on_the_grid_day_after_the_least_silence(
    rules: Rules, from_day: int
) -> None:
    days = range(from_day, from_day + 200)
    assert first_deciding_day(LAST_DAY, from_day, rules) == next(
        day for day in days if twin_decides(day, rules)
    )


@given(rules=calendars(), judgement=judgements())
def test_who_never_bought_is_never_due(rules: Rules, judgement: Judgement) -> None:
    assert next_due(None, judgement, 0, rules) is None


@given(rules=calendars(), judgement=judgements())
def test_nobody_is_due_past_the_horizon(rules: Rules, judgement: Judgement) -> None:
    end_ms = (LAST_DAY + rules.horizon_days) * MS_PER_DAY
    assert next_due(LAST_DAY, judgement, end_ms, rules) is None
    assert list(possible_instants(LAST_DAY, end_ms + 1, 2**60, rules, deciding=True)) == []


@given(rules=calendars(), judgement=judgements(), after_ms=AFTERS)
def test_due_times_move_forward_until_there_are_none(
    rules: Rules, judgement: Judgement, after_ms: int
) -> None:
    due: int | None = after_ms
    steps = 0
    while due is not None:
        later = next_due(LAST_DAY, judgement, due, rules)
        assert later is None or later > due
        due = later
        steps += 1
    assert steps <= rules.horizon_days + 1


def test_by_default_a_customer_is_due_weekly_and_from_half_the_horizon_daily() -> None:
    rules = Rules(Policy(), 40, 100, (3, 2, 1))
    judgement = Judgement(armed=True, peaks=(Peak(LAST_DAY, 100),))
    days = []
    due: int | None = LAST_DAY * MS_PER_DAY
    while due is not None and (due := next_due(LAST_DAY, judgement, due, rules)) is not None:
        days.append(due // MS_PER_DAY - LAST_DAY)
    assert days == [7, 14, *range(20, 41)]


def test_a_customer_below_the_floor_is_due_for_refreshes_only() -> None:
    rules = Rules(Policy(), 40, 101, (3, 2, 1))
    judgement = Judgement(armed=True, peaks=(Peak(LAST_DAY, 100),))
    days = []
    due: int | None = LAST_DAY * MS_PER_DAY
    while due is not None and (due := next_due(LAST_DAY, judgement, due, rules)) is not None:
        days.append(due // MS_PER_DAY - LAST_DAY)
    assert days == [7, 14, 21, 28, 35]
