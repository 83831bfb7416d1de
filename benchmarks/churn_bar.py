"""How good P(churn) is, and how well calibrated: docs/evaluation.md's tables.

    python -m benchmarks.churn_bar [LOG ...]

LOG: as `benchmarks.clv_bar` takes them, with its cutoffs; without one, every log in the directory
CLV_BENCH_DATA. At each cutoff the default model is trained on what was known before it, and its
P(no order within 90 days) is judged by the 90 days after it.

`said` is the mean probability, `off by` the mean distance of what was said of a tenth of the
customers from the share of them without an order. Slope and intercept are those of a logistic
regression of what happened on the logarithm of the odds (Cox 1958): 1 and 0 where probabilities
are right; a slope below 1 says that they are too sure of themselves, an intercept other than 0 that
all are too low (above 0) or too high. The last table leaves customers silent from the newest cutoff
on, and counts those whose probability falls on some day all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from benchmarks.clv_bar import (
    HORIZON_DAYS,
    asked_logs,
    cutoffs_of,
    name_of,
    orders_of,
    silent_days,
)
from features.arrays import Floats
from features.events.orders import Order
from features.times import iso_day
from model.data.training_rows import TrainingConfig, population, training_set
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit
from model.evaluate.holdout import predicted
from model.evaluate.metrics import ChurnMetrics, churn_metrics

HEADER = """\
| log | cutoff | customers | without an order | said | ROC AUC | PR AUC | Brier | F1 | off by \
| slope | intercept |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
LEAST = 1e-6


@dataclass(frozen=True)
class Judged:
    """P(churn) at one cutoff."""

    cutoff: str
    metrics: ChurnMetrics
    slope: float
    intercept: float


def line_of(happened: np.ndarray, chance: Floats) -> tuple[float, float]:
    """Slope and intercept of the calibration, by maximum likelihood."""
    p = np.clip(chance, LEAST, 1.0 - LEAST)
    odds = np.log(p / (1.0 - p))

    def loss(line: Floats) -> float:
        linear = line[0] * odds + line[1]
        return float(np.mean(np.logaddexp(0.0, linear) - happened * linear))

    slope, intercept = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(intercept)


def falling(orders: Sequence[Order], model: ClvModel, cutoff: int) -> tuple[int, int, float]:
    """Of customers left silent from the cutoff on: how many, whose daily P(churn) ever falls, and
    by how much at most on a day."""
    daily = silent_days(orders, cutoff, model.churn)
    steps = np.diff(daily, axis=1)
    return len(daily), int((steps < 0).any(axis=1).sum()), float(max(0.0, -steps.min()))


def rows(name: str, judged: Sequence[Judged]) -> Iterator[str]:
    """A row a cutoff."""
    for one in judged:
        m = one.metrics
        yield (
            f"| {name} | {one.cutoff} | {m.customers:,} | {m.base_rate:.1%} "
            f"| {m.mean_predicted or 0.0:.1%} | {m.roc_auc or 0.0:.3f} | {m.pr_auc or 0.0:.3f} "
            f"| {m.brier:.3f} | {m.f1 or 0.0:.3f} ({m.base_f1 or 0.0:.3f}) "
            f"| {m.calibration_error or 0.0:.3f} | {one.slope:.2f} | {one.intercept:+.2f} |"
        )


def tenths(name: str, judged: Sequence[Judged]) -> Iterator[str]:
    """What was said of each tenth, and what happened, a row a cutoff."""
    for one in judged:
        cells = " | ".join(
            f"{tenth.predicted:.0%} / {tenth.actual:.0%}" for tenth in one.metrics.calibration
        )
        yield f"| {name} | {one.cutoff} | {cells} |"


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config, found, silent = TrainingConfig(horizon_days=HORIZON_DAYS), {}, []
    for path in asked_logs():
        name = name_of(path)
        print(name, file=sys.stderr, flush=True)
        orders, judged = orders_of(path), []
        for cutoff in cutoffs_of(name, orders):
            model = fit(training_set(orders, config, cutoff), config, population(orders, cutoff))
            holdout = predicted(orders, model, cutoff, HORIZON_DAYS)
            line = line_of(holdout.churned, holdout.chance)
            metrics = churn_metrics(holdout.churned, holdout.chance)
            judged.append(Judged(iso_day(cutoff), metrics, *line))
        found[name] = judged
        silent.append((name, *falling(orders, model, cutoff)))
    print(HEADER)
    for name, judged in found.items():
        print(*rows(name, judged), sep="\n")
    print(f"\n| log | cutoff | {' | '.join(map(str, range(1, 11)))} |")
    print("| --- " * 12 + "|")
    for name, judged in found.items():
        print(*tenths(name, judged), sep="\n")
    print("\n| log | silent customers | whose P(churn) falls on some day | by at most |")
    print("| --- | ---: | ---: | ---: |")
    for name, customers, falls, most in silent:
        print(f"| {name} | {customers:,} | {falls:,} | {most:.3f} |")


if __name__ == "__main__":
    main()
