"""The whole job, Kafka to durable, beside Faust, Quix Streams, Bytewax and a floor by hand.

    python -m benchmarks speed.whole [--turns 5] [--rival-turns N] [--orders 200000] [--only NAME]

Method: each turn runs every way once, one after the other, on a fresh embedded broker and Redis,
with the same orders already in 4 partitions: ten of each customer within half a day. Slow ways get
fewer. CPU is that of the process, from a tenth of the orders on until the last has its score out
and its state written; the ratio to ours is taken within a turn. Last, CDNOW goes through ours:
69,659 orders and ten times as many silences.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.speed.measured import keep, middle, table, update
from benchmarks.speed.served import FLOOR, PRODUCT, RIVAL_WAYS, cdnow, whole_job
from benchmarks.speed.workloads import Workload, burst

METHOD = "medians of {turns} turns (others {others}); fresh servers each, 4 partitions, one worker"
CDNOW_ORDERS = 69_659


def turn(ways: list[Any], orders: int) -> dict[str, dict[str, float]]:
    """What each way took, one after the other; `ratio` to ours."""
    found = {}
    for way in ways:
        found[way.name] = whole_job(way, burst(way.orders * orders // PRODUCT.orders))
        print(f"{way.name}: {found[way.name]['cpu_us']:.1f} us an order", flush=True)
    ours = found[PRODUCT.name]["cpu_us"]
    for one in found.values():
        one["ratio"] = one["cpu_us"] / ours
    return found


def row(name: str, taken: list[dict[str, float]]) -> dict[str, Any]:
    of = {key: middle(one[key] for one in taken) for key in taken[0]}
    return {
        "way": name,
        "orders": int(taken[0]["orders"]),
        **{key: of[key] for key in ("cpu_us", "redis_us", "broker_us", "a_second", "peak_mb")},
        "times_ours": of["ratio"],
        "each": [round(one["cpu_us"], 1) for one in taken],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--orders", type=int, default=PRODUCT.orders)
    parser.add_argument("--rival-turns", type=int, help="in so many of the turns; default: all")
    parser.add_argument("--only", nargs="*", default=[], help="rivals measured anew")
    asked = parser.parse_args()
    ways = [PRODUCT, FLOOR]
    ways += [w for w in RIVAL_WAYS if not asked.only or any(o in w.name for o in asked.only)]
    turns = []
    for number in range(asked.turns):
        print(f"turn {number + 1} of {asked.turns}", flush=True)
        all_ = asked.rival_turns is None or number < asked.rival_turns
        turns.append(turn(ways if all_ else ways[:2], asked.orders))
    ways = [way for way in ways if any(way.name in one for one in turns)]
    rows = [row(way.name, [one[way.name] for one in turns if way.name in one]) for way in ways]
    print(table([{k: v for k, v in one.items() if k != "each"} for one in rows]))
    if asked.only:
        update("whole", "way", rows[2:])
        return
    others = asked.turns if asked.rival_turns is None else asked.rival_turns
    keep("whole", METHOD.format(turns=asked.turns, others=others), rows)
    clock = Workload(orders=CDNOW_ORDERS, file=str(cdnow()))
    taken = [{**whole_job(PRODUCT, clock), "ratio": 1.0} for _ in range(max(1, asked.turns // 3))]
    update("whole", "way", [row("clv-streamer, CDNOW", taken)])


if __name__ == "__main__":
    main()
