"""How long a score and a warning take, at 10, 50 and 90 % of what the machine can do.

    python -m benchmarks speed.latency [--seconds 20] [--rate ORDERS_A_SECOND ...]

Method: the capacity is what a backlog is worked off at, median of three. Then orders come at even
steps, one in twenty followed half a second later by its refund, which warns; a consumer takes the
time from when the driver hands the order (the refund) to its client until the score (the warning)
is there. Apache Kafka (`make test-kafka` says what it needs), Redis, worker and driver share the
machine. The embedded broker is none for this: it takes a client's small batches ever more slowly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import numpy as np

from benchmarks.speed.measured import cpu_s, keep, middle, table
from benchmarks.speed.served import PRODUCT, stage, whole_job
from benchmarks.speed.workloads import burst
from tests.support.servers.cluster import ApacheKafka

SHARES = (0.1, 0.5, 0.9)
PERCENTILES = (50, 90, 99)


def at_rate(rate: float, seconds: float) -> dict[str, Any]:
    """Milliseconds to scores and warnings at so many orders a second."""
    with stage(ApacheKafka) as place:
        place.start(PRODUCT)
        worker = place.deployment.workers[0]
        # An order before, so that the worker has its partitions and is warm.
        place.fill(burst(1_000))
        asyncio.run(place.deployment.settled(1_000, 300.0))
        before = cpu_s(worker.pid)
        out, _ = place.driven("latency", rate, seconds).communicate()
        found = json.loads(out)
        spent = cpu_s(worker.pid) - before
    row: dict[str, Any] = {"a_second": round(rate), "orders": found["orders"]}
    for name in ("scores", "warnings"):
        took = found[name]
        for percentile in PERCENTILES:
            ms = float(np.percentile(took, percentile)) if took else None
            row[f"{name}_p{percentile}"] = ms and float(f"{ms:.3g}")
    row["warned"] = len(found["warnings"])
    row["unanswered"] = found["orders"] - len(found["scores"])
    row["cpu_s"] = round(spent, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, nargs="*", default=[])
    asked = parser.parse_args()
    some, capacity = burst(100_000), 0.0
    if not asked.rate:
        jobs = (whole_job(PRODUCT, some, broker=ApacheKafka) for _ in range(3))
        capacity = middle(job["a_second"] for job in jobs)
        print(f"capacity: {capacity:,.0f} orders a second", flush=True)
    rows = []
    for share, rate in [(0.0, rate) for rate in asked.rate] or [(s, s * capacity) for s in SHARES]:
        rows.append({"share": share, **at_rate(rate, asked.seconds)})
        print(rows[-1], flush=True)
    print(table(rows))
    if capacity:
        method = f"{asked.seconds:g} s each, after 3 s; capacity {capacity:,.0f} orders a second"
        keep("latency", method, rows, capacity=capacity)


if __name__ == "__main__":
    main()
