"""An order and a silence in one process, without broker, Redis and parsing: in batches of sizes.

    python -m benchmarks speed.inside [--instructions] [--turns 5]

Method: orders of the burst go through the pipeline of a replay with one partition, so many at a
time; for silences, so many customers buy five times in a month, are silent for another, and are
then judged on each of ten days. CPU us of this process, medians. `--instructions`: counted by
callgrind instead (needs valgrind), the same on a quiet and a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed.environments import ROOT
from benchmarks.speed.measured import keep, middle, table
from benchmarks.speed.served import model
from benchmarks.speed.workloads import DAY_MS, START_MS, Workload, burst
from features.events.orders import Order
from model.artifact import artifact
from streamer.assemble import pipeline_of
from streamer.pipeline.batch import Pipeline
from streamer.records import Message
from streamer.replay.replay import Replay
from streamer.settings import Settings

BATCHES = (10, 100, 1_000, 4_000)
SILENT = (100, 500, 2_000, 10_000)
DAYS = 10
# Callgrind takes fifty times as long.
INSTRUCTIONS = {"orders": (10, 1_000), "silences": (500, 2_000)}


class Moved(NamedTuple):
    """By how much a measure moved over so many orders or silences."""

    by: float
    over: int

    @property
    def each(self) -> float:
        return self.by / self.over


class Nobody:
    """Takes messages, and keeps none."""

    async def publish(self, messages: Sequence[Message]) -> None:
        return


def pipeline() -> Pipeline:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "x:1", "REDIS_URL": "redis://x"}
    settings = Settings.load({**environ, "CLV_MODEL": str(model())})
    return pipeline_of(settings, artifact.load(model()))


def orders_of(workload: Workload) -> list[Order]:
    times = [
        workload.start_ms + number * workload.span_ms // workload.orders
        for number in range(workload.orders)
    ]
    return [
        Order(row.order_id, row.user_id, ts_ms, round(float(row.amount) * 100))
        for row, ts_ms in zip(workload.rows(), times, strict=True)
    ]


async def orders(size: int, mark: Callable[[], float], total: int) -> Moved:
    """What `mark` moved by over how many orders, in batches of a size."""
    fed = orders_of(burst(total))
    replay = Replay(pipeline(), Nobody(), partitions=1)
    await replay.start()
    warm = max(size, total // 5 // size * size)
    for first in range(0, warm, size):
        await replay.feed(fed[first : first + size])
    began = mark()
    for first in range(warm, total, size):
        await replay.feed(fed[first : first + size])
    return Moved(mark() - began, total - warm)


async def silences(size: int, mark: Callable[[], float], total: int) -> Moved:
    """What `mark` moved by over how many silences, so many of them on a day."""
    replay = Replay(pipeline(), Nobody(), partitions=1)
    await replay.start()
    await replay.feed(orders_of(Workload(5 * size, size, 30 * DAY_MS, each=True)))
    # From a month of silence on everybody could be warned of on any day.
    day = START_MS // DAY_MS + 60
    await replay.until(day * DAY_MS + 1)
    before, began = replay.result().counters.instants, mark()
    for passed in range(1, DAYS + 1):
        await replay.until((day + passed) * DAY_MS + 1)
    return Moved(mark() - began, replay.result().counters.instants - before)


WALKS = {"orders": (orders, BATCHES), "silences": (silences, SILENT)}


def measured(turns: int) -> list[dict[str, Any]]:
    rows = []
    for what, (walk, sizes) in WALKS.items():
        for size in sizes:
            total = max(4_000, 5 * size)
            taken = [asyncio.run(walk(size, time.process_time, total)) for _ in range(turns)]
            us = middle(1e6 * moved.each for moved in taken)
            rows.append({"what": what, "batch": size, "us": us})
            print(rows[-1], flush=True)
    return rows


def marked() -> float:
    """Has callgrind write down what it counted since the last time; see `counted`."""
    os.getppid()
    return 0.0


def counted(what: str, size: int) -> float:
    """Instructions each, by callgrind."""
    with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
        out = Path(directory) / "counts"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        command += ["--dump-before=getppid", sys.executable, "-m", __spec__.name]
        environ = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--walk", what, str(size)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"callgrind ended with {done.returncode}: {done.stderr[-2_000:]}")
        dumps = sorted(Path(directory).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        counts = [int(re.findall(r"^totals: (\d+)", d.read_text(), re.M)[0]) for d in dumps]
        number = int(done.stdout.split()[-1])
    return counts[1] / number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--walk", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.walk:
        what, size = asked.walk[0], int(asked.walk[1])
        print(asyncio.run(WALKS[what][0](size, marked, max(2_000, 3 * size))).over)
        return
    if not asked.instructions:
        rows = measured(asked.turns)
        print(table(rows))
        keep("inside", f"medians of {asked.turns}", rows)
        return
    rows = [
        {"what": what, "batch": size, "instructions": round(counted(what, size))}
        for what, sizes in INSTRUCTIONS.items()
        for size in sizes
    ]
    print(table(rows))
    keep("instructions", "callgrind, one run each: the counts hardly differ", rows)


if __name__ == "__main__":
    main()
