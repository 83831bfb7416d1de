"""A customer's standing, from facts of any age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns.table import FactColumns
from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState
from model.decide.history import PurchaseHistory, Tenure, history_of
from tests.support import strategies
from tests.support.fakes import START_MS, an_order, at, facts_of

DAY_0 = START_MS // 86_400_000


def facts(*orders: Order) -> CustomerState:
    return facts_of(list(orders))


@given(
    days=st.lists(st.integers(0, 3_000), min_size=1, max_size=8),
    refund=st.integers(0, 3_000),
    enough=st.integers(1, 10),
)
def test_a_history_is_that_of_the_days_with_an_order(
    days: list[int], refund: int, enough: int
) -> None:
    orders = [an_order("ada", day + n / 100, id=str(n)) for n, day in enumerate(days)]
    orders.append(an_order("ada", refund + 0.5, 100, OrderType.REFUND, id="refund"))
    distinct = sorted({int(day + n / 100) for n, day in enumerate(days)})
    found = history_of(facts(*sorted(orders, key=lambda order: order.ts_ms)), enough)
    assert found == PurchaseHistory(
        DAY_0 + distinct[0], DAY_0 + distinct[-1], min(len(distinct), enough)
    )


def test_without_an_order_there_is_no_history() -> None:
    assert history_of(EMPTY) is None
    assert history_of(facts(an_order("ada", 1, 100, OrderType.REFUND))) is None


@pytest.mark.parametrize(
    ("history", "as_of_day", "standing"),
    [
        (PurchaseHistory(0, 0, 1), 1_000, Tenure.ONE_TIME),
        (PurchaseHistory(0, 10, 2), 39, Tenure.YOUNG),
        (PurchaseHistory(0, 10, 2), 40, Tenure.ESTABLISHED),
    ],
)
def test_a_standing_is_a_code(history: PurchaseHistory, as_of_day: int, standing: Tenure) -> None:
    assert history.tenure(as_of_day, horizon_days=40) is standing


def test_two_orders_of_one_day_are_one_time() -> None:
    found = history_of(facts(an_order("ada", 1.1), an_order("ada", 1.2)))
    assert found is not None
    assert found.purchase_days == 1
    assert at(1) // 86_400_000 == found.first_day


@given(st.lists(strategies.histories().map(facts_of), max_size=4), st.integers(2, 5))
def test_the_histories_of_many_are_those_of_each(states: list[CustomerState], enough: int) -> None:
    bought = FactColumns.of(states).bought()
    histories = [
        PurchaseHistory(first, last, min(days, enough)) if days else None
        for first, last, days in zip(*(column.tolist() for column in bought), strict=True)
    ]
    assert histories == [history_of(state, enough) for state in states]
