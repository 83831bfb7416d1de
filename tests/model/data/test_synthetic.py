"""Generated orders: the same for the same shop, and true to the lives behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from features.events.orders import OrderRules, OrderType
from features.times import MS_PER_DAY
from model.data.synthetic import Shop, generate, write_csv
from model.files.order_log import read_orders

_SHOP = Shop(customers=60, days=200, arrival_days=100)


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    assert generate(_SHOP) == generate(_SHOP)
    assert generate(_SHOP).orders != generate(replace(_SHOP, seed=2)).orders


def test_a_written_log_reads_back_as_it_was(tmp_path: Path) -> None:
    log = generate(_SHOP)
    write_csv(log.orders, tmp_path / "orders.csv")
    assert list(read_orders([tmp_path / "orders.csv"], OrderRules())) == log.orders


def test_nobody_orders_after_dropping_out_or_outside_of_the_log() -> None:
    log = generate(_SHOP)
    gone = {life.user_id: life.dropped_out_ms for life in log.lives}
    assert len(gone) == 60
    assert any(gone.values())
    end_ms = _SHOP.start_ms + _SHOP.days * MS_PER_DAY
    for order in log.orders:
        assert _SHOP.start_ms <= order.ts_ms < end_ms
        last_ms = gone[order.user_id]
        if order.type is OrderType.ORDER and last_ms is not None:
            assert order.ts_ms <= last_ms


def test_orders_come_in_event_time() -> None:
    times = [order.ts_ms for order in generate(_SHOP).orders]
    assert times == sorted(times)
