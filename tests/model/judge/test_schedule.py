"""Due times against the calendar: every day is looked at, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.times import MS_PER_DAY
from model.decide.history import PurchaseHistory
from model.decide.policy import Policy, Rules
from model.decide.rule_state import Peak, RuleState
from model.judge.schedule import first_deciding_day, next_due, possible_instants

LAST_DAY = 20_000
FIRST_DAY = LAST_DAY - 30
ESTABLISHED = PurchaseHistory(FIRST_DAY, LAST_DAY, 3)


@st.composite
def calendars(draw: st.DrawFn) -> Rules:
    return Rules(
        policy=Policy(min_orders=draw(st.integers(1, 3))),
        horizon_days=draw(st.integers(1, 60)),
        floor_minor=100,
        segment_floors_minor=(3, 2, 1),
        severity_floors_minor=(2, 1),
        threshold=draw(st.none() | st.just(1.0)),
        refreshes=draw(st.booleans()),
    )


@st.composite
def histories(draw: st.DrawFn) -> PurchaseHistory:
    if draw(st.booleans()):
        return PurchaseHistory(LAST_DAY, LAST_DAY, 1)
    return PurchaseHistory(FIRST_DAY, LAST_DAY, draw(st.integers(2, 3)))


@st.composite
def rule_states(draw: st.DrawFn) -> RuleState:
    return RuleState(
        armed=draw(st.booleans()),
        peaks=(Peak(LAST_DAY - draw(st.integers(0, 30)), draw(st.sampled_from([99, 100, 500]))),),
        quiet_until_day=draw(st.sampled_from([-1, -1, LAST_DAY + 9])),
    )


def twin_is_refresh(day: int, rules: Rules) -> bool:
    """Whether the day is some whole number of refresh periods after the last order."""
    every = max(1, rules.horizon_days // 12)
    return rules.refreshes and day > LAST_DAY and (day - LAST_DAY) % every == 0


def twin_decides(day: int, history: PurchaseHistory, rule_state: RuleState, rules: Rules) -> bool:
    """Whether the rule may warn on a day of silence, whatever the scores."""
    least = rules.horizon_days / (2 if rules.threshold is None else 3)
    return (
        history.purchase_days >= rules.policy.min_orders
        and day - LAST_DAY >= least
        and day >= rule_state.quiet_until_day
        and rule_state.armed
        and rule_state.peaks[0].clv_minor >= 100
    )


def twin_due(
    history: PurchaseHistory, rule_state: RuleState, after_ms: int, rules: Rules
) -> int | None:
    for day in range(LAST_DAY - 100, LAST_DAY + rules.horizon_days + 1):
        if day * MS_PER_DAY <= after_ms:
            continue
        if twin_is_refresh(day, rules) or twin_decides(day, history, rule_state, rules):
            return day * MS_PER_DAY
    return None


# Scorings are never as of an instant before the last order.
AFTERS = st.integers(LAST_DAY * MS_PER_DAY, (LAST_DAY + 80) * MS_PER_DAY) | st.integers(0, 80).map(
    lambda days: (LAST_DAY + days) * MS_PER_DAY
)


@given(rules=calendars(), history=histories(), rule_state=rule_states(), after_ms=AFTERS)
def test_the_next_due_time_is_the_first_day_with_something_to_decide_or_to_refresh(
    rules: Rules, history: PurchaseHistory, rule_state: RuleState, after_ms: int
) -> None:
    expected = twin_due(history, rule_state, after_ms, rules)
    assert next_due(history, rule_state, after_ms, rules) == expected


@given(
    rules=calendars(),
    from_ms=AFTERS,
    span=st.integers(0, 90 * MS_PER_DAY),
    silent_days=st.none() | st.integers(0, 70),
)
def test_the_possible_instants_are_all_days_that_could_be_due_and_no_others(
    rules: Rules, from_ms: int, span: int, silent_days: int | None
) -> None:
    until_ms = from_ms + span
    deciding_from = None if silent_days is None else LAST_DAY + silent_days
    expected = [
        (day * MS_PER_DAY, twin_is_refresh(day, rules))
        for day in range(LAST_DAY, LAST_DAY + rules.horizon_days + 1)
        if from_ms <= day * MS_PER_DAY <= until_ms
        and (twin_is_refresh(day, rules) or (deciding_from is not None and day >= deciding_from))
    ]
    found = possible_instants(ESTABLISHED, from_ms, until_ms, rules, deciding_from=deciding_from)
    assert list(found) == expected


@given(rules=calendars(), history=histories(), rule_state=rule_states(), after_ms=AFTERS)
def test_whoever_is_due_is_due_at_an_instant_that_was_possible(
    rules: Rules, history: PurchaseHistory, rule_state: RuleState, after_ms: int
) -> None:
    due = next_due(history, rule_state, after_ms, rules)
    possible = possible_instants(history, after_ms + 1, 2**60, rules, deciding_from=LAST_DAY)
    assert due is None or due in {instant for instant, _ in possible}


@given(
    rules=calendars(),
    history=histories(),
    rule_state=rule_states(),
    from_day=st.integers(LAST_DAY, LAST_DAY + 80),
)
def test_silence_may_warn_first_on_the_day_that_the_policy_allows(
    rules: Rules, history: PurchaseHistory, rule_state: RuleState, from_day: int
) -> None:
    found = first_deciding_day(history, rule_state, from_day, rules)
    days = range(from_day, from_day + 200)
    assert found == next(
        (day for day in days if twin_decides(day, history, rule_state, rules)), None
    )


@given(rules=calendars(), rule_state=rule_states())
def test_who_never_bought_is_never_due(rules: Rules, rule_state: RuleState) -> None:
    assert next_due(None, rule_state, 0, rules) is None


@given(rules=calendars(), rule_state=rule_states())
def test_nobody_is_due_past_the_horizon(rules: Rules, rule_state: RuleState) -> None:
    end_ms = (LAST_DAY + rules.horizon_days) * MS_PER_DAY
    assert next_due(ESTABLISHED, rule_state, end_ms, rules) is None
    possible = possible_instants(ESTABLISHED, end_ms + 1, 2**60, rules, deciding_from=LAST_DAY)
    assert list(possible) == []


@given(rules=calendars(), history=histories(), rule_state=rule_states(), after_ms=AFTERS)
def test_due_times_move_forward_until_there_are_none(
    rules: Rules, history: PurchaseHistory, rule_state: RuleState, after_ms: int
) -> None:
    due: int | None = after_ms
    steps = 0
    while due is not None:
        later = next_due(history, rule_state, due, rules)
        assert later is None or later > due
        due = later
        steps += 1
    assert steps <= rules.horizon_days + 1


def due_days(history: PurchaseHistory, rule_state: RuleState, rules: Rules) -> list[int]:
    days = []
    due: int | None = LAST_DAY * MS_PER_DAY
    while due is not None and (due := next_due(history, rule_state, due, rules)) is not None:
        days.append(due // MS_PER_DAY - LAST_DAY)
    return days


ARMED = RuleState(armed=True, peaks=(Peak(LAST_DAY, 100),))


def of(policy: Policy, threshold: float | None = None, *, refreshes: bool = True) -> Rules:
    return Rules(policy, 42, 100, (3, 2, 1), (2, 1), threshold, refreshes=refreshes)


def test_a_customer_is_due_every_twelfth_of_the_horizon_and_from_a_third_of_it_daily() -> None:
    assert due_days(ESTABLISHED, ARMED, of(Policy(), 1.0)) == [3, 6, 9, 12, *range(14, 43)]


def test_where_nothing_was_learnt_a_customer_is_due_daily_from_half_the_horizon_on() -> None:
    due = due_days(ESTABLISHED, ARMED, of(Policy()))
    assert due == [3, 6, 9, 12, 15, 18, *range(21, 43)]


def test_a_customer_below_the_floor_is_due_for_refreshes_only() -> None:
    low = RuleState(armed=True, peaks=(Peak(LAST_DAY, 99),))
    assert due_days(ESTABLISHED, low, of(Policy(), 1.0)) == [*range(3, 43, 3)]


def test_one_time_buyers_may_be_left_out() -> None:
    one_time = PurchaseHistory(LAST_DAY, LAST_DAY, 1)
    rules = of(Policy(min_orders=2), refreshes=False)
    assert due_days(one_time, ARMED, rules) == []
    assert due_days(ESTABLISHED, ARMED, rules) == [*range(21, 43)]
