"""The rule, decision by decision: when a silence warns, when it does not, and what re-arms it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import OrderType
from features.facts.ledger import id_hash
from features.times import MS_PER_DAY
from model.decide.history import PurchaseHistory
from model.decide.policy import Policy, Rules
from model.decide.rule import RuleEvent, deferred, is_down_by, on_event, on_instant, rebased
from model.decide.rule_state import NEW, Peak, RaisedWarning, RuleState, Trigger
from tests.support.fakes import START_MS, at

DAY_0 = START_MS // MS_PER_DAY


def rules(
    floor_minor: int = 7_000, horizon_days: int = 40, threshold: float | None = None, **policy: Any
) -> Rules:
    """The rule; without a threshold it warns from half of the horizon on."""
    return Rules(Policy(**policy), horizon_days, floor_minor, (), (), threshold)


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
        """The value drop that the event is told of as, if it is one."""
        if type is OrderType.ORDER and not void:
            self.purchase_days += not self.purchase_days or int(day) > self.last_order_day
            self.last_order_day = int(day)
            if self.first_order_day is None:
                self.first_order_day = int(day)
        name = id or f"order {day}"
        known, self.ids = (name, type) in self.ids, self.ids | {(name, type)}
        event = RuleEvent(type, at(day), id_hash(name), late, void, known)
        verdict = on_event(self.rule_state, event, at(day), clv, before, self.history, self.rules)
        assert verdict.raised is None
        self.rule_state, self.answered = verdict.rule_state, verdict.answered
        return verdict.value_drop

    def silence(self, day: int, clv: int, index: float = 9.0) -> RaisedWarning | None:
        """The warning that a midnight of the silence raises."""
        assert self.history is not None
        sure = self.rules.is_sure(day - self.last_order_day, index)
        verdict = on_instant(self.rule_state, at(day), clv, sure, self.history, self.rules)
        self.rule_state = verdict.rule_state
        return verdict.raised

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


def test_silence_fires_on_the_first_day_that_is_silent_enough() -> None:
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


def test_nobody_is_warned_of_past_the_horizon() -> None:
    assert bought().silence(40, 0)
    assert bought().silence(41, 0) is None


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
    customer.event(22, 500, 1_000, OrderType.REFUND)
    assert not customer.rule_state.armed
    assert customer.silence(30, 0) is None


def test_an_instant_that_decides_nothing_leaves_the_very_same_rule_state() -> None:
    customer = bought()
    before = customer.rule_state
    for day, clv in ((19, 0), (20, 10_000), (41, 0)):
        customer.silence(day, clv)
    assert customer.rule_state is before


# --- events --------------------------------------------------------------------------------------


def test_an_order_that_lowers_the_clv_itself_is_a_value_drop() -> None:
    raised = bought().event(1, 7_000, before=10_000)
    assert raised is not None
    assert (raised.trigger, raised.as_of_ms, raised.episode_ms) == (Trigger.ORDER, at(1), at(1))


@pytest.mark.parametrize("before", [None, 5_000, 7_000])
def test_an_order_after_a_fall_fires_nothing(before: int | None) -> None:
    assert bought().event(1, 7_000, before) is None


@pytest.mark.parametrize("type", [OrderType.REFUND, OrderType.CANCELLATION])
def test_what_takes_money_back_is_a_value_drop_by_refund(type: OrderType) -> None:
    raised = bought().event(1, 2_000, 10_000, type)
    assert raised is not None
    assert (raised.trigger, raised.as_of_ms, raised.episode_ms) == (Trigger.REFUND, at(1), at(1))


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


# --- another model comes in a silence ------------------------------------------------------------


def swapped(**policy: Any) -> Customer:
    """A customer whose silence has been judged for 5 days when another model comes."""
    customer = bought(**policy)
    for day in range(20, 25):
        assert customer.silence(day, 10_000) is None
    customer.rule_state = rebased(customer.rule_state, "new", 10_000, 10_000)
    return customer


def test_what_a_new_model_brings_is_spread_over_days() -> None:
    customer = swapped()
    wait = 1 + int.from_bytes(id_hash("order 0")) % customer.rules.swap_spread_days
    assert [day for day in range(25, 41) if customer.silence(day, 0)] == [25 + wait]


def test_a_new_model_delays_nothing_that_it_does_not_bring() -> None:
    customer = swapped()
    assert customer.silence(25, 10_000) is None
    assert customer.silence(26, 0)


def test_a_silence_that_begins_to_count_after_the_swap_fires_at_once() -> None:
    customer = bought()
    customer.rule_state = rebased(customer.rule_state, "new", 10_000, 10_000)
    assert customer.silence(20, 0)


def test_a_new_model_moves_the_floor_with_the_reference() -> None:
    customer = bought(clv=7_000)
    customer.rule_state = rebased(customer.rule_state, "new", 7_000, 3_500)
    assert customer.silence(20, 0)


# --- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clv", "fires"), [(10_001, False), (10_000, False), (9_999, True), (0, True)]
)
def test_a_silence_warns_only_where_the_clv_is_below_its_reference(clv: int, fires: bool) -> None:
    assert bool(bought().silence(20, clv)) is fires


@pytest.mark.parametrize(
    ("horizon", "threshold", "index", "expected"),
    [
        (40, None, -9.0, 20),  # nothing learnt: half of the horizon
        (41, None, -9.0, 21),
        (1, None, -9.0, 1),
        (40, 1.0, 1.0, 14),  # a third of it, rounded up
        (90, 1.0, 1.0, 30),
        (40, 1.0, 0.999999, 34),  # five sixths, whatever the index
        (90, 1.0, -9.0, 75),
        (14, 1.0, 2.0, 5),
        (365, 1.0, 2.0, 122),
        (730, 1.0, -9.0, 609),
        (1, 1.0, -9.0, 1),
    ],
)
def test_the_first_day_of_a_warning_is_a_share_of_the_horizon(
    horizon: int, threshold: float | None, index: float, expected: int
) -> None:
    customer = Customer(rules(horizon_days=horizon, threshold=threshold))
    customer.event(0, 10_000)
    days = [day for day in range(1, 2 * horizon + 2) if customer.silence(day, 0, index)]
    assert days == [expected]


def test_a_silence_waits_for_its_index_and_then_warns_once() -> None:
    customer = Customer(rules(threshold=1.0))
    customer.event(0, 10_000)
    assert [day for day in range(1, 41) if customer.silence(day, 0, index=day / 20)] == [20]


def test_who_bought_on_too_few_days_is_left_out() -> None:
    customer = bought(min_orders=2)
    assert [day for day in range(1, 41) if customer.silence(day, 0)] == []
    customer.event(50, 10_000)
    assert [day for day in range(51, 91) if customer.silence(day, 0)] == [70]


# --- the reference -------------------------------------------------------------------------------


@given(
    scores=st.lists(
        st.tuples(st.integers(0, 25), st.integers(0, 50_000), st.booleans()), max_size=30
    ),
    horizon=st.integers(1, 60),
)
def test_the_reference_is_the_highest_of_the_horizon_before_the_last_order(
    scores: list[tuple[int, int, bool]], horizon: int
) -> None:
    customer = Customer(rules(horizon_days=horizon))
    customer.event(0, 100)
    day, last, history = 0, 0, [(0, 100)]
    for gap, clv, refund in scores:
        day += gap
        customer.event(day, clv, type=OrderType.REFUND if refund else OrderType.ORDER)
        last = last if refund else day
        history.append((day, clv))
    found = customer.rule_state.reference
    assert found is not None
    assert found.clv_minor == max(clv for then, clv in history if then >= last - horizon)
    clvs = [peak.clv_minor for peak in customer.rule_state.peaks]
    assert clvs == sorted(set(clvs), reverse=True)


def test_the_reference_does_not_age_in_a_silence() -> None:
    customer = Customer(rules(horizon_days=365))
    customer.event(0, 20_000)
    customer.event(300, 10_000)
    raised = customer.silence(300 + 183, 15_000)
    assert raised is not None
    assert raised.reference == Peak(DAY_0, 20_000)


# --- value drops ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("clv", "told"), [(7_001, False), (7_000, True), (0, True)])
def test_an_event_is_a_value_drop_from_three_tenths_of_the_reference_on(
    clv: int, told: bool
) -> None:
    assert bool(bought().event(1, clv, 10_000)) is told


def test_a_value_drop_never_disarms_and_every_one_is_told() -> None:
    customer = bought()
    assert customer.event(1, 5_000, 10_000)
    assert customer.event(2, 1_000, 5_000, OrderType.REFUND)
    assert customer.rule_state.armed
    assert [day for day in range(3, 42) if customer.silence(day, 0)] == [21]


def test_a_value_drop_needs_a_reference_worth_it_and_orders_enough() -> None:
    assert bought(clv=6_999).event(1, 0, 6_999, OrderType.REFUND) is None
    assert bought(min_orders=2).event(1, 0, 10_000, OrderType.REFUND) is None


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
    customer = Customer(rules(floor_minor=2))
    for day, clv in enumerate(clvs):
        customer.event(day, clv)
    halved = Customer(
        rules(floor_minor=1),
        rebased(customer.rule_state, "new", clvs[-1], clvs[-1] // 2),
        customer.last_order_day,
        customer.first_order_day,
        customer.purchase_days,
    )
    if clvs[-1]:  # a score of 0 tells nothing of the new scale
        assert [peak.clv_minor * 2 for peak in halved.rule_state.peaks] == [
            peak.clv_minor for peak in customer.rule_state.peaks
        ]
        day = customer.last_order_day + 20
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
