"""How good the CLV is, beside BG/NBD with Gamma-Gamma and "the same again": docs/model.md's table.

    python -m benchmarks.clv_bar [LOG ...]

LOG: files as `python -m model train` reads them (CSV, also gzipped); without one, every `*.csv` and
`*.csv.gz` in the directory CLV_BENCH_DATA.

Method: three cutoffs a log; at each the default model is trained on what was known before it, and
judged on the 90 days after it. The cutoffs are those published for `cdnow` and `online_retail_ii`,
else the last day with a full horizon after it, and 60 and 120 days before that. BG/NBD with
Gamma-Gamma is fitted anew at each cutoff to all customers known. Rows are means over the cutoffs;
`bias` is predicted over actual revenue, `|b-1|` the mean distance of the single biases from 1.
Ratios and differences are of one cutoff before they are averaged.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from features.columns.vector import vectors
from features.events.orders import Order, OrderRules
from features.times import MS_PER_DAY, day_of
from model.data.training_rows import (
    TooLittleData,
    TrainingConfig,
    default_cutoff_day,
    population,
    snapshots,
    training_set,
)
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit
from model.evaluate.holdout import BGNBD_GG, MODEL, SAME_AGAIN, evaluate
from model.evaluate.metrics import ClvMetrics
from model.files.order_log import RejectedRow, read_orders

HORIZON_DAYS = 90
PUBLISHED_DAYS = {"online_retail_ii": (528, 588, 648), "cdnow": (335, 395, 455)}
STEP_DAYS = 60
SCORED = 500
SILENT = 1_000

HEADER = """\
| log | predictor | MAE | RMSE | Gini | Spearman | bias | abs(b-1) | WAPE10 |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
RATIO_HEADER = """\
| log | MAE / BG | RMSE / BG | Gini - BG | Spearman - BG | training, s of CPU | 500 vectors, ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |"""
SILENCE_HEADER = """\
| log | silent customers | CLV rises | a day takes more than a third |
| --- | ---: | ---: | ---: |"""


@dataclass
class Result:
    """What was measured of one log, a list element a cutoff."""

    name: str
    metrics: list[dict[str, ClvMetrics]] = field(default_factory=list)
    training_s: list[float] = field(default_factory=list)
    scoring_ms: list[float] = field(default_factory=list)
    silence: tuple[int, int, int] = (0, 0, 0)


def orders_of(path: Path) -> list[Order]:
    """The log in a file, in event time."""
    rows = read_orders([path], OrderRules())
    found = [row for row in rows if not isinstance(row, RejectedRow)]
    return sorted(found, key=lambda order: order.ts_ms)


def asked_logs() -> list[Path]:
    """The files named on the command line, else all of the directory; exits where there is none."""
    paths = [Path(arg) for arg in sys.argv[1:]]
    if not paths:
        directory = Path(os.environ.get("CLV_BENCH_DATA", "data"))
        paths = sorted([*directory.glob("*.csv"), *directory.glob("*.csv.gz")])
    if not paths:
        sys.exit("no log: name files, or a directory of them by CLV_BENCH_DATA")
    return paths


def name_of(path: Path) -> str:
    """What a log is called."""
    return path.name.removesuffix(".gz").removesuffix(".csv")


def cutoffs_of(name: str, orders: Sequence[Order]) -> list[int]:
    """UTC days of the cutoffs of a log."""
    first = day_of(orders[0].ts_ms)
    if name in PUBLISHED_DAYS:
        return [first + days for days in PUBLISHED_DAYS[name]]
    last = default_cutoff_day(orders, HORIZON_DAYS)
    return [last - 2 * STEP_DAYS, last - STEP_DAYS, last]


def measured(path: Path) -> Result:
    """Everything of one log."""
    orders, config = orders_of(path), TrainingConfig(horizon_days=HORIZON_DAYS)
    result = Result(name_of(path))
    for cutoff in cutoffs_of(result.name, orders):
        began = time.process_time()
        rows = training_set(orders, config, cutoff)
        model = fit(rows, config, population(orders, cutoff))
        result.training_s.append(time.process_time() - began)
        result.metrics.append(evaluate(orders, model, cutoff, HORIZON_DAYS).clv)
        result.scoring_ms.append(scoring_ms(model, rows.X[-SCORED:]))
    result.silence = silence(orders, model, cutoff)
    return result


def scoring_ms(model: ClvModel, X: np.ndarray) -> float:
    """The median time of CLV and P(churn) for one batch."""
    times = []
    for _ in range(50):
        began = time.perf_counter()
        model.clv(X)
        model.churn(X)
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))


def silence(orders: Sequence[Order], model: ClvModel, cutoff: int) -> tuple[int, int, int]:
    """Of customers left silent from the cutoff on: how many, whose daily CLV ever rises, and of
    whom a single day takes off more than a third of the fall of 90 days, to a cent."""
    daily = silent_days(orders, cutoff, model.clv)
    steps, fall = -np.diff(daily, axis=1), daily[:, 0] - daily[:, -1]
    steep = steps.max(axis=1) > fall / 3 + 0.0101
    return len(daily), int((steps < 0).any(axis=1).sum()), int(steep.sum())


def silent_days(
    orders: Sequence[Order], cutoff: int, said: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What is said at noon of each day of SILENT customers left silent for 90 days from the cutoff
    on, shape (customers, 91)."""
    until = [order for order in orders if day_of(order.ts_ms) < cutoff]
    (taken,) = snapshots(until, [cutoff], 1)
    rng = np.random.default_rng(0)
    picked = rng.choice(len(taken.states), min(SILENT, len(taken.states)), replace=False)
    states = [taken.states[i] for i in picked]
    noons = [round((cutoff + d + 0.5) * MS_PER_DAY) for d in range(91)]
    return np.stack([said(vectors([(s, at) for s in states])) for at in noons], axis=1)


def predictor_rows(result: Result) -> Iterator[str]:
    """A row a predictor, means over the cutoffs."""
    for name in (MODEL, BGNBD_GG, SAME_AGAIN):
        found = [m[name] for m in result.metrics if name in m]
        if found:
            bias = [m.bias or 0.0 for m in found]
            yield (
                f"| {result.name} | {name} | {fmean(m.mae for m in found):.2f} "
                f"| {fmean(m.rmse for m in found):.2f} | {fmean(m.gini or 0 for m in found):.4f} "
                f"| {fmean(m.spearman for m in found):.3f} | {fmean(bias):.3f} "
                f"| {fmean(abs(b - 1) for b in bias):.3f} "
                f"| {fmean(m.decile_wape or 0 for m in found):.3f} |"
            )


def ratios(result: Result) -> list[float]:
    """MAE and RMSE over BG/NBD's, Gini and Spearman above it; means over the cutoffs."""
    pairs = [(m[MODEL], m[BGNBD_GG]) for m in result.metrics if BGNBD_GG in m]
    if not pairs:
        return [float("nan")] * 4
    return [
        fmean(m.mae / b.mae for m, b in pairs),
        fmean(m.rmse / b.rmse for m, b in pairs),
        fmean((m.gini or 0) - (b.gini or 0) for m, b in pairs),
        fmean(m.spearman - b.spearman for m, b in pairs),
    ]


def ratio_row(name: str, values: Sequence[float], training_s: str, scoring: str) -> str:
    """A row of the second table."""
    mae, rmse, gini, rank = values
    cells = (name, f"{mae:.3f}", f"{rmse:.3f}", f"{gini:+.4f}", f"{rank:+.4f}", training_s, scoring)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = asked_logs()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" load {load}; horizon {HORIZON_DAYS} days, 3 cutoffs a log\n"
    )
    results = []
    for path in paths:
        print(path.name, file=sys.stderr, flush=True)
        try:
            results.append(measured(path))
        except TooLittleData as error:
            print(f"{path.name}: {error}", file=sys.stderr)
    if not results:
        sys.exit("no log was long enough")
    print(HEADER)
    for result in results:
        print(*predictor_rows(result), sep="\n")
    print(f"\n{RATIO_HEADER}")
    for result in results:
        times = f"{max(result.training_s):.1f}", f"{fmean(result.scoring_ms):.2f}"
        print(ratio_row(result.name, ratios(result), *times))
    if len(results) > 1:
        means = np.nanmean([ratios(result) for result in results], axis=0)
        print(ratio_row("mean", means.tolist(), "", ""))
    print(f"\n{SILENCE_HEADER}")
    for result in results:
        customers, rises, steep = result.silence
        print(f"| {result.name} | {customers} | {rises} | {steep} |")


if __name__ == "__main__":
    main()
