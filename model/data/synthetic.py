"""Orders of invented customers whose true lifetimes are known: for tests, and a demo without a log.

The process is the one that BG/NBD and Gamma-Gamma assume (see `model.estimators.bgnbd` for the
papers): purchase rates differ by a gamma distribution, after each purchase a customer drops out
with a probability of their own (beta), and the values of purchases are gamma around a customer's
own mean.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, rfc3339

START_MS: Final = 1_672_531_200_000  # 2023-01-01T00:00:00Z


@dataclass(frozen=True, slots=True)
class Shop:
    """A made-up shop. Customers arrive evenly over `arrival_days`; the log is `days` long.

    `rate_shape` and `rate_days`: gamma of purchases a day; `drop_a`, `drop_b`: beta of dropping out
    after a purchase; `refund_share`: share of orders partly refunded a few days later.
    """

    customers: int = 500
    days: int = 540
    arrival_days: int = 360
    rate_shape: float = 1.2
    rate_days: float = 40.0
    drop_a: float = 1.0
    drop_b: float = 6.0
    mean_order_minor: int = 4_000
    refund_share: float = 0.03
    start_ms: int = START_MS
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Life:
    """What is true of a customer and no log shows; `dropped_out_ms` is None for one still alive."""

    user_id: str
    dropped_out_ms: int | None


@dataclass(frozen=True, slots=True)
class SyntheticLog:
    """Orders in event time, and the lives behind them; the same seed gives the same log."""

    orders: list[Order]
    lives: list[Life]


def generate(shop: Shop) -> SyntheticLog:
    """The log of a shop. Same shop, same log, on any machine with the same NumPy."""
    rng = np.random.default_rng(shop.seed)
    orders: list[Order] = []
    lives = []
    for number in range(shop.customers):
        user_id = f"user-{number:05d}"
        of_customer, dropped_out_ms = _life(rng, shop, user_id)
        orders += of_customer
        lives.append(Life(user_id, dropped_out_ms))
    orders.sort(key=lambda order: (order.ts_ms, order.order_id, order.type))
    return SyntheticLog(orders, lives)


def write_csv(orders: Iterable[Order], path: str | Path) -> None:
    """Writes orders as an order log with every column; amounts with two decimals."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("order_id", "user_id", "ts", "amount", "type"))
        for order in orders:
            amount = f"{order.amount_minor // 100}.{order.amount_minor % 100:02d}"
            row = (
                order.order_id,
                order.user_id,
                rfc3339(order.ts_ms),
                amount,
                order.type.wire,
            )
            rows.writerow(row)


def _life(rng: np.random.Generator, shop: Shop, user_id: str) -> tuple[list[Order], int | None]:
    """One customer's orders and refunds within the log, and when they dropped out."""
    rate_per_day = max(rng.gamma(shop.rate_shape, 1 / shop.rate_days), 1e-4)
    dropout = rng.beta(shop.drop_a, shop.drop_b)
    mean_minor = shop.mean_order_minor * rng.gamma(4.0, 1 / 4.0)
    end_ms = shop.start_ms + shop.days * MS_PER_DAY
    ts_ms = shop.start_ms + int(rng.uniform(0, shop.arrival_days) * MS_PER_DAY)
    orders: list[Order] = []
    while ts_ms < end_ms:
        amount_minor = max(int(mean_minor * rng.gamma(6.0, 1 / 6.0)), 1)
        order_id = f"{user_id}-{len(orders):04d}"
        orders.append(Order(order_id, user_id, ts_ms, amount_minor))
        if rng.random() < shop.refund_share:
            back_ms = ts_ms + int(rng.uniform(1, 14) * MS_PER_DAY)
            if back_ms < end_ms:
                orders.append(
                    Order(order_id, user_id, back_ms, amount_minor // 2, OrderType.REFUND)
                )
        if rng.random() < dropout:
            return orders, ts_ms
        ts_ms += int(rng.exponential(1 / rate_per_day) * MS_PER_DAY) + 1
    return orders, None
