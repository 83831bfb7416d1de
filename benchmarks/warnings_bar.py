"""How good the warnings are on three public order logs: the table of docs/warnings.md.

    python -m benchmarks.warnings_bar [--early] [--daily] [LOG:H ...]

Reads `cdnow`, `online_retail_ii` and `complete_journey_2017` (`.csv.gz`) from CLV_BENCH_DATA.

Method: each log is simulated day by day through the live judge, with a model trained on what was
known at the period's first day, and again every 30 days (every third of a horizon above 90). The
design was chosen on early periods (`--early`); the late ones are reported. Silences belong to the
period that they begin in, call lists to that of their day. There are three lists a horizon, with
`--daily` one a day: of a short log, which of seven lists is above another is chance.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from features.events.orders import Order, OrderRules
from features.times import day_of
from model.backtest.baselines import SIMPLE, rankings
from model.backtest.panel import CallList
from model.backtest.result import Backtest, Baseline
from model.backtest.run import BacktestPlan, BacktestRun, trained
from model.data.training_rows import TrainingConfig
from model.decide.policy import Policy
from model.errors import ModelError
from model.files.order_log import RejectedRow, read_orders


class Cell(NamedTuple):
    """A log and a horizon: days of the log on which the early and the late period begin (None: no
    early one), the gain in points that is wanted, and whether the call list is judged."""

    file: str
    horizon: int
    early: int | None
    late: int
    gain: float
    listed: bool


CELLS = (
    Cell("cdnow", 90, 180, 270, 3.0, True),
    Cell("cdnow", 180, None, 240, 3.0, False),
    Cell("online_retail_ii", 60, 180, 365, 4.0, True),
    Cell("online_retail_ii", 90, 180, 365, 4.0, True),
    Cell("online_retail_ii", 180, 240, 365, 4.0, False),
    Cell("online_retail_ii", 365, None, 490, 4.0, False),
    Cell("complete_journey_2017", 30, 90, 181, 1.5, True),
    Cell("complete_journey_2017", 60, 120, 181, 0.0, True),
    Cell("complete_journey_2017", 90, 150, 181, 1.5, False),
)
HEAD = (
    "| log, H | churners | strict / episode | recall | lead: median, mean | over the best simple"
    " rule of recall >= 95 %: same median; same mean [95 %] | call list: precision, value | best"
    " simple: precision, value | |"
)


def orders_of(name: str) -> list[Order]:
    """The log by that name."""
    directory = Path(os.environ.get("CLV_BENCH_DATA", "data"))
    rows = read_orders([directory / f"{name}.csv.gz"], OrderRules())
    found = [row for row in rows if not isinstance(row, RejectedRow)]
    return sorted(found, key=lambda order: order.ts_ms)


def report_of(cell: Cell, orders: Sequence[Order], early: bool, daily: bool) -> Backtest:
    """The backtest of a period of a log. Raises ModelError where the log is too short for it."""
    first = day_of(orders[0].ts_ms)
    start = first + (cell.early or 0 if early else cell.late)
    scorer = trained(orders, start, TrainingConfig(horizon_days=cell.horizon))
    until = first + cell.late if early else None
    plan = BacktestPlan(start, Policy(), max(30, cell.horizon // 3), until)
    run = BacktestRun(orders, scorer, plan)
    report = run.report()
    if daily and run.panel is not None:
        three = run.rank_days(run.panel)
        every = range(three.start, three.stop)
        return msgspec.structs.replace(report, rankings=rankings(run.panel, plan.policy, every))
    return report


def row(cell: Cell, report: Backtest) -> str:
    """A row of the table: what was found, and which goals were missed."""
    found, panel = report.rule, report.panel_rule
    best = {lead: _best(report.baselines, lead) for lead in ("median", "mean")}
    ours, *_ = report.rankings.values()
    simple = [report.rankings[name] for name in SIMPLE]
    precision = max(each.precision or 0.0 for each in simple)
    value = max(each.value_captured or 0.0 for each in simple)
    missed = []
    if (found.recall or 0.0) < 0.95:
        missed.append("recall")
    if (found.median_lead_days or 0.0) < cell.horizon / 4:
        missed.append("lead")
    if best["mean"] is None or 100 * best["mean"].gain < cell.gain:
        missed.append(f"gain < {cell.gain:g}")
    if cell.listed and not _beats_all(ours, simple):
        missed.append("list: one is as good")
    if cell.listed and not (
        (ours.precision or 0) > precision and (ours.value_captured or 0) > value
    ):
        missed.append("list: best singles")
    lead = f"{found.median_lead_days or 0:.0f}, {panel.mean_lead_days or 0:.1f}"
    cells = (
        f"{cell.file} {cell.horizon}",
        f"{found.churners:,}",
        f"{_share(found.strict_precision)} / {_share(found.episode_precision)}",
        _share(found.recall),
        lead,
        f"{_gain(best['median'])}; {_gain(best['mean'])}",
        f"{_share(ours.precision)}, {_share(ours.value_captured)}",
        f"{_share(precision)}, {_share(value)}",
        ", ".join(missed) or "met",
    )
    return f"| {' | '.join(cells)} |"


def _best(baselines: Sequence[Baseline], lead: str) -> Baseline | None:
    """The simple rule over which the gain is least."""
    return min((b for b in baselines if b.lead == lead), key=lambda b: b.gain, default=None)


def _gain(found: Baseline | None) -> str:
    if found is None:
        return "-"
    chance = ", may be chance" if found.may_be_chance else ""
    return f"{100 * found.gain:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}{chance}]"


def _beats_all(ours: CallList, simple: Sequence[CallList]) -> bool:
    """Whether no simple list is as good in precision and in value."""
    return not any(
        (one.precision or 0) >= (ours.precision or 0)
        and (one.value_captured or 0) >= (ours.value_captured or 0)
        for one in simple
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    early, daily = (option in sys.argv[1:] for option in ("--early", "--daily"))
    wanted = [each for each in sys.argv[1:] if not each.startswith("--")]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{HEAD}\n| --- | ---: | --- | ---: | --- | --- | --- | --- | --- |", flush=True)
    gains = []
    for cell in CELLS:
        left_out = wanted and f"{cell.file}:{cell.horizon}" not in wanted
        if left_out or (early and cell.early is None):
            continue
        started = time.process_time()
        orders = orders_of(cell.file)
        try:
            report = report_of(cell, orders, early, daily)
        except ModelError as error:
            print(f"| {cell.file} {cell.horizon} | {error} |", flush=True)
            continue
        best = _best(report.baselines, "mean")
        gains += [] if best is None else [100 * best.gain]
        print(row(cell, report), flush=True)
        print(f"  {time.process_time() - started:.0f} s of CPU time", file=sys.stderr, flush=True)
    if gains:
        print(f"\nMean gain at the same mean lead: {sum(gains) / len(gains):+.1f} points")


if __name__ == "__main__":
    main()
