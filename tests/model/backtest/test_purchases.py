"""On which days customers bought."""

from __future__ import annotations

from model.backtest.purchases import purchase_days
from tests.support.fakes import an_order, every


def test_purchase_days_are_each_counted_once() -> None:
    orders = [an_order("ada", 0.9), *every("ada", 1, 2)]
    assert [len(days) for days in purchase_days(orders).values()] == [2]
