"""What came of a retraining, for a terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from model.report.format import money_in, ratio, signed
from model.training.retrain import BRIER, DECISIVE, SHOWN, ModelComparison, RetrainOutcome

_NAMES: Final = {
    "gini": "normalized Gini",
    "mae": "MAE",
    "rmse": "RMSE",
    "brier": "Brier score",
    "spearman": "Spearman",
    "bias": "bias",
    "decile_wape": "decile WAPE",
}


def text(outcome: RetrainOutcome) -> str:
    """The outcome on one screen, at most 80 columns."""
    data = outcome.data
    lines = [
        f"{data.orders:,} orders of {data.customers:,} customers, {data.first[:10]} to"
        f" {data.last[:10]}",
        f"current    {outcome.current or 'none'}",
        f"candidate  {outcome.candidate or 'none'}",
    ]
    if outcome.comparison is not None:
        lines += ["", *_table(outcome.comparison)]
    verdict = {"promoted": "Promoted", "kept": "Kept the current one"}.get(outcome.action)
    said = textwrap.wrap(f"{verdict or 'Nothing new'}: {outcome.why}", 78)
    return "\n".join([*lines, "", *said])


def _table(comparison: ModelComparison) -> list[str]:
    head = f"{'':<16}{'current':>10}{'candidate':>10}{'difference':>11}  95 % of resamples"
    lines = [
        f"Holdout {comparison.cutoff} to {comparison.until}, {comparison.customers:,} customers",
        head,
    ]
    order = (*DECISIVE, BRIER, *(name for name in SHOWN if name not in DECISIVE))
    money = money_in(comparison.currency)
    for name in order:
        line = comparison.metrics[name]
        shown = money if name in ("mae", "rmse") else ratio
        row = f"{_NAMES[name]:<16}{shown(line.current):>10}{shown(line.candidate):>10}"
        if line.difference is not None:
            d = line.difference
            mark = {True: "better", False: "worse", None: ""}[d.better]
            interval = f"{signed(d.low, shown)} to {signed(d.high, shown)}"
            row += f"{signed(d.value, shown):>11}  {interval}  {mark}"
        lines.append(row.rstrip())
    return lines
