"""What taking over another model takes from the worker's process.

    python -m benchmarks.reload

A reloader tries, loads and takes over models in turn, while a probe in the event loop wakes every
2 ms and notes how late it is. CPU is that of the process without the loop's own thread, and so
hardly depends on what else the machine does; lateness is wall time, and does.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from features.events.orders import Order, OrderRules
from features.times import day_of
from model.artifact import artifact
from model.artifact.artifact import save
from model.artifact.manifest import ManifestFields
from model.artifact.registry import promote, publish
from model.data.synthetic import Shop, generate
from model.data.training_rows import TrainingConfig, population, training_set
from model.decide.policy import Policy
from model.estimators.kinds import fit
from model.evaluate.holdout import score_quantiles
from model.judge.judge import Judge
from streamer.metrics import Metrics
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.messages import Writer
from streamer.records import Topics
from streamer.worker.reload import Reloader

SWAPS: Final = 3
WAKE_S: Final = 0.002
KINDS: Final = ("blend", "boosting", "forest")


def main() -> None:
    log = generate(Shop(customers=3_000, days=500, arrival_days=500, seed=3)).orders
    print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| model | file | CPU of the worker | loop late: p99, worst | from found to in use |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory) / "models"
            versions = [version(log, kind, days, root) for days in (90, 60)]
            asyncio.run(measured(kind, root, versions))


def version(log: Sequence[Order], kind: str, days: int, root: Path) -> str:
    """Publishes a model of that kind and horizon."""
    cutoff = day_of(log[0].ts_ms) + 400
    config = TrainingConfig(horizon_days=days, kind=kind)
    known = population(log, cutoff)
    model = fit(training_set(log, config, cutoff), config, known)
    fields = ManifestFields(
        snapshot_every_days=30,
        trained_from="2023-01-01",
        cutoff="2024-02-05",
        training_rows=1,
        training_customers=1,
        score_quantiles=score_quantiles(model.clv(known)),
        canary_features=known[:8].tolist(),
        metrics={},
    )
    path = root.parent / str(days)
    save(path, model, fields)
    return publish(root, path)


async def measured(kind: str, root: Path, versions: Sequence[str]) -> None:
    promote(root, versions[0])
    reloader = Reloader(root, pipeline_at, lambda pipeline: None, Metrics())
    await reloader.start()
    spent, late, took = [], [], []
    for number in range(SWAPS):
        promote(root, versions[(number + 1) % 2])
        lates: list[float] = []
        probe = asyncio.create_task(watch(lates))
        began, cpu = time.perf_counter(), time.process_time() - time.thread_time()
        await reloader.look()
        took.append(time.perf_counter() - began)
        spent.append(time.process_time() - time.thread_time() - cpu)
        probe.cancel()
        late += lates
    size = sum(file.stat().st_size for file in (root / versions[0]).iterdir()) / 1e6
    p99, worst = (float(np.percentile(late, p)) * 1000 for p in (99, 100))
    print(
        f"| {kind} | {size:.1f} MB | {np.median(spent) * 1000:.0f} ms | {p99:.0f}, {worst:.0f} ms"
        f" | {np.median(took):.1f} s |",
        flush=True,
    )


async def watch(lates: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(WAKE_S)
        lates.append(time.perf_counter() - began - WAKE_S)


def pipeline_at(path: Path) -> Pipeline:
    """As the worker makes it: loaded and checked in a thread."""
    scorer, topics = artifact.load(path).scorer(), Topics()
    rules = scorer.rules(Policy())
    return Pipeline(
        judge=Judge(scorer, rules),
        writer=Writer.of(scorer, rules, topics),
        order_rules=OrderRules(),
        topics=topics,
        allowed_lateness_ms=3_600_000,
    )


if __name__ == "__main__":
    main()
