"""Orders in columns are the orders of a list in event time, wherever they are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from model.files.columns import OrderColumns
from tests.support.fakes import by_time

ORDERS = st.lists(
    st.builds(
        Order,
        order_id=st.text(min_size=1, max_size=5),
        user_id=st.text(min_size=1, max_size=2),
        ts_ms=st.integers(0, 20),
        amount_minor=st.integers(0, 10**11),
        type=st.sampled_from(OrderType),
    ),
    max_size=30,
)
BOUND = st.none() | st.integers(-35, 35)


@given(ORDERS)
def test_columns_are_the_orders_in_event_time(orders: list[Order]) -> None:
    columns = OrderColumns(iter(orders))
    expected = by_time(orders)
    assert list(columns) == expected
    assert [columns[at] for at in range(-len(orders), len(orders))] == expected + expected
    assert len(columns) == len(orders)
    assert bool(columns) is bool(orders)


@given(ORDERS, BOUND, BOUND, st.sampled_from([None, 1, 2, -1]))
def test_a_slice_is_that_of_the_list(
    orders: list[Order], start: int | None, stop: int | None, step: int | None
) -> None:
    part = OrderColumns(orders)[start:stop:step]
    assert list(part) == by_time(orders)[start:stop:step]


@pytest.mark.parametrize("at", [2, -3])
def test_beyond_the_end_there_is_nothing(at: int) -> None:
    columns = OrderColumns([Order("a", "ann", 1, 1), Order("b", "ann", 2, 1)])
    with pytest.raises(IndexError, match=f"order {at} of 2"):
        columns[at]


def test_more_orders_than_are_read_at_once_all_come() -> None:
    orders = [Order(str(n), str(n % 7), n // 3, n) for n in range(20_000)]
    assert list(OrderColumns(reversed(orders))) == by_time(reversed(orders))
