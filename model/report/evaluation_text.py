"""An evaluation in a terminal, at most 80 columns wide: at one cutoff, or over several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from features.events.money import currency_name
from model.evaluate.bootstrap import Difference
from model.evaluate.holdout import BGNBD_GG, MODEL, SAME_AGAIN, Evaluation
from model.evaluate.metrics import ClvMetrics
from model.evaluate.rolling import Rolling
from model.report.format import money_in, ratio, share, signed

_MONEY: Final = ("mae", "rmse")
# Metric, its column and the column's width; with the names, less than 80 characters.
_COLUMNS: Final = (
    ("mae", "MAE", 9),
    ("rmse", "RMSE", 9),
    ("r2", "R2", 7),
    ("gini", "Gini", 7),
    ("spearman", "Spearman", 10),
    ("bias", "bias", 7),
    ("decile_wape", "WAPE10", 8),
    ("top_decile", "top10%", 8),
)
_HEADER: Final = " " * 11 + "".join(f"{name:>{width}}" for _, name, width in _COLUMNS)


def text(report: Rolling) -> str:
    """The report of a model as it is; or of a kind retrained at cutoffs: their means, each of them,
    what of the differences is not sampling error, and churn."""
    if not report.refitted:
        return "\n\n".join([table(report.cutoffs[0]), *_differences(report)])
    churn = _churn(
        report.horizon_days,
        report.churn_mean,
        report.cutoffs[-1].churn.threshold,
        "" if len(report.cutoffs) == 1 else ", means",
    )
    return "\n\n".join(
        [
            _head(report),
            *([_means(report)] if len(report.cutoffs) > 1 else []),
            *map(_cutoff, report.cutoffs),
            *_differences(report),
            "\n".join([*churn, "", *_calibration(report.cutoffs)]),
        ]
    )


def table(report: Evaluation) -> str:
    """The report at one cutoff."""
    count, churn = report.churn.customers, report.churn
    lines = [
        f"Holdout {report.cutoff} to {report.until}: {count:,} customers,"
        f" net revenue of {report.horizon_days} days, {currency_name(report.currency)}",
        "",
        *_predictors(report),
        "",
        *_churn(report.horizon_days, msgspec.structs.asdict(churn), churn.threshold),
        "",
        *_calibration([report]),
    ]
    return "\n".join(lines)


def _head(report: Rolling) -> str:
    count = len(report.cutoffs)
    return (
        f"Kind {report.kind}, {count} cutoff{'s' * (count > 1)}, retrained at each;\n"
        f"net revenue of {report.horizon_days} days, {currency_name(report.currency)}"
    )


def _means(report: Rolling) -> str:
    lines = [f"Mean of {len(report.cutoffs)} cutoffs", _HEADER]
    return "\n".join(
        [*lines, *(_row(name, means, report.currency) for name, means in report.mean.items())]
    )


def _cutoff(one: Evaluation) -> str:
    first = f"{one.cutoff} to {one.until}: {one.churn.customers:,} customers"
    return "\n".join([first, *_predictors(one)])


def _predictors(one: Evaluation) -> list[str]:
    return [
        _HEADER,
        *(_row(name, _by_name(metrics), one.currency) for name, metrics in one.clv.items()),
        *(f"{name:<11}  not fitted: {why}"[:80] for name, why in one.skipped.items()),
    ]


def _by_name(metrics: ClvMetrics) -> dict[str, float | None]:
    return {key: getattr(metrics, key) for key, *_ in _COLUMNS}


def _row(name: str, metrics: Mapping[str, float | None], currency: str) -> str:
    money = money_in(currency)
    cells = (
        f"{(money if key in _MONEY else ratio)(metrics[key]):>{width}}"
        for key, _, width in _COLUMNS
    )
    return f"{name:<11}{''.join(cells)}"


def _differences(report: Rolling) -> list[str]:
    """Metrics of the model minus those of a baseline, with the interval."""
    blocks = [
        "\n".join(_compared(other, report.differences[other], report.currency))
        for other in (BGNBD_GG, SAME_AGAIN)
        if report.differences.get(other)
    ]
    if not blocks:
        return []
    note = (
        f"Intervals: the middle 95 % of {report.resamples:,} resamples of the customers, the same"
        "\nfor both. A dash: within sampling error."
    )
    return [*blocks, note]


def _compared(other: str, found: Mapping[str, Difference], currency: str) -> Sequence[str]:
    lines = [f"{MODEL} minus {other:<26}{'difference':>12}{'95 % interval':>22}"]
    for key, name, _ in _COLUMNS:
        if key not in found or key == "bias":
            continue
        d, shown = found[key], money_in(currency) if key in _MONEY else ratio
        interval = f"{signed(d.low, shown)} to {signed(d.high, shown)}"
        verdict = {True: "better", False: "worse", None: "-"}[d.better]
        lines.append(f"  {name:<36}{signed(d.value, shown):>12}{interval:>22}  {verdict}")
    return lines


def _churn(
    horizon_days: int, churn: Mapping[str, float | None], threshold: float, of: str = ""
) -> list[str]:
    """The metrics of a churn probability, by name as `ChurnMetrics` has them."""
    predicted = churn.get("mean_predicted")
    level = "" if predicted is None else f"; mean predicted {share(predicted)}"
    return [
        f"Churn (no order in {horizon_days} days, {share(churn['base_rate'] or 0.0)} of customers"
        f"{level}{of}):",
        f"  ROC AUC {ratio(churn['roc_auc'])}, PR AUC {ratio(churn['pr_auc'])},"
        f" Brier score {ratio(churn['brier'])},"
        f" calibration error {ratio(churn.get('calibration_error'))},",
        f"  F1 {ratio(churn['f1'])} at P(churn) >= {threshold:g}"
        f" ({ratio(churn['base_f1'])} if all were counted as churners)",
    ]


def _calibration(reports: Sequence[Evaluation]) -> list[str]:
    """P(churn) by tenth of customers, and the share of them without an order, at each cutoff."""
    lines = ["  P(churn) by tenth of customers, and the share of them without an order:"]
    for report in reports:
        tenths = report.churn.calibration
        cells = {"predicted": [t.predicted for t in tenths], "observed": [t.actual for t in tenths]}
        cutoff = f"{report.cutoff}  " if len(reports) > 1 else ""
        for name, shares in cells.items():
            lines.append(f"  {cutoff}{name:<9}" + "".join(f"{one:>5.0%}" for one in shares))
            cutoff = " " * len(cutoff)
    return lines
