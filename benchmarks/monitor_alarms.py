"""How often monitoring rings where nothing has changed, and where something has.

    python -m benchmarks.monitor_alarms
    CLV_BENCH_DATA=data python -m benchmarks.monitor_alarms

Three tables:

1. Chance: windows of n customers drawn from the reference itself, with replacement.
2. Steady shops: made up, with customers arriving evenly for years, so that weeks differ as weeks
   do and nothing else changes. Every week after the cutoff is looked at as `model monitor`
   does, and a sample of who is due as the worker does.
3. Real logs, where CLV_BENCH_DATA names a directory with them: the weeks after a cutoff.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from features.events.orders import Order, OrderRules
from features.times import day_of, iso_day
from model.backtest.run import trained
from model.data.synthetic import Shop, generate
from model.data.training_rows import TrainingConfig
from model.decide.scoring import Scorer
from model.files.order_log import read_orders
from model.monitor.drift import MATERIAL_PSI, base, buyers, drifts, rows_of
from model.monitor.result import DriftReference, MonitoredWeek
from model.monitor.weekly import (
    KnownCustomers,
    of_everybody,
    of_the_due,
    rate_of,
    reference,
    seen,
    week,
    weeks,
)

SIZES: Final = (50, 100, 200, 500, 2_000)
DRAWS: Final = 300
SEEDS: Final = range(1, 5)
LOGS: Final = {"online_retail_ii": ("2011-05-13", "2011-07-12"), "cdnow": ("1997-12-02",)}


def main() -> None:
    cases = [steady(seed) for seed in SEEDS]
    chance(*cases[0])
    shops(cases)
    if "CLV_BENCH_DATA" in os.environ:
        real(Path(os.environ["CLV_BENCH_DATA"]))


Case = tuple[list[Order], Scorer, DriftReference, int]


def steady(seed: int) -> Case:
    """A shop in which nothing changes, and a model of its thirtieth month."""
    log = generate(Shop(customers=4_000, days=1_200, arrival_days=1_200, seed=seed)).orders
    cutoff = day_of(log[0].ts_ms) + 900
    return known_at(log, cutoff)


def known_at(log: list[Order], cutoff: int) -> Case:
    before = [order for order in log if day_of(order.ts_ms) < cutoff]
    scorer = trained(before, cutoff, TrainingConfig())
    known = reference(before, scorer, cutoff)
    assert known is not None
    return log, scorer, known, cutoff


def chance(log: Sequence[Order], scorer: Scorer, known: DriftReference, cutoff: int) -> None:
    """Windows drawn from those of the reference itself."""
    rng = np.random.default_rng(1)
    rows, scores = [], []
    for then in seen(log, range(cutoff - 51 * 7, cutoff + 1, 7)):
        facts = then.facts()
        found = buyers(facts, then.day)
        rows.append(rows_of(facts, found))
        scores.append(rate_of(scorer, then.users)(rows[-1], found.place))
    X, clv = np.concatenate(rows), np.concatenate(scores) / 100
    print("Share of windows that ring, drawn from the reference\n")
    print("| customers | PSI from .1 | .2 | .25 | ours |")
    print("| --- | --- | --- | --- | --- |")
    for size in SIZES:
        found = []
        for _ in range(DRAWS):
            drawn = rng.integers(len(X), size=size)
            found.append(drifts(X[drawn], clv[drawn], known))
        ringing = [d for d in found[0] if d.threshold is not None]
        cells = [
            share(any(d.psi >= limit for d in one if d.threshold is not None) for one in found)
            for limit in (0.1, 0.2, MATERIAL_PSI)
        ]
        cells.append(share(any(d.alarm for d in one) for one in found))
        print(f"| {size:,} | " + " | ".join(cells) + " |")
    print(f"\n{len(ringing)} features that may ring; {DRAWS} draws of each size.\n")


def shops(cases: Iterable[Case]) -> None:
    """Weeks of steady shops, as the command and as the worker look at them."""
    print("Weeks of steady shops that ring\n")
    print("| look | weeks | any alarm | a feature or the CLV | level |")
    print("| --- | --- | --- | --- | --- |")
    looks: dict[str, Callable[[Case], list[MonitoredWeek]]] = {
        "a log (`monitor`)": whole_log,
        "a sample of who is due (worker)": sampled,
        "the same with orders dearer by half": dearer,
        "the same with a quarter fewer orders": fewer,
        "the same with half the orders": halved,
    }
    kept = list(cases)
    for name, look in looks.items():
        found = [one for case in kept for one in look(case)]
        cells = [
            share(bool(one.alarms) for one in found),
            share(any(d.alarm for d in one.drifts) for one in found),
            share(any(b.alarm for b in one.biases) for one in found),
        ]
        print(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    n = [one.customers for case in kept for one in whole_log(case)]
    print(f"\nCustomers who bought in a week: {min(n)} to {max(n)}.\n")


def whole_log(case: Case) -> list[MonitoredWeek]:
    log, scorer, known, cutoff = case
    return list(weeks(log, scorer, of_everybody(known), cutoff))


def sampled(case: Case) -> list[MonitoredWeek]:
    log, scorer, known, cutoff = case
    last = day_of(log[-1].ts_ms)
    return [
        week(due(then, scorer), scorer, of_the_due(known, scorer.horizon_days))
        for then in seen(log, range(cutoff + 7, last + 1, 7))
    ]


def due(then: KnownCustomers, scorer: Scorer) -> KnownCustomers:
    """Who still is due for a score at the instant."""
    places = base(then.facts(), then.day, scorer.horizon_days).place.tolist()
    return KnownCustomers(
        then.day, [then.states[p] for p in places], [then.users[p] for p in places]
    )


def dearer(case: Case) -> list[MonitoredWeek]:
    return changed(case, lambda o: Order(o.order_id, o.user_id, o.ts_ms, o.amount_minor * 3 // 2))


def fewer(case: Case) -> list[MonitoredWeek]:
    return changed(case, lambda o: o if hash_of(o) % 4 else None)


def halved(case: Case) -> list[MonitoredWeek]:
    return changed(case, lambda o: o if hash_of(o) % 2 else None)


def hash_of(order: Order) -> int:
    return sum(number * 31 + byte for number, byte in enumerate(order.order_id.encode()))


def changed(case: Case, change: Callable[[Order], Order | None]) -> list[MonitoredWeek]:
    """The weeks from the fifth on, when the shop changed at the cutoff."""
    log, scorer, known, cutoff = case
    after = [change(o) if day_of(o.ts_ms) >= cutoff else o for o in log]
    kept = [o for o in after if o is not None]
    return list(weeks(kept, scorer, of_everybody(known), cutoff))[5:]


def real(directory: Path) -> None:
    print("Weeks of real logs\n")
    print("| log | trained at | weeks | level rings | features ring | levels of the last week |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, days in LOGS.items():
        path = directory / f"{name}.csv.gz"
        if not path.exists():
            print(f"{path} is not there", file=sys.stderr)
            continue
        orders = [row for row in read_orders([path], OrderRules()) if type(row) is Order]
        log = sorted(orders, key=lambda order: order.ts_ms)
        for date in days:
            cutoff = next(
                day for day in range(day_of(log[0].ts_ms), day_of(log[-1].ts_ms))
                if iso_day(day) == date
            )  # fmt: skip
            found = whole_log(known_at(log, cutoff))
            level = [one.end for one in found if any(b.alarm for b in one.biases)]
            drift = [one.end for one in found if any(d.alarm for d in one.drifts)]
            last = ", ".join(f"{b.days} d {b.bias:.2f} ({b.typical:.2f})" for b in found[-1].biases)
            cells = (name, date, str(len(found)), spoken(level), spoken(drift), last)
            print("| " + " | ".join(cells) + " |")


def spoken(ends: Sequence[str]) -> str:
    return f"{len(ends)}, the first {ends[0]}" if ends else "none"


def share(rung: Iterable[bool]) -> str:
    found = list(rung)
    return f"{np.mean(found):.1%}"


if __name__ == "__main__":
    main()
