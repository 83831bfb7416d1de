"""Due times against the calendar: every day is looked at, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.times import MS_PER_DAY
from model.decide.history import PurchaseHistory
from model.decide.policy import Policy, Rules
from model.decide.rule_state import Peak, RaisedWarning, RuleState, Trigger
from model.decide.schedule import first_deciding_day, next_due, possible_instants

LAST_DAY = 20_000
FIRST_DAY = LAST_DAY - 30
ESTABLISHED = PurchaseHistory(FIRST_DAY, LAST_DAY, 3)


def rules_of(policy: Policy, horizon_days: int, floor_minor: int = 100) -> Rules:
    return Rules(
        policy=policy,
        horizon_days=horizon_days,
        floor_minor=floor_minor,
        segment_floors_minor=(3, 2, 1),
        severity_floors_minor=(2, 1),
    )


@st.composite
def calendars(draw: st.DrawFn) -> Rules:
    policy = Policy(
        grid_days=draw(st.integers(1, 12)),
        refresh_days=draw(st.none() | st.integers(1, 20)),
        min_silence_days=draw(st.none() | st.integers(1, 60)),
        reference_days=draw(st.integers(1, 60)),
        one_time_silence_days=draw(st.none() | st.integers(1, 60)),
        min_orders=draw(st.integers(1, 3)),
        min_history_days=draw(st.sampled_from([0, 0, 31, 70])),
        cooldown_days=draw(st.sampled_from([0, 0, 20, 50])),
    )
    return rules_of(policy, draw(st.integers(1, 60)))


@st.composite
def histories(draw: st.DrawFn) -> PurchaseHistory:
    if draw(st.booleans()):
        return PurchaseHistory(LAST_DAY, LAST_DAY, 1)
    return PurchaseHistory(FIRST_DAY, LAST_DAY, draw(st.integers(2, 3)))


def a_warning(as_of_ms: int) -> RaisedWarning:
    return RaisedWarning(Trigger.SILENCE, as_of_ms, 1, Peak(LAST_DAY, 100), 0, bytes(8))


@st.composite
def rule_states(draw: st.DrawFn) -> RuleState:
    return RuleState(
        armed=draw(st.booleans()),
        peaks=(Peak(LAST_DAY - draw(st.integers(0, 30)), draw(st.sampled_from([99, 100, 500]))),),
        raised=draw(
            st.none()
            | st.integers(-40 * MS_PER_DAY, 0).map(lambda ms: a_warning(LAST_DAY * MS_PER_DAY + ms))
        ),
        deferred=draw(st.none() | st.none() | st.just(a_warning(LAST_DAY * MS_PER_DAY))),
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


def twin_decides(day: int, history: PurchaseHistory, rule_state: RuleState, rules: Rules) -> bool:
    """Whether the rule, could it fire, may do so on a day of silence."""
    policy = rules.policy
    if day % policy.grid_days:
        return False
    if rule_state.deferred is not None:
        return True
    warned, least = rule_state.raised, rules.min_silence_days
    if history.purchase_days == 1 and policy.one_time_silence_days:
        least = policy.one_time_silence_days
    return (
        history.purchase_days >= policy.min_orders
        and day - history.first_day >= policy.min_history_days
        and day - LAST_DAY >= least
        and (
            warned is None
            or day * MS_PER_DAY >= warned.as_of_ms + policy.cooldown_days * MS_PER_DAY
        )
    )


def twin_due(
    history: PurchaseHistory, rule_state: RuleState, after_ms: int, rules: Rules
) -> int | None:
    for day in range(LAST_DAY - 100, LAST_DAY + rules.horizon_days + 1):
        if day * MS_PER_DAY <= after_ms:
            continue
        may_fire = rule_state.may_fire(day * MS_PER_DAY, rules)
        deciding = twin_decides(day, history, rule_state, rules)
        if twin_is_refresh(day, rules) or (deciding and may_fire):
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
        and day % rules.policy.grid_days == 0
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
def test_silence_may_fire_first_on_the_grid_day_that_the_policy_allows(
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


def of(policy: Policy, floor_minor: int = 100) -> Rules:
    return rules_of(policy, 40, floor_minor)


def test_by_default_a_customer_is_due_weekly_and_from_half_the_horizon_daily() -> None:
    assert due_days(ESTABLISHED, ARMED, of(Policy())) == [7, 14, *range(20, 41)]


def test_a_customer_below_the_floor_is_due_for_refreshes_only() -> None:
    assert due_days(ESTABLISHED, ARMED, of(Policy(), 101)) == [7, 14, 21, 28, 35]


def test_one_time_buyers_may_be_left_out() -> None:
    one_time = PurchaseHistory(LAST_DAY, LAST_DAY, 1)
    policy = Policy(min_orders=2, refresh_days=None)
    assert due_days(one_time, ARMED, of(policy)) == []
    assert due_days(ESTABLISHED, ARMED, of(policy)) == [*range(20, 41)]


def test_one_time_buyers_may_have_a_silence_of_their_own() -> None:
    policy = Policy(one_time_silence_days=30, refresh_days=None)
    assert due_days(PurchaseHistory(LAST_DAY, LAST_DAY, 1), ARMED, of(policy)) == [*range(30, 41)]
    assert due_days(ESTABLISHED, ARMED, of(policy)) == [*range(20, 41)]


def test_young_customers_are_due_once_they_have_enough_history() -> None:
    policy = Policy(min_history_days=65, refresh_days=None)
    assert due_days(ESTABLISHED, ARMED, of(policy)) == [*range(35, 41)]


def test_who_was_warned_of_is_due_when_the_cooldown_is_over() -> None:
    policy = Policy(cooldown_days=30, refresh_days=None)
    warned = RuleState(
        armed=True, peaks=ARMED.peaks, raised=a_warning((LAST_DAY - 4) * MS_PER_DAY + 1)
    )
    assert due_days(ESTABLISHED, warned, of(policy)) == [*range(27, 41)]


def test_what_waits_for_the_budget_is_due_on_every_day() -> None:
    held = RuleState(armed=True, deferred=a_warning(LAST_DAY * MS_PER_DAY))
    policy = Policy(refresh_days=None, budget_per_day=1)
    assert due_days(ESTABLISHED, held, of(policy)) == [*range(1, 41)]
