"""Made-up shops of other kinds than BG/NBD's: what their customers buy by is a rhythm, a season, or
how the shop grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from features.events.orders import Order
from features.times import MS_PER_DAY
from model.data.synthetic import START_MS


def _order(user: int, number: int, day: float, amount_minor: float) -> Order:
    ts_ms = START_MS + round(day * MS_PER_DAY)
    return Order(f"{user:05d}-{number:04d}", f"user-{user:05d}", ts_ms, max(round(amount_minor), 1))


def _rhythm(
    rng: np.random.Generator, since: float, days: int, gap: float, spread: float, leave: float
) -> Iterator[float]:
    """Days of orders a gap apart, give or take a share; after each somebody leaves or not."""
    day = since
    while day < days:
        yield day
        if rng.random() < leave:
            return
        day += gap * float(np.exp(spread * rng.standard_normal()))


def _subscription(rng: np.random.Generator, days: int) -> Iterator[float]:
    return _rhythm(rng, rng.uniform(0, 0.7 * days), days, 30.0, 0.05, 0.07)


def _grocery(rng: np.random.Generator, days: int) -> Iterator[float]:
    gap = float(rng.gamma(4.0, 2.0)) + 2.0
    return _rhythm(rng, rng.uniform(0, 0.7 * days), days, gap, 0.5, 0.02)


def _gifts(rng: np.random.Generator, days: int) -> Iterator[float]:
    """Orders before two feasts of the year, and now and then one between."""
    since, leave = rng.uniform(0, 0.7 * days), 0.25
    for year in range(days // 365 + 1):
        for feast in (128, 350):
            day = 365 * year + feast - float(rng.gamma(2.0, 8.0))
            if since <= day < days:
                yield day
                if rng.random() < 0.2 and day + 60 < days:
                    yield day + float(rng.uniform(20, 60))
                if rng.random() < leave:
                    return


def _growing(rng: np.random.Generator, days: int) -> Iterator[float]:
    since = days * (1.0 + np.log(rng.uniform(0.05, 1.0)) / 3.0)
    return _rhythm(rng, since, days, float(rng.gamma(3.0, 10.0)) + 2.0, 0.6, 0.12)


def _shrinking(rng: np.random.Generator, days: int) -> Iterator[float]:
    since = -days * np.log(rng.uniform(0.05, 1.0)) / 6.0
    return _rhythm(rng, since, days, float(rng.gamma(3.0, 10.0)) + 2.0, 0.6, 0.06)


KINDS: dict[str, Callable[[np.random.Generator, int], Iterator[float]]] = {
    "subscription": _subscription,
    "grocery": _grocery,
    "gifts": _gifts,
    "growing": _growing,
    "shrinking": _shrinking,
}


def orders_of(kind: str, customers: int, days: int, seed: int = 1) -> list[Order]:
    """The log of a shop of a kind, in event time; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    found: list[Order] = []
    for user in range(customers):
        mean = float(rng.gamma(2.0, 2_000.0))
        for number, day in enumerate(sorted(KINDS[kind](rng, days))):
            found.append(_order(user, number, day, mean * float(rng.gamma(4.0, 0.25))))
    return sorted(found, key=lambda order: (order.ts_ms, order.order_id))
