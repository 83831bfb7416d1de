"""How the kinds of model compare on one log: docs/training.md's table.

    python -m benchmarks.kinds LOG [KIND ...]

The cutoffs and the judging are those of `benchmarks.clv_bar`; all kinds are fitted to the same
training sets with the options they have by default, together with the regression for P(churn).
Columns are means over the cutoffs. `training` is CPU seconds of the slowest cutoff: folding the log
into rows, which is the same for all, and the fit. `scoring` is CPU microseconds a row, for CLV and
P(churn) together, in batches of 500 rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.clv_bar import HORIZON_DAYS, cutoffs_of, orders_of
from features.events.orders import Order
from model.data.training_rows import TrainingConfig, population, training_set
from model.estimators.clv import ClvModel
from model.estimators.kinds import KINDS, fit
from model.evaluate.holdout import BGNBD_GG, MODEL, SAME_AGAIN, evaluate
from model.evaluate.metrics import ClvMetrics

BATCH = 500
REPEATS = 20
HEADER = """\
| kind | normalized Gini | MAE | RMSE | Spearman | bias | training, s | scoring, µs a row |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def row(name: str, found: Sequence[ClvMetrics], training: str, scoring: str) -> str:
    """A line of the table."""
    cells = (
        name,
        f"{fmean(m.gini or 0 for m in found):.4f}",
        f"{fmean(m.mae for m in found):.2f}",
        f"{fmean(m.rmse for m in found):.1f}",
        f"{fmean(m.spearman for m in found):.3f}",
        f"{fmean(m.bias or 0 for m in found):.3f}",
        training,
        scoring,
    )
    return f"| {' | '.join(cells)} |"


def scoring_us(model: ClvModel, X: np.ndarray) -> float:
    """CPU microseconds a row: the best of some batches, for the machine may be busy."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        model.clv(X)
        model.churn(X)
        times.append(time.process_time() - began)
    return 1e6 * min(times) / len(X)


def table(name: str, orders: Sequence[Order], kinds: Sequence[str]) -> Iterator[str]:
    """The lines of the table, the baselines last."""
    config, sets = TrainingConfig(horizon_days=HORIZON_DAYS), []
    for cutoff in cutoffs_of(name, orders):
        began = time.process_time()
        rows = training_set(orders, config, cutoff)
        known = population(orders, cutoff)
        sets.append((cutoff, rows, known, time.process_time() - began))
    last: list[dict[str, ClvMetrics]] = []
    for kind in kinds:
        metrics, training, scoring = [], [], []
        for cutoff, rows, known, folding_s in sets:
            began = time.process_time()
            model = fit(rows, replace(config, kind=kind), known)
            training.append(time.process_time() - began + folding_s)
            scoring.append(scoring_us(model, rows.X[-BATCH:]))
            metrics.append(evaluate(orders, model, cutoff, HORIZON_DAYS).clv)
        found = [m[MODEL] for m in metrics]
        yield row(f"`{kind}`", found, f"{max(training):.1f}", f"{fmean(scoring):.1f}")
        last = metrics
    for baseline in (BGNBD_GG, SAME_AGAIN):
        if found := [m[baseline] for m in last if baseline in m]:
            yield row(baseline, found, "", "")


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.kinds LOG [KIND ...]")
    path, kinds = Path(sys.argv[1]), sys.argv[2:] or list(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        sys.exit(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    print(HEADER, flush=True)
    for line in table(name, orders_of(path), kinds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
