"""An evaluation over cutoffs in a terminal, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from model.evaluate.bootstrap import Difference
from model.evaluate.holdout import (
    BGNBD_GG,
    MODEL,
    SAME_AGAIN,
    calibration_lines,
    churn_lines,
    head,
    line,
    money,
    number,
    row,
)
from model.evaluate.rolling import Rolling

_CELLS: Final = ("mae", "rmse", "r2", "gini", "spearman", "bias", "decile_wape", "top_decile")
_NAMES: Final = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "gini": "Gini",
    "spearman": "Spearman",
    "decile_wape": "WAPE10",
    "top_decile": "top10%",
}


def text(report: Rolling) -> str:
    """The means, each cutoff, what of the differences is no chance, and churn."""
    many = len(report.cutoffs) > 1
    blocks = [
        _head(report),
        *([_means(report)] if many else []),
        *_each(report),
        *differences_text(report),
        _churn(report),
    ]
    return "\n\n".join(blocks)


def _head(report: Rolling) -> str:
    trained = "trained anew at each" if report.refitted else "the model as it is"
    count = len(report.cutoffs)
    return (
        f"Kind {report.kind}, {count} cutoff{'s' * (count > 1)}, {trained};\n"
        f"net revenue of {report.horizon_days} days, {report.currency}"
    )


def _means(report: Rolling) -> str:
    lines = [f"Mean of {len(report.cutoffs)} cutoffs", head()]
    for name, means in report.mean.items():
        cells = [
            ("-" if means[metric] is None else money(means[metric] or 0.0))
            if metric in ("mae", "rmse")
            else number(means[metric], 3)
            for metric in _CELLS
        ]
        lines.append(line(name, cells))
    return "\n".join(lines)


def _each(report: Rolling) -> list[str]:
    blocks = []
    for one in report.cutoffs:
        lines = [f"{one.cutoff} to {one.until}: {one.churn.customers:,} customers", head()]
        lines += [row(name, metrics) for name, metrics in one.clv.items()]
        lines += [f"{name:<11}  not fitted: {why}"[:80] for name, why in one.skipped.items()]
        blocks.append("\n".join(lines))
    return blocks


def differences_text(report: Rolling) -> list[str]:
    """Metrics of the model less those of a yardstick, with the interval."""
    blocks = []
    for other in (BGNBD_GG, SAME_AGAIN):
        found = report.differences.get(other)
        if found:
            blocks.append("\n".join(_compared(other, found)))
    if not blocks:
        return []
    note = (
        f"Intervals: the middle 95 % of {report.resamples:,} resamples of the customers, the same"
        "\nfor both. A dash: chance may explain it."
    )
    return [*blocks, note]


def _compared(other: str, found: Mapping[str, Difference]) -> Sequence[str]:
    lines = [f"{MODEL} less {other:<27}{'difference':>12}{'95 % interval':>22}"]
    for metric, name in _NAMES.items():
        if metric not in found:
            continue
        d = found[metric]
        shown = _signed if metric in ("mae", "rmse") else _signed_ratio
        interval = f"{shown(d.low)} to {shown(d.high)}"
        said = {True: "better", False: "worse", None: "-"}[d.better]
        lines.append(f"  {name:<36}{shown(d.value):>12}{interval:>22}  {said}")
    return lines


def _signed(value: float) -> str:
    return ("+" if value > 0 else "-") + money(abs(value))


def _signed_ratio(value: float) -> str:
    return f"{value:+.3f}"


def _churn(report: Rolling) -> str:
    of = "" if len(report.cutoffs) == 1 else ", means"
    threshold = report.cutoffs[-1].churn.threshold
    lines = churn_lines(report.horizon_days, report.churn_mean, threshold, of)
    return "\n".join([*lines, "", *calibration_lines(report.cutoffs)])
