"""What an order takes as customers, partitions, workers, orders and silences become many.

    python -m benchmarks speed.growth [--orders 100000] [--most 5000000] [AXIS ...]

Axes: customers, partitions, workers, orders_each, due (at once), backlog. Method: CPU of
all workers, one run each. customers: so many are in Redis from an order each, then come orders of
all of them at random. due: so many bought once within half a day; then orders of others come 8 days
later, and all are due. backlog: ten orders of each customer wait, and such later ones behind them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.speed.measured import cpu_s, keep, peak_mb, table
from benchmarks.speed.served import PRODUCT, Stage, stage, until, watched, whole_job
from benchmarks.speed.workloads import DAY_MS, START_MS, Workload, burst

HOUR_MS = DAY_MS // 24
CUSTOMERS = (10_000, 100_000, 1_000_000, 5_000_000)
PARTITIONS = (1, 4, 16, 32)
WORKERS = (1, 2, 4)
ORDERS_EACH = (1, 10, 100, 1_000)
DUE = (0, 1_000, 10_000, 100_000, 1_000_000)
BACKLOG = (100_000,)
DUE_AFTER_DAYS = 8
MOVERS = 400
FIRST = 16


def begun(place: Stage) -> tuple[list[int], int]:
    """Workers that have seen a few orders of each partition, and what Redis uses then."""
    pids = place.start(PRODUCT)
    place.fill(Workload(FIRST, FIRST, HOUR_MS, seed=7, each=True))
    until(place, PRODUCT, FIRST, FIRST)
    return pids, place.used_bytes()


def customers(count: int, orders: int) -> dict[str, Any]:
    with stage() as place:
        pids, empty = begun(place)
        place.fill(Workload(count, count, 6 * HOUR_MS, seed=2, each=True))
        until(place, PRODUCT, FIRST + count, FIRST + count)
        each = (place.used_bytes() - empty) / count
        place.fill(Workload(orders, count, 6 * HOUR_MS, START_MS + 6 * HOUR_MS))
        found = watched(place, PRODUCT, pids, orders, FIRST + count)
    return {**found, "redis_bytes": each}


def partitions(count: int, orders: int) -> dict[str, Any]:
    return whole_job(PRODUCT, burst(orders), CLV_PARTITIONS=count)


def workers(count: int, orders: int) -> dict[str, Any]:
    return whole_job(PRODUCT, burst(orders), workers=count, CLV_PARTITIONS=8)


def orders_each(count: int, orders: int) -> dict[str, Any]:
    """All of a customer's orders are on different days where there are days enough."""
    with stage() as place:
        (pids, empty), shop = begun(place), max(1, orders // count)
        place.fill(Workload(orders, shop, count * HOUR_MS * 6, seed=2, each=True))
        found = watched(place, PRODUCT, pids, orders, FIRST)
        return {**found, "redis_bytes": (place.used_bytes() - empty) / shop}


def late(later_ms: int) -> Workload:
    """Orders of others, enough in each partition to be believed, that let so much time pass."""
    return Workload(MOVERS, MOVERS, HOUR_MS, START_MS + later_ms, seed=9, each=True)


def due(count: int, orders: int) -> dict[str, Any]:
    """CPU an instant: of what orders of others do that let so many become due."""
    with stage() as place:
        (pid,) = place.start(PRODUCT)
        bought = Workload(max(count, 1_000), max(count, 1_000), each=True)
        place.fill(bought)
        until(place, PRODUCT, bought.orders, bought.orders)
        movers = late(DUE_AFTER_DAYS * DAY_MS if count else DAY_MS // 2)
        before, began = cpu_s(pid), time.perf_counter()
        place.fill(movers)
        all_ = bought.orders + movers.orders
        until(place, PRODUCT, all_, all_)
        spent, wall_s = cpu_s(pid) - before, time.perf_counter() - began
        judged, most = asyncio.run(instants(place)), peak_mb(pid)
    us = spent / max(judged, 1) * 1e6
    return {"instants": judged, "cpu_us": us, "cpu_s": spent, "wall_s": wall_s, "peak_mb": most}


def backlog(customers: int, orders: int) -> dict[str, Any]:
    """A worker that starts with ten orders of each customer waiting, and then all of them due."""
    waiting = Workload(10 * customers, customers)
    with stage() as place:
        place.fill(waiting)
        place.fill(late(DUE_AFTER_DAYS * DAY_MS))
        pids = place.start(PRODUCT)
        return watched(place, PRODUCT, pids, waiting.orders + MOVERS, 0)


async def instants(place: Stage) -> int:
    """How many scores came of silences."""
    read = await place.deployment.read("clv-scores")
    return sum(b'"silence"' in record.value for record in read)


AXES: dict[str, tuple[Callable[[int, int], dict[str, Any]], Sequence[int]]] = {
    "customers": (customers, CUSTOMERS),
    "partitions": (partitions, PARTITIONS),
    "workers": (workers, WORKERS),
    "orders_each": (orders_each, ORDERS_EACH),
    "due": (due, DUE),
    "backlog": (backlog, BACKLOG),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--most", type=int, default=CUSTOMERS[-1])
    parser.add_argument("axes", nargs="*", choices=[*AXES, []], default=[])
    asked = parser.parse_args()
    for axis in asked.axes or AXES:
        measure, points = AXES[axis]
        rows = []
        for point in points:
            if axis not in ("customers", "due") or point <= asked.most:
                found = {k: float(f"{v:.3g}") for k, v in measure(point, asked.orders).items()}
                rows.append({axis: point, **found})
                print(rows[-1], flush=True)
        print(table(rows))
        keep(f"growth-{axis}", f"one run each, {asked.orders:,} orders", rows)


if __name__ == "__main__":
    main()
