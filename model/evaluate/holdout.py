"""How good a model is on a holdout it never saw, beside two yardsticks that need no training rows.

The customers are all with an order before the cutoff; the truth is what they did in the horizon
that follows it. The yardsticks know the same past: BG/NBD with Gamma-Gamma, fitted on it, and
"the same again", the net revenue of the last horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from features.money import minor_exponent
from features.orders import Order
from features.rfm import rfm
from features.times import day_of, iso_day
from features.vector import FEATURE_NAMES
from model.data.attributes import Attributes
from model.data.training_rows import Snapshot, labels_of, rows_of, snapshots
from model.errors import ModelError
from model.estimators.bgnbd import BGNBD, FitError, GammaGamma
from model.estimators.bgnbd import clv as bgnbd_clv
from model.estimators.clv import ClvModel
from model.evaluate.metrics import ChurnMetrics, ClvMetrics, churn_metrics, clv_metrics

MODEL: Final = "model"
BGNBD_GG: Final = "BG/NBD + GG"
SAME_AGAIN: Final = "same again"


class EvaluationError(ModelError):
    """These orders cannot judge a model at this cutoff; the message says which cutoff can."""


class Evaluation(msgspec.Struct, frozen=True):
    """The report: CLV metrics by predictor, and churn metrics of the model.

    Days are ISO dates; the holdout is from 00:00 UTC of `cutoff` to 00:00 UTC of `until`.
    `skipped` says why a yardstick is missing. `currency` is the unit of all errors.
    """

    cutoff: str
    until: str
    horizon_days: int
    currency: str
    clv: dict[str, ClvMetrics]
    churn: ChurnMetrics
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True)
class Holdout:
    """All customers with an order before a cutoff: what was predicted, and what happened.

    `X` of shape (n, k) is what the model saw of the `users`; `actual` revenue, `predictions` by
    name (the model's first) and `chance` of no order are of shape (n,), money in major units.
    `skipped` says why a yardstick is missing.
    """

    cutoff_day: int
    horizon_days: int
    currency: str
    users: list[str]
    X: Floats
    actual: Floats
    churned: NDArray[np.bool_]
    predictions: dict[str, Floats]
    chance: Floats
    skipped: dict[str, str]


def evaluate(
    orders: Sequence[Order],
    model: ClvModel,
    cutoff_day: int,
    horizon_days: int,
    attributes: Attributes | None = None,
) -> Evaluation:
    """The report of a model at a cutoff; `orders` sorted by event time. Raises EvaluationError."""
    return evaluation_of(predicted(orders, model, cutoff_day, horizon_days, attributes))


def predicted(
    orders: Sequence[Order],
    model: ClvModel,
    cutoff_day: int,
    horizon_days: int,
    attributes: Attributes | None = None,
) -> Holdout:
    """The holdout of a model at a cutoff; `orders` sorted by event time, `attributes` those of the
    customers, for a model that knows such.

    Raises EvaluationError when nobody has ordered before the cutoff or the log ends before the
    horizon does.
    """
    _check_holdout(orders, cutoff_day, horizon_days)
    (holdout,) = snapshots(orders, [cutoff_day], horizon_days)
    if not holdout.users:
        raise EvaluationError(
            f"nobody has an order before {iso_day(cutoff_day)}; choose a later --cutoff"
        )
    unit = 10.0 ** minor_exponent(model.currency)
    X = rows_of(holdout, attributes)
    predictions = {MODEL: model.clv(X)}
    skipped = {}
    try:
        predictions[BGNBD_GG] = bgnbd_prediction(holdout, horizon_days, unit)
    except FitError as error:
        skipped[BGNBD_GG] = str(error)
    predictions[SAME_AGAIN] = (
        labels_of(holdout.states, cutoff_day, horizon_days).revenue_minor / unit
    )
    return Holdout(
        cutoff_day=cutoff_day,
        horizon_days=horizon_days,
        currency=model.currency,
        users=holdout.users,
        X=X,
        actual=holdout.labels.revenue_minor / unit,
        churned=holdout.labels.churned,
        predictions=predictions,
        chance=model.churn(X),
        skipped=skipped,
    )


def evaluation_of(holdout: Holdout) -> Evaluation:
    """The report of a holdout."""
    return Evaluation(
        cutoff=iso_day(holdout.cutoff_day),
        until=iso_day(holdout.cutoff_day + holdout.horizon_days),
        horizon_days=holdout.horizon_days,
        currency=holdout.currency,
        clv={name: clv_metrics(holdout.actual, p) for name, p in holdout.predictions.items()},
        churn=churn_metrics(holdout.churned, holdout.chance),
        skipped=holdout.skipped,
    )


def bgnbd_prediction(holdout: Snapshot, horizon_days: int, unit: float) -> Floats:
    """CLV of the customers by BG/NBD and Gamma-Gamma fitted on their own past, major units. Raises
    FitError."""
    r = rfm(holdout.pairs)
    value = r.monetary_value_minor / unit
    purchases = BGNBD.fit(r.frequency, r.recency_days, r.T_days)
    spend = GammaGamma.fit(r.frequency, value)
    said = bgnbd_clv(purchases, spend, horizon_days, r.frequency, r.recency_days, r.T_days, value)
    if not np.isfinite(said).all():
        raise FitError("the fitted parameters are so large that some customers have no number")
    return said


# Columns and their widths; with the names, less than 80 characters.
_COLUMNS: Final = (
    ("MAE", 9),
    ("RMSE", 9),
    ("R2", 7),
    ("Gini", 7),
    ("Spearman", 10),
    ("bias", 7),
    ("WAPE10", 8),
    ("top10%", 8),
)


def table(report: Evaluation) -> str:
    """The report as text, at most 80 columns wide."""
    count = report.churn.customers
    lines = [
        f"Holdout {report.cutoff} to {report.until}: {count:,} customers,"
        f" net revenue of {report.horizon_days} days, {report.currency}",
        "",
        head(),
    ]
    lines += [row(name, metrics) for name, metrics in report.clv.items()]
    lines += [f"{name:<11}  not fitted: {why}"[:80] for name, why in report.skipped.items()]
    churn = report.churn
    lines += ["", *churn_lines(report.horizon_days, msgspec.structs.asdict(churn), churn.threshold)]
    lines += ["", *calibration_lines([report])]
    return "\n".join(lines)


def churn_lines(
    horizon_days: int, churn: Mapping[str, float | None], threshold: float, of: str = ""
) -> list[str]:
    """What the metrics of a churn probability say, by name as `ChurnMetrics` has them; `of` says
    what they are of."""
    said = churn.get("said_rate")
    level = "" if said is None else f"; said {said:.1%}"
    return [
        f"Churn (no order in {horizon_days} days, {churn['base_rate'] or 0.0:.1%} of customers"
        f"{level}{of}):",
        f"  ROC AUC {number(churn['roc_auc'], 3)}, PR AUC {number(churn['pr_auc'], 3)},"
        f" Brier score {number(churn['brier'], 3)},"
        f" calibration error {number(churn.get('calibration_error'), 3)},",
        f"  F1 {number(churn['f1'], 3)} at P(churn) >= {threshold:g}"
        f" ({number(churn['base_f1'], 3)} were everybody counted as leaving)",
    ]


def calibration_lines(reports: Sequence[Evaluation]) -> list[str]:
    """P(churn) by tenth of customers, and the share of them without an order, at each cutoff."""
    lines = ["  P(churn) by tenth of customers, and how many of them did not order:"]
    for report in reports:
        tenths = report.churn.calibration
        cells = {"said": [t.predicted for t in tenths], "were": [t.actual for t in tenths]}
        named = report.cutoff if len(reports) > 1 else ""
        for name, shares in cells.items():
            shown = "".join(f"{share:>6.0%}" for share in shares)
            lines.append(f"  {named:<10}  {name}{shown}" if named else f"  {name}{shown}")
            named = named and " " * len(named)
    return lines


def head() -> str:
    """The line above the predictors."""
    return line("", [name for name, _ in _COLUMNS])


def row(name: str, m: ClvMetrics) -> str:
    """The metrics of a predictor as a line of the table."""
    ratios = (m.r2, m.gini, m.spearman, m.bias, m.decile_wape, m.top_decile)
    cells = [money(m.mae), money(m.rmse), *(number(value, 3) for value in ratios)]
    return line(name, cells)


def line(name: str, cells: Sequence[str]) -> str:
    """A line of the table: a name of up to 11 characters, and a cell for each column."""
    widths = [width for _, width in _COLUMNS]
    return f"{name:<11}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


def money(value: float) -> str:
    """At most seven characters, whatever the currency."""
    if value < 10_000:
        return f"{value:.2f}"
    return f"{value:.0f}" if value < 1e7 else f"{value:.1e}"


def number(value: float | None, decimals: int) -> str:
    """A ratio; a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{decimals}f}" if abs(value) < 1_000 else f"{value:.0e}"


def _check_holdout(orders: Sequence[Order], cutoff_day: int, horizon_days: int) -> None:
    if not orders:
        raise EvaluationError("the log has no orders; name one that has")
    end_day = day_of(orders[-1].ts_ms) + 1
    if cutoff_day + horizon_days > end_day:
        raise EvaluationError(
            f"cutoff {iso_day(cutoff_day)} and a horizon of {horizon_days} days reach past the"
            f" log's last day, {iso_day(end_day - 1)}; the latest cutoff is"
            f" {iso_day(end_day - horizon_days)}"
        )


def score_quantiles(scores: Floats) -> list[float]:
    """CLVs at percentiles 0 to 100: 101 numbers in ascending order."""
    return [float(value) for value in np.percentile(scores, np.arange(101))]


def churn_quantiles(known: Floats, model: ClvModel) -> list[float]:
    """P(churn) at percentiles 0 to 100 of the active customers, those of the feature vectors
    `known` with an order within the horizon and a CLV of the population's median or more; empty
    where there is nobody."""
    clv = model.clv(known)
    silent_days = known[:, FEATURE_NAMES.index("days_since_last_order")]
    active = (silent_days <= model.horizon_days) & (clv >= np.median(clv))
    if not active.any():
        return []
    return [float(p) for p in np.percentile(model.churn(known[active]), np.arange(101))]


def as_json(report: Evaluation) -> Mapping[str, object]:
    """The report in plain types, for a manifest or a machine."""
    plain: Mapping[str, object] = msgspec.to_builtins(report)
    return plain
