"""Precision and base rate against days counted one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.backtest.purchases import purchase_days, realised_precision
from tests.support.fakes import an_order, every

DAYS = st.lists(st.integers(0, 120), min_size=1, max_size=8, unique=True).map(sorted)


@given(customers=st.lists(DAYS, min_size=1, max_size=4), horizon=st.integers(1, 40))
def test_the_base_rate_is_that_of_all_days_of_active_customers(
    customers: list[list[int]], horizon: int
) -> None:
    purchases = {str(n): days for n, days in enumerate(customers)}
    last_day = 150
    active = gone = 0
    for days in customers:
        for day in range(20, last_day - horizon + 1):
            before = [bought for bought in days if bought < day]
            # The day of an order belongs to neither side.
            if not before or day - before[-1] > horizon or day in days:
                continue
            active += 1
            gone += not any(day < bought <= day + horizon for bought in days)
    found = realised_precision([], purchases, horizon, 20, last_day)
    assert found.base_rate == (gone / active if active else 0.0)
    assert (found.judged, found.precision) == (0, 0.0)


def test_a_warning_is_right_where_no_order_follows_within_the_horizon() -> None:
    purchases = {"ada": [0, 50], "ben": [0]}
    warned = [("ada", 9), ("ada", 10), ("ben", 20), ("ben", 99), ("new", 5)]
    found = realised_precision(warned, purchases, 40, 0, 100)
    # Day 99 cannot be judged: the log ends before its horizon does.
    assert (found.judged, found.gone) == (4, 3)


def test_purchase_days_are_each_counted_once() -> None:
    orders = [an_order("ada", 0.9), *every("ada", 1, 2)]
    assert [len(days) for days in purchase_days(orders).values()] == [2]
