"""On which days customers bought."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, day_of
from model.backtest.panel import NEVER
from model.backtest.purchases import Purchases, purchase_days
from tests.support.fakes import an_order, every

_DAY_0 = day_of(an_order("ada", 0).ts_ms)
_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 80), st.sampled_from("abc"), st.integers(0, 9), st.sampled_from(OrderType)
    )
)


def test_purchase_days_are_each_counted_once() -> None:
    orders = [an_order("ada", 0.9), *every("ada", 1, 2)]
    assert [len(days) for days in purchase_days(orders).values()] == [2]


@given(events=_EVENTS)
def test_purchases_are_those_counted_one_by_one(
    events: list[tuple[int, str, int, OrderType]],
) -> None:
    orders = [
        Order(f"o{number}", user, (4 * _DAY_0 + quarter) * MS_PER_DAY // 4, 100, kind)
        for quarter, user, number, kind in sorted(events, key=lambda event: event[0])
    ]
    back = {(o.user_id, o.order_id) for o in orders if o.type is OrderType.CANCELLATION}
    days: dict[str, list[int]] = {}
    for order in orders:
        if order.type is OrderType.ORDER and (order.user_id, order.order_id) not in back:
            of_user = days.setdefault(order.user_id, [])
            if day_of(order.ts_ms) not in of_user:
                of_user.append(day_of(order.ts_ms))
    bought = Purchases(orders)
    assert bought.users == list(days)
    assert purchase_days(orders) == days
    assert bought.numbers(["nobody", *days]).tolist() == [-1, *range(len(days))]
    for day in range(_DAY_0 - 1, _DAY_0 + 22):
        users = [user for user in days if day in days[user]]
        assert [bought.users[number] for number in bought.buyers(day)] == users
        each, at = np.arange(len(days)), np.full(len(days), day)
        for number, of_user in enumerate(days.values()):
            known = [one for one in of_user if one <= day]
            later = [one for one in of_user if one > day]
            gaps = [after - before for before, after in pairwise(known)]
            assert bought.following(each, at)[number] == min(later, default=NEVER)
            assert bought.number(each, at)[number] == len(known)
            assert bought.median_gap(each, at)[number] == (median(gaps) if gaps else 0)
