"""How good a model is on a holdout it never saw, beside two baselines that need no training rows.

The customers are all with an order before the cutoff; the truth is what they did in the horizon
that follows it. The baselines know the same past: BG/NBD with Gamma-Gamma, fitted on it, and
"the same again", the net revenue of the last horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.arrays import Floats
from features.columns.rfm import rfm
from features.columns.table import tabulate
from features.events.money import minor_exponent
from features.events.orders import Order
from features.facts.state import CustomerState
from features.times import Calendar, iso_day
from model.data.attributes import Attributes
from model.data.training_rows import Snapshot, labels_of, rows_of, snapshots
from model.errors import ModelError
from model.estimators.bgnbd import BGNBD, FitError, GammaGamma
from model.estimators.bgnbd import clv as bgnbd_clv
from model.estimators.clv import ClvModel
from model.estimators.risk import Risk
from model.evaluate.metrics import ChurnMetrics, ClvMetrics, churn_metrics, clv_metrics

MODEL: Final = "model"
BGNBD_GG: Final = "BG/NBD + GG"
SAME_AGAIN: Final = "same again"


class EvaluationError(ModelError):
    """These orders cannot judge a model at this cutoff; the message says which cutoff can."""


class Evaluation(msgspec.Struct, frozen=True):
    """The report: CLV metrics by predictor, and churn metrics of the model.

    Days are ISO dates; the holdout is from 00:00 of `cutoff` to 00:00 of `until`.
    `skipped` says why a baseline is missing. `currency` is the unit of all errors.
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

    `X` of shape (n, k) is what the model saw of the `users`, `pairs` are their states and when;
    `actual` revenue, `predictions` by name (the model's first) and `chance` of no order are of
    shape (n,), money in major units. `skipped` says why a baseline is missing.
    """

    cutoff_day: int
    horizon_days: int
    currency: str
    users: list[str]
    X: Floats
    pairs: list[tuple[CustomerState, int]]
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
    risk: Risk | None = None,
) -> Evaluation:
    """The report of a model at a cutoff; `orders` sorted by event time. Raises EvaluationError."""
    return evaluation_of(predicted(orders, model, cutoff_day, horizon_days, attributes, risk))


def predicted(
    orders: Sequence[Order],
    model: ClvModel,
    cutoff_day: int,
    horizon_days: int,
    attributes: Attributes | None = None,
    risk: Risk | None = None,
) -> Holdout:
    """The holdout of a model at a cutoff; `orders` sorted by event time, `attributes` those of the
    customers, for a model that knows such; `risk` what its P(churn) is from.

    Raises EvaluationError when nobody has ordered before the cutoff or the log ends before the
    horizon does.
    """
    _check_holdout(orders, cutoff_day, horizon_days, model.calendar)
    (holdout,) = snapshots(orders, [cutoff_day], horizon_days, model.calendar)
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
        pairs=holdout.pairs,
        chance=chance_of(model, risk, X, holdout.pairs),
        skipped=skipped,
    )


def chance_of(
    model: ClvModel, risk: Risk | None, X: Floats, pairs: Sequence[tuple[CustomerState, int]]
) -> Floats:
    """P(no order within the horizon) of (state, as_of) pairs, whose feature vectors are X."""
    return model.churn(X) if risk is None else risk.predict(risk.rows(tabulate(pairs)))[0]


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


def _check_holdout(
    orders: Sequence[Order], cutoff_day: int, horizon_days: int, calendar: Calendar
) -> None:
    if not orders:
        raise EvaluationError("the log has no orders; name one that has")
    end_day = calendar.day_of(orders[-1].ts_ms) + 1
    if cutoff_day + horizon_days > end_day:
        raise EvaluationError(
            f"cutoff {iso_day(cutoff_day)} and a horizon of {horizon_days} days reach past the"
            f" log's last day, {iso_day(end_day - 1)}; the latest cutoff is"
            f" {iso_day(end_day - horizon_days)}"
        )


def score_quantiles(scores: Floats) -> list[float]:
    """CLVs at percentiles 0 to 100: 101 numbers in ascending order."""
    return [float(value) for value in np.percentile(scores, np.arange(101))]


def as_json(report: Evaluation) -> Mapping[str, object]:
    """The report in plain types, for a manifest or a machine."""
    plain: Mapping[str, object] = msgspec.to_builtins(report)
    return plain
