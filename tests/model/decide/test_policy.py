"""The drop rule, decision by decision: when it fires, when it does not, and what re-arms it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ledger import id_hash
from features.orders import OrderType
from features.times import MS_PER_DAY
from model.decide.history import PurchaseHistory
from model.decide.policy import Policy, PolicyError, ReferenceKind, Rules, Stake
from model.decide.rule import RuleEvent, deferred, is_down_by, on_event, on_instant, rebased
from model.decide.rule_state import NEW, Peak, RaisedWarning, RuleState, Trigger
from tests.support.fakes import START_MS, at

DAY_0 = START_MS // MS_PER_DAY
DEFAULT_VERSION = "0ca06eb5"


def rules(floor_minor: int = 7_000, horizon_days: int = 40, **policy: Any) -> Rules:
    """The rule at a drop of 30 %, whatever the churn probability unless a threshold is given."""
    threshold = policy.pop("churn_threshold", 0.0)
    return Rules(
        policy=Policy(**{"drop": 0.3, **policy}),
        horizon_days=horizon_days,
        floor_minor=floor_minor,
        segment_floors_minor=(9_000, 7_000, 4_000),
        severity_floors_minor=(9_500, 8_500),
        churn_threshold=threshold,
    )


@dataclass
class Customer:
    """A rule state carried along; days count from 2025-01-01, CLVs are in cents."""

    rules: Rules
    rule_state: RuleState = NEW
    last_order_day: int = 0
    first_order_day: int | None = None
    purchase_days: int = 0
    answered: RaisedWarning | None = None
    ids: frozenset[tuple[str, OrderType]] = frozenset()

    def event(
        self,
        day: float,
        clv: int,
        before: int | None = None,
        type: OrderType = OrderType.ORDER,
        late: bool = False,
        id: str | None = None,
        void: bool = False,
    ) -> RaisedWarning | None:
        if type is OrderType.ORDER and not void:
            self.purchase_days += not self.purchase_days or int(day) > self.last_order_day
            self.last_order_day = int(day)
            if self.first_order_day is None:
                self.first_order_day = int(day)
        name = id or f"order {day}"
        known, self.ids = (name, type) in self.ids, self.ids | {(name, type)}
        event = RuleEvent(type, at(day), id_hash(name), late, void, known)
        self.rule_state, raised, self.answered = on_event(
            self.rule_state, event, at(day), clv, before, self.history, self.rules
        )
        return raised

    def silence(self, day: int, clv: int, churn: float = 1.0) -> RaisedWarning | None:
        assert self.history is not None
        self.rule_state, raised, _ = on_instant(
            self.rule_state, at(day), clv, churn, self.history, self.rules
        )
        return raised

    @property
    def history(self) -> PurchaseHistory | None:
        if self.first_order_day is None:
            return None
        first, last = DAY_0 + self.first_order_day, DAY_0 + self.last_order_day
        return PurchaseHistory(
            first, last, min(self.purchase_days, self.rules.enough_purchase_days)
        )


def bought(day: float = 0, clv: int = 10_000, **policy: Any) -> Customer:
    """A customer with one order and the CLV after it."""
    customer = Customer(rules(**policy))
    assert customer.event(day, clv) is None
    return customer


# --- how far a CLV has fallen --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "reference", "highest"),
    [
        (0.3, 10, 7),  # 1 - 0.3 is 0.7 and ten of it are 7.0 in floats, too
        (0.1, 30, 27),
        (0.3, 100, 70),
        (0.7, 10, 3),  # in floats (1 - 0.7) x 10 is 3.0000000000000004
        (0.9, 10, 1),  # and (1 - 0.9) x 10 is 0.9999999999999998: a bit too low
        (0.9, 1_000_000_000_000, 100_000_000_000),
        (0.333, 1000, 667),
        (0.3, 11, 7),
    ],
)
def test_a_drop_is_reached_to_the_last_bit(drop: float, reference: int, highest: int) -> None:
    assert is_down_by(drop, highest, reference)
    assert not is_down_by(drop, highest + 1, reference)


@given(percent=st.integers(1, 99), hundreds=st.integers(0, 10**13), over=st.integers(1, 10**13))
def test_a_percentage_of_hundreds_is_exact(percent: int, hundreds: int, over: int) -> None:
    kept = (100 - percent) * hundreds
    assert is_down_by(percent / 100, kept, 100 * hundreds)
    assert not is_down_by(percent / 100, kept + over, 100 * hundreds)


# --- silence -------------------------------------------------------------------------------------


def test_silence_fires_on_the_first_day_that_is_silent_enough_and_low_enough() -> None:
    customer = bought()
    low = {day: customer.silence(day, 7_000) for day in range(1, 22)}
    assert [day for day, raised in low.items() if raised] == [20]


def test_a_warning_says_what_it_saw() -> None:
    customer = bought(0.25)
    assert customer.silence(20, 6_000) == RaisedWarning(
        trigger=Trigger.SILENCE,
        as_of_ms=at(20),
        clv_minor=6_000,
        reference=Peak(DAY_0, 10_000),
        episode_ms=at(0.25),
        episode_id=id_hash("order 0.25"),
        policy_version=customer.rules.policy.version,
    )
    assert customer.rule_state.raised is not None
    assert customer.rule_state.raised.drop == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("clv", "fires"), [(10_000, False), (7_001, False), (7_000, True), (0, True)]
)
def test_the_drop_is_reached_at_its_very_share(clv: int, fires: bool) -> None:
    assert bool(bought().silence(20, clv)) is fires


@pytest.mark.parametrize(
    ("reference", "fires"), [(6_999, False), (7_000, True), (7_001, True), (10**9, True)]
)
def test_only_customers_whose_reference_reaches_the_floor_are_warned_of(
    reference: int, fires: bool
) -> None:
    assert bool(bought(clv=reference).silence(20, 0)) is fires


def test_a_customer_worth_nothing_is_not_warned_of_even_without_a_floor() -> None:
    customer = Customer(rules(floor_minor=0))
    customer.event(0, 0)
    assert customer.silence(20, 0) is None


@pytest.mark.parametrize(
    ("days", "horizon", "expected"),
    [(None, 40, 20), (None, 41, 20), (None, 1, 1), (5, 40, 5), (40, 40, 40), (41, 40, None)],
)
def test_silence_counts_from_its_least_days_to_the_horizon(
    days: int | None, horizon: int, expected: int | None
) -> None:
    customer = Customer(rules(min_silence_days=days, horizon_days=horizon))
    customer.event(0, 10_000)
    raised = [day for day in range(1, 60) if customer.silence(day, 0)]
    assert raised == ([] if expected is None else [expected])


def test_nobody_is_warned_of_past_the_horizon() -> None:
    assert bought().silence(40, 0)
    assert bought().silence(41, 0) is None


@pytest.mark.parametrize(
    ("day", "fires"), [(30, True), (31, True), (32, False), (33, False), (40, False)]
)
def test_the_reference_is_the_highest_clv_of_its_days_only(day: int, fires: bool) -> None:
    customer = Customer(rules(reference_days=30))
    customer.event(1, 20_000)
    customer.event(2, 10_000)
    # 8,000 is more than 30 % under the CLV of day 1 and not under that of day 2.
    assert bool(customer.silence(day, 8_000)) is fires


def test_a_lower_clv_of_a_later_event_counts_once_the_higher_one_is_too_old() -> None:
    customer = Customer(rules(reference_days=30))
    customer.event(1, 20_000)
    customer.event(2, 10_000)
    raised = customer.silence(32, 5_000)
    assert raised is not None
    assert raised.reference == Peak(DAY_0 + 2, 10_000)


def test_an_overtopped_clv_is_forgotten() -> None:
    customer = bought(1, 10_000)
    customer.event(2, 12_000)
    assert customer.rule_state.peaks == (Peak(DAY_0 + 2, 12_000),)


def test_a_clv_that_is_reached_again_is_remembered_from_then() -> None:
    customer = bought(1, 10_000)
    customer.event(2, 10_000)
    assert customer.rule_state.peaks == (Peak(DAY_0 + 2, 10_000),)


def test_a_fall_is_told_once_until_the_next_order() -> None:
    customer = bought()
    assert customer.silence(20, 1_000)
    assert [customer.silence(day, 0) for day in range(21, 41)] == [None] * 20


def test_an_order_arms_the_rule_again() -> None:
    customer = bought()
    first = customer.silence(20, 1_000)
    assert customer.event(25, 9_000) is None
    second = customer.silence(45, 1_000)
    assert first is not None
    assert second is not None
    assert (first.episode_ms, second.episode_ms) == (at(0), at(25))


def test_a_refund_does_not_arm_the_rule_again() -> None:
    customer = bought()
    assert customer.silence(20, 1_000)
    assert customer.event(22, 500, 1_000, OrderType.REFUND) is None
    assert not customer.rule_state.armed
    assert customer.silence(30, 0) is None


def test_an_instant_that_decides_nothing_leaves_the_very_same_rule_state() -> None:
    customer = bought()
    before = customer.rule_state
    for day, clv in ((19, 0), (20, 9_999), (41, 0)):
        customer.silence(day, clv)
    assert customer.rule_state is before


# --- events --------------------------------------------------------------------------------------


def test_an_order_that_lowers_the_clv_itself_fires() -> None:
    raised = bought().event(1, 7_000, before=10_000)
    assert raised is not None
    assert (raised.trigger, raised.as_of_ms, raised.episode_ms) == (Trigger.ORDER, at(1), at(1))


@pytest.mark.parametrize("before", [None, 5_000, 7_000])
def test_an_order_after_a_fall_fires_nothing(before: int | None) -> None:
    assert bought().event(1, 7_000, before) is None


@pytest.mark.parametrize("type", [OrderType.REFUND, OrderType.CANCELLATION])
def test_what_takes_money_back_fires_as_a_refund(type: OrderType) -> None:
    raised = bought().event(1, 2_000, 10_000, type)
    assert raised is not None
    assert (raised.trigger, raised.as_of_ms, raised.episode_ms) == (Trigger.REFUND, at(1), at(0))


def test_a_refund_of_someone_who_never_ordered_fires_nothing() -> None:
    customer = Customer(rules())
    assert customer.event(0, 0, 10_000, OrderType.REFUND) is None
    assert not customer.rule_state.armed


def test_a_first_order_fires_nothing() -> None:
    customer = Customer(rules())
    assert customer.event(0, 100, before=10_000) is None


@pytest.mark.parametrize("type", list(OrderType))
def test_a_late_event_fires_nothing_for_the_past(type: OrderType) -> None:
    customer = bought()
    assert customer.event(1, 100, 10_000, type, late=True) is None


def test_a_late_order_still_arms_the_rule() -> None:
    customer = bought()
    assert customer.silence(20, 1_000)
    customer.event(22, 1_000, late=True)
    assert customer.silence(42, 100)


def test_an_order_that_fires_disarms_until_the_next() -> None:
    customer = bought()
    assert customer.event(1, 5_000, 10_000)
    assert customer.event(2, 1_000, 5_000, OrderType.REFUND) is None
    assert customer.silence(21, 0) is None
    assert customer.event(22, 900, 1_000)


def test_the_clv_of_the_event_itself_is_not_its_own_reference() -> None:
    customer = Customer(rules(reference_days=1))
    customer.event(0, 10_000)
    assert customer.event(5, 5_000, 6_000) is None
    assert customer.rule_state.reference(at(5), customer.rules) == Peak(DAY_0 + 5, 5_000)


# --- every option, with the instant at which it fires --------------------------------------------

# What happens to a customer: (day, CLV) of orders, then the CLV on every silent day from the last
# order on; H is 40 days, silence counts from day 20, 30 % must be gone.
LINE = {day: 10_000 - 200 * day for day in range(1, 61)}  # 30 % under on day 15


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, 20),
        ({"min_silence_days": 10}, 15),
        ({"min_silence_days": 10, "drop": 0.2}, 10),
        ({"min_silence_days": 10, "drop": 0.5}, 25),
        ({"drop": 0.9}, None),
        ({"min_silence_days": 41}, None),
        ({"grid_days": 7, "min_silence_days": 16}, 22),  # days of the calendar, not hers
        ({"floor": 100.0}, None),
        ({"min_orders": 2}, 20),
        ({"min_orders": 3}, None),
        ({"min_history_days": 30}, 20),
        ({"min_history_days": 35}, 25),
        ({"min_history_days": 51}, None),
        ({"one_time_silence_days": 30}, 20),
        ({"reference_days": 20}, 20),
        ({"reference_days": 19}, None),
        ({"reference": "last_order", "reference_days": 1}, 20),
        ({"reference": "peak", "drop": 0.42}, 21),
    ],
)
def test_a_silence_fires_at_the_very_instant_that_the_policy_says(
    policy: dict[str, Any], expected: int | None
) -> None:
    customer = Customer(rules(floor_minor=0 if "floor" not in policy else 10_001, **policy))
    customer.event(-10, 9_000)
    customer.event(0, 10_000)
    grid = customer.rules.policy.grid_days
    days = [day for day in LINE if (DAY_0 + day) % grid == 0]
    assert [day for day in days if customer.silence(day, LINE[day])] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, 20),
        ({"one_time_silence_days": 30}, 30),
        ({"one_time_silence_days": 5}, 15),
        ({"min_orders": 2}, None),
        ({"min_history_days": 26}, 26),
    ],
)
def test_one_time_buyers_follow_a_policy_of_their_own(
    policy: dict[str, Any], expected: int | None
) -> None:
    customer = bought(**policy)
    assert [day for day in LINE if customer.silence(day, LINE[day])] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize(
    ("threshold", "late", "expected"),
    [(0.0, None, 20), (0.5, None, 25), (0.7, None, 33), (0.6, 40, 30), (0.9, 28, 28)],
)
def test_silence_waits_for_the_churn_probability_or_for_the_late_silence(
    threshold: float, late: int | None, expected: int
) -> None:
    customer = bought(churn_threshold=threshold, late_silence_days=late)
    raised = [day for day in LINE if customer.silence(day, LINE[day], churn=day / 50)]
    assert raised == [expected]


@pytest.mark.parametrize(
    ("cooldown", "expected"), [(0, 45), (25, 45), (26, 46), (45, 65), (46, None)]
)
def test_after_a_warning_the_cooldown_keeps_silence_quiet(
    cooldown: int, expected: int | None
) -> None:
    customer = bought(cooldown_days=cooldown)
    assert customer.silence(20, 0)
    customer.event(25, 10_000)
    raised = [day for day in range(26, 80) if customer.silence(day, 0)]
    assert raised == ([] if expected is None else [expected])


@pytest.mark.parametrize(("cooldown", "fires"), [(10, True), (11, False)])
def test_after_a_warning_the_cooldown_keeps_events_quiet(cooldown: int, fires: bool) -> None:
    customer = bought(cooldown_days=cooldown)
    assert customer.silence(20, 0)
    customer.event(25, 10_000)
    assert bool(customer.event(30, 1_000, 10_000, OrderType.REFUND)) is fires


@pytest.mark.parametrize(("clv", "fires"), [(7_500, False), (7_000, False), (6_000, True)])
def test_events_have_a_drop_of_their_own(clv: int, fires: bool) -> None:
    assert bool(bought(drop=0.2, event_drop=0.4).event(1, clv, 10_000)) is fires


@pytest.mark.parametrize(
    ("policy", "fires"),
    [({}, True), ({"min_orders": 2}, False), ({"min_history_days": 2}, False)],
)
def test_minimum_history_holds_for_events_too(policy: dict[str, Any], fires: bool) -> None:
    refunded = bought(**policy).event(1, 1_000, 10_000, OrderType.REFUND)
    assert bool(refunded) is fires


def test_a_refund_moves_no_reference_that_is_the_last_order() -> None:
    customer = bought(reference="last_order")
    customer.event(1, 9_000, 10_000, OrderType.REFUND)
    assert customer.rule_state.reference(at(2), customer.rules) == Peak(DAY_0, 10_000)
    customer.event(2, 8_000)
    assert customer.rule_state.reference(at(3), customer.rules) == Peak(DAY_0 + 2, 8_000)


@pytest.mark.parametrize("kind", ["peak", "last_order"])
def test_every_kind_of_reference_moves_to_the_scale_of_another_model(kind: str) -> None:
    customer = bought(reference=kind)
    customer.event(5, 8_000)
    last = customer.rule_state.scored_last
    assert last == Peak(DAY_0 + 5, 8_000)
    moved = rebased(customer.rule_state, "new", 8_000, 4_000)
    assert moved.scored_last == Peak(DAY_0 + 5, 4_000)
    assert [peak.clv_minor * 2 for peak in moved.peaks] == [
        peak.clv_minor for peak in customer.rule_state.peaks
    ]


def swapped(**policy: Any) -> Customer:
    """A customer whose silence has been judged for 5 days when another model comes."""
    customer = bought(**policy)
    for day in range(20, 25):
        assert customer.silence(day, 9_000) is None
    customer.rule_state = rebased(customer.rule_state, "new", 10_000, 10_000)
    return customer


def test_what_a_new_model_brings_is_spread_over_days() -> None:
    customer = swapped(swap_spread_days=10)
    wait = 1 + int.from_bytes(id_hash("order 0")) % 10
    assert [day for day in range(25, 41) if customer.silence(day, 0)] == [25 + wait]


def test_a_new_model_delays_nothing_that_it_does_not_bring() -> None:
    customer = swapped()
    assert customer.silence(25, 9_000) is None
    assert customer.silence(26, 0)


def test_a_silence_that_begins_to_count_after_the_swap_fires_at_once() -> None:
    customer = bought()
    customer.rule_state = rebased(customer.rule_state, "new", 10_000, 10_000)
    assert customer.silence(20, 0)


def test_without_a_spread_a_new_model_speaks_at_once() -> None:
    assert swapped(swap_spread_days=0).silence(25, 0)


def test_a_new_model_moves_the_floor_with_the_reference() -> None:
    customer = bought(clv=7_000)
    customer.rule_state = rebased(customer.rule_state, "new", 7_000, 3_500)
    assert customer.silence(20, 0)


# --- answers -------------------------------------------------------------------------------------


def test_the_next_order_answers_a_warning_once() -> None:
    customer = bought()
    raised = customer.silence(20, 1_000)
    customer.event(25, 9_000)
    assert customer.answered == raised
    customer.event(26, 9_000)
    assert customer.answered is None


@pytest.mark.parametrize("type", [OrderType.REFUND, OrderType.CANCELLATION])
def test_a_refund_answers_no_warning(type: OrderType) -> None:
    customer = bought()
    customer.silence(20, 1_000)
    customer.event(25, 900, 1_000, type)
    assert customer.answered is None
    assert not customer.rule_state.armed


def test_the_order_before_the_warning_sent_again_answers_nothing() -> None:
    customer = bought()
    customer.silence(20, 1_000)
    customer.event(0, 900, id="order 0", late=True)
    assert customer.answered is None
    assert not customer.rule_state.armed


def test_an_order_sent_again_after_another_opens_its_episode_no_second_time() -> None:
    """The two warnings would have one id."""
    customer = bought()
    customer.event(1, 1_000, id="one")
    customer.event(2, 1_000, id="two")
    customer.silence(22, 500)
    armed_by = customer.rule_state.episode_id
    customer.event(1, 900, id="one", late=True)
    assert customer.answered is None
    assert not customer.rule_state.armed
    assert customer.rule_state.episode_id == armed_by == id_hash("two")


def test_an_order_that_was_taken_back_before_it_came_answers_nothing() -> None:
    customer = bought()
    customer.silence(20, 1_000)
    customer.event(25, 900, void=True)
    assert customer.answered is None
    assert not customer.rule_state.armed


# --- a budget ------------------------------------------------------------------------------------


def test_under_a_budget_an_event_waits_for_the_next_instant() -> None:
    customer = bought(budget_per_day=1)
    assert customer.event(1.5, 2_000, 10_000, OrderType.REFUND) is None
    assert customer.rule_state.may_fire(at(2), customer.rules)
    raised = customer.silence(2, 1_900)
    assert raised is not None
    assert (raised.trigger, raised.as_of_ms, raised.clv_minor) == (Trigger.REFUND, at(2), 1_900)
    assert raised.reference == Peak(DAY_0, 10_000)
    assert customer.rule_state.deferred is None


def test_an_order_takes_back_what_waits_for_the_budget() -> None:
    customer = bought(budget_per_day=1)
    customer.event(1.5, 2_000, 10_000, OrderType.REFUND)
    customer.event(1.7, 12_000)
    assert customer.silence(2, 11_000) is None


def test_what_the_budget_withholds_competes_again_and_says_since_when() -> None:
    customer = bought(budget_per_day=1)
    first = deferred(customer.rule_state, at(20))
    again = deferred(first, at(21))
    assert (first.deferred_since_ms, again.deferred_since_ms) == (at(20), at(20))
    customer.rule_state = again
    assert customer.silence(22, 3_000)
    assert customer.rule_state.deferred_since_ms == -1


# --- another model -------------------------------------------------------------------------------


@given(
    clvs=st.lists(st.integers(0, 10**7).map(lambda half: 2 * half), min_size=1, max_size=8),
    now=st.integers(0, 10**7).map(lambda half: 2 * half),
)
def test_a_model_that_halves_every_score_fires_nothing_new(clvs: list[int], now: int) -> None:
    customer = Customer(rules(floor_minor=2, swap_spread_days=0))
    for day, clv in enumerate(clvs):
        customer.event(day, clv)
    halved = Customer(
        rules(floor_minor=1, swap_spread_days=0),
        rebased(customer.rule_state, "new", clvs[-1], clvs[-1] // 2),
        customer.last_order_day,
        customer.first_order_day,
        customer.purchase_days,
    )
    if clvs[-1]:  # a score of 0 tells nothing of the new scale
        assert [peak.clv_minor * 2 for peak in halved.rule_state.peaks] == [
            peak.clv_minor for peak in customer.rule_state.peaks
        ]
        day = len(clvs) + 25
        assert bool(customer.silence(day, now)) is bool(halved.silence(day, now // 2))


def test_rebasing_keeps_days_arming_and_episode() -> None:
    old = bought().rule_state
    new = rebased(old, "model-2", 10_000, 25_000)
    assert new.peaks == (Peak(DAY_0, 25_000),)
    assert new.model_version == "model-2"
    assert (new.armed, new.episode_ms, new.episode_id) == (
        old.armed,
        old.episode_ms,
        old.episode_id,
    )


def test_rebasing_from_nothing_keeps_the_references() -> None:
    assert rebased(bought().rule_state, "new", 0, 500).peaks == (Peak(DAY_0, 10_000),)


# --- what the rule remembers ---------------------------------------------------------------------


@given(
    scores=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 50_000)), max_size=30),
    ahead=st.integers(0, 120),
    days=st.integers(1, 100),
)
def test_the_reference_is_the_plain_maximum_over_its_days(
    scores: list[tuple[int, int]], ahead: int, days: int
) -> None:
    customer = Customer(rules(reference_days=days))
    day = 0
    history = []
    for gap, clv in scores:
        day += gap
        customer.event(day, clv)
        history.append((day, clv))
    today = day + ahead
    found = customer.rule_state.reference(at(today), customer.rules)
    assert (found.clv_minor if found else None) == max(
        (clv for then, clv in history if then >= today - days), default=None
    )


@given(scores=st.lists(st.integers(0, 50_000), max_size=200))
def test_what_is_remembered_is_bounded_by_the_days_of_the_reference(scores: list[int]) -> None:
    customer = Customer(rules(reference_days=10))
    for number, clv in enumerate(scores):
        customer.event(number / 4, clv)
    days = [peak.day for peak in customer.rule_state.peaks]
    clvs = [peak.clv_minor for peak in customer.rule_state.peaks]
    assert all(day >= days[-1] - 10 for day in days)
    assert clvs == sorted(set(clvs), reverse=True)


@given(clvs=st.lists(st.integers(0, 20_000), min_size=1, max_size=5), day=st.integers(5, 100))
def test_where_the_rule_may_not_fire_it_never_does_again_without_an_event(
    clvs: list[int], day: int
) -> None:
    customer = Customer(rules(reference_days=30))
    for number, clv in enumerate(clvs):
        customer.event(number, clv)
    may = [customer.rule_state.may_fire(at(then), customer.rules) for then in range(day, day + 50)]
    assert may == sorted(may, reverse=True)
    if not may[0]:
        assert customer.silence(day, 0) is None


# --- segments, versions, settings ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("clv", "segment"),
    [(9_000, "top"), (8_999, "high"), (7_000, "high"), (4_000, "middle"), (3_999, "low")],
)
def test_a_segment_begins_at_its_percentile(clv: int, segment: str) -> None:
    assert rules().segment(clv) == segment


def test_the_version_of_the_default_policy_is_stable() -> None:
    # A change here changes the id of every warning: then say so in the changelog.
    assert Policy().version == DEFAULT_VERSION
    assert Policy(drop=0.1, reference_days=90).version == DEFAULT_VERSION


@pytest.mark.parametrize(
    "other",
    [
        Policy(drop=0.31),
        Policy(reference_days=91),
        Policy(floor_percentile=71),
        Policy(min_silence_days=20),
        Policy(grid_days=2),
        Policy(refresh_days=None),
        Policy(segment_percentiles=(90, 70, 41)),
        Policy(severity_percentiles=(95, 86)),
        Policy(holdout_share=0.1),
        Policy(reference=ReferenceKind.LAST_ORDER),
        Policy(event_drop=0.31),
        Policy(floor=100),
        Policy(min_orders=2),
        Policy(min_history_days=30),
        Policy(one_time_silence_days=30),
        Policy(churn_percentile=45),
        Policy(late_silence_days=80),
        Policy(cooldown_days=30),
        Policy(swap_spread_days=0),
        Policy(budget_per_day=10),
    ],
)
def test_another_policy_has_another_version(other: Policy) -> None:
    assert other.version != Policy().version


@pytest.mark.parametrize("how", [{"budget_value": Stake.REFERENCE}, {"budget_certainty": 1.0}])
def test_how_a_budget_ranks_is_part_of_a_policy_that_has_one(how: dict[str, Any]) -> None:
    assert Policy(**how).version == Policy().version
    assert Policy(budget_per_day=1, **how).version != Policy(budget_per_day=1).version


def test_a_number_written_in_another_way_is_the_same_policy() -> None:
    assert Policy(floor_percentile=70, holdout_share=0).version == Policy().version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drop", 0),
        ("drop", 1),
        ("drop", 30),
        ("drop", float("nan")),
        ("reference_days", 0),
        ("grid_days", 0),
        ("min_silence_days", 0),
        ("refresh_days", 0),
        ("floor_percentile", 100.5),
        ("floor_percentile", -1),
        ("segment_percentiles", (70, 90, 40)),
        ("segment_percentiles", (101, 90, 40)),
        ("severity_percentiles", (85, 95)),
        ("severity_percentiles", (95, -1)),
        ("holdout_share", 1.5),
        ("holdout_share", -0.1),
        ("reference", "median"),
        ("event_drop", 1),
        ("floor", -1),
        ("floor", float("nan")),
        ("floor", float("inf")),
        ("min_orders", 0),
        ("min_history_days", -1),
        ("one_time_silence_days", 0),
        ("churn_percentile", 101),
        ("late_silence_days", 0),
        ("cooldown_days", -1),
        ("swap_spread_days", -1),
        ("budget_per_day", 0),
        ("budget_value", "fame"),
        ("budget_certainty", -1),
        ("budget_certainty", float("nan")),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_a_remedy(field: str, value: Any) -> None:
    with pytest.raises(PolicyError) as refusal:
        Policy(**{field: value})
    said = str(refusal.value)
    assert said.startswith(f"{field} is {value}; it must be ")
    assert not said.endswith("must be ")


def test_policies_are_values() -> None:
    assert replace(Policy(), drop=0.5) == Policy(drop=0.5)
