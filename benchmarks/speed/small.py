"""The small version that CI runs: fails where we have become slower against the floor.

    python -m benchmarks speed.small [--turns 6] [--publish]

Method: in each turn the floor and the worker go through 40,000 orders; in every third one, replay,
train and backtest go through a third of CDNOW. The median CPU time of each is set beside the
floor's median, taken in the same minutes, and the ratio is compared with the published one. Worse
by a third: as many turns again, all of them count, and then it fails.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.measured import RESULTS, keep, run, table
from benchmarks.speed.served import FLOOR, PRODUCT, cdnow, model, whole_job
from benchmarks.speed.workloads import burst

ORDERS = 40_000
ONE_OF = 3
WORSE = 4 / 3

FLOOR_US = "floor"

Taken = dict[str, list[float]]


def third(directory: Path) -> tuple[Path, int]:
    """A third of CDNOW's customers, and how many orders they have."""
    path = directory / "orders.csv"
    head, *lines = cdnow().read_text().splitlines(keepends=True)
    kept = [line for line in lines if int(line.split(",")[1].rpartition("-")[2]) % ONE_OF == 0]
    path.write_text("".join([head, *kept]))
    return path, len(kept)


def turn(log: Path, rows: int, taken: Taken, *, short: bool) -> None:
    """One CPU time more of each measure, us an order; `short`: of the whole job alone."""
    some = burst(ORDERS)
    made = log.parent / "model"
    found = {
        FLOOR_US: whole_job(FLOOR, some)["cpu_us"],
        "whole job": whole_job(PRODUCT, some)["cpu_us"],
    }
    commands = {
        "replay": ["streamer", "replay", log, "--model", model(), "--out", log.parent],
        "train": ["model", "train", log, "--out", made],
        "backtest": ["model", "backtest", log, "--model", made / "judged"],
    }
    for name, command in () if short else commands.items():
        found[name] = run(command).cpu_s / rows * 1e6
    for name, us in found.items():
        taken.setdefault(name, []).append(us)
    print(", ".join(f"{name} {us:.1f}" for name, us in found.items()), "us an order", flush=True)


def ratios(taken: Taken) -> dict[str, float]:
    """How many times the floor each measure is."""
    found = {name: statistics.median(each) for name, each in taken.items()}
    floor_us = found.pop(FLOOR_US)
    return {name: us / floor_us for name, us in found.items()}


def worse(taken: Taken, published: dict[str, float]) -> list[str]:
    """What is slower by a third than published."""
    return [name for name, ratio in ratios(taken).items() if ratio > WORSE * published[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument(
        "--publish", action="store_true", help="write what is found to docs/results"
    )
    asked = parser.parse_args()
    taken: Taken = {}
    path = RESULTS / "small.json"
    kept = json.loads(path.read_text())["rows"] if path.is_file() else []
    published = {row["measure"]: row["ratio"] for row in kept}
    with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
        log, count = third(Path(directory))
        for number in range(asked.turns):
            turn(log, count, taken, short=number % 3 > 0)
        if not asked.publish and worse(taken, published):
            print("Worse by a third: as many turns again.", flush=True)
            for number in range(asked.turns):
                turn(log, count, taken, short=number % 3 > 0)
    rows = [
        {
            "measure": name,
            "ratio": round(ratio, 2),
            "published": published.get(name),
        }
        for name, ratio in ratios(taken).items()
    ]
    print(table(rows))
    if asked.publish:
        kept_rows = [{k: v for k, v in row.items() if k != "published"} for row in rows]
        keep("small", f"medians of {asked.turns} turns, CPU beside the floor's", kept_rows)
    elif slow := worse(taken, published):
        sys.exit(f"slower by a third against the floor than published: {', '.join(slow)}")


if __name__ == "__main__":
    main()
