"""Frequency, recency, T and monetary value as Fader, Hardie & Lee define them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns.rfm import rfm
from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState
from features.times import MS_PER_DAY
from tests.support import strategies
from tests.support.fakes import facts_of
from tests.support.strategies import START_MS, USER


def _bought(*days_and_amounts: tuple[float, int]) -> CustomerState:
    return facts_of(
        Order(f"o-{number}", USER, START_MS + round(day * MS_PER_DAY), amount)
        for number, (day, amount) in enumerate(days_and_amounts)
    )


def _rfm(state: CustomerState, on_day: float) -> dict[str, float]:
    got = rfm([(state, START_MS + round(on_day * MS_PER_DAY))])
    return {name: float(getattr(got, name)[0]) for name in got.__slots__}


def test_a_customer_of_three_purchase_days() -> None:
    got = _rfm(_bought((0, 1_000), (10, 3_000), (40, 5_000)), on_day=100)
    assert got == {
        "purchase_days": 3,
        "frequency": 2,
        "recency_days": 40,
        "T_days": 100,
        "monetary_value_minor": 4_000,
        "days_since_last_order": 60,
        "last_purchase_gross_minor": 5_000,
        "gap_mean_days": 20,
        "gap_std_days": 10,
    }


def test_one_order_is_no_repeat() -> None:
    got = _rfm(_bought((0, 1_000)), on_day=30)
    assert (got["frequency"], got["recency_days"], got["T_days"]) == (0, 0, 30)
    assert got["monetary_value_minor"] == 0


def test_orders_of_one_utc_day_are_one_purchase() -> None:
    got = _rfm(_bought((0, 100), (5, 1_000), (5.4, 2_000), (5.9, 3_000)), on_day=10)
    assert got["frequency"] == 1
    assert got["monetary_value_minor"] == 6_000
    assert got["gap_std_days"] == 0


def test_a_customer_without_a_purchase_has_0_everywhere() -> None:
    refund = facts_of([Order("r-1", USER, START_MS, 500, OrderType.REFUND)])
    for state in (EMPTY, refund):
        assert set(_rfm(state, on_day=50).values()) == {0.0}


def test_purchases_that_are_summarised_still_count() -> None:
    state = _bought((0, 1_000), (10, 3_000), (3_000, 5_000), (3_004, 7_000))
    assert state.before.purchase_days == 2
    got = _rfm(state, on_day=3_010)
    assert (got["frequency"], got["recency_days"], got["T_days"]) == (3, 3_004, 3_010)
    assert got["monetary_value_minor"] == 5_000
    assert got["gap_mean_days"] == pytest.approx(3_004 / 3)
    assert got["gap_std_days"] == pytest.approx((5_932_210 + 2 / 3) ** 0.5 / 3**0.5)


def test_a_last_purchase_that_is_summarised_keeps_its_value() -> None:
    state = _bought((0, 1_000), (10, 3_000))
    refund = Order("r-1", USER, START_MS + 3_000 * MS_PER_DAY, 5, OrderType.REFUND)
    later = facts_of([refund], state)
    assert later.buckets != state.buckets
    assert _rfm(later, on_day=3_000)["last_purchase_gross_minor"] == 3_000


def test_equal_gaps_have_no_deviation_however_long() -> None:
    state = _bought(*((i * 333, 1) for i in range(40)))
    assert _rfm(state, on_day=14_000)["gap_std_days"] == 0


@given(strategies.long_histories(), st.integers(0, 2_000))
def test_recency_never_exceeds_t(history: list[Order], later: int) -> None:
    state = facts_of(history)
    got = rfm([(state, state.newest_ms + later * MS_PER_DAY)])
    assert 0 <= got.recency_days[0] <= got.T_days[0]
    assert got.days_since_last_order[0] == got.T_days[0] - got.recency_days[0]
