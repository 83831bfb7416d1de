"""How good a prediction was: errors, ranking and calibration, each of them one number.

Every metric here is indifferent to the order of customers: where predictions tie (BG/NBD gives all
one-time buyers of a day the same value), the actual values of the tie are shared out equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from features.arrays import Floats

_DECILES: Final = 10
# From this probability on a customer is counted as leaving, where a yes or no is asked for.
CHURN_THRESHOLD: Final = 0.5


class Decile(msgspec.Struct, frozen=True):
    """A tenth of the customers by prediction: means of what was predicted and what happened."""

    customers: int
    predicted: float
    actual: float


class ClvMetrics(msgspec.Struct, frozen=True):
    """Predicted against actual net revenue of the holdout; money in major units.

    `gini` is normalized: 1 ranks customers perfectly, 0 no better than chance. `bias` is predicted
    over actual revenue of everybody. `decile_wape` is the calibration by decile: the absolute
    errors of ten group sums over the actual revenue. `top_decile` is the share of actual revenue
    that the tenth of customers with the highest predictions brought. None = not defined (a
    holdout without any revenue). `calibration` has the deciles, lowest prediction first.
    """

    customers: int
    mse: float
    rmse: float
    mae: float
    r2: float | None
    spearman: float
    gini: float | None
    bias: float | None
    decile_wape: float | None
    top_decile: float | None
    calibration: tuple[Decile, ...] = ()


class ChurnMetrics(msgspec.Struct, frozen=True):
    """P(no order in the horizon) against what happened; None = only one of the two happened.

    `f1` counts a customer as leaving from a probability of `threshold` on; `base_f1` is what it
    would be were everybody counted so. `mean_predicted` is the mean probability, to compare with
    `base_rate`. `calibration` has the deciles, lowest probability first; `calibration_error` is how
    far they are off on average, whichever way (expected calibration error).
    """

    customers: int
    base_rate: float
    roc_auc: float | None
    pr_auc: float | None
    brier: float
    f1: float | None = None
    base_f1: float | None = None
    threshold: float = CHURN_THRESHOLD
    calibration: tuple[Decile, ...] = ()
    mean_predicted: float | None = None
    calibration_error: float | None = None


def clv_metrics(actual: ArrayLike, predicted: ArrayLike) -> ClvMetrics:
    """All metrics of a CLV prediction; two arrays of shape (n,), n >= 1, finite."""
    y, p = _pair(actual, predicted)
    mse = float(mean_squared_error(y, p))
    revenue = float(y.sum())
    return ClvMetrics(
        customers=len(y),
        mse=mse,
        rmse=mse**0.5,
        mae=float(mean_absolute_error(y, p)),
        r2=float(r2_score(y, p)) if np.ptp(y) > 0 else None,
        spearman=spearman(y, p),
        gini=normalized_gini(y, p),
        bias=float(p.sum()) / revenue if revenue else None,
        decile_wape=decile_wape(y, p),
        top_decile=top_decile_capture(y, p),
        calibration=deciles(y, p),
    )


def churn_metrics(churned: ArrayLike, probability: ArrayLike) -> ChurnMetrics:
    """All metrics of a churn probability; `churned` is 0 or 1, both of shape (n,), n >= 1."""
    y, p = _pair(churned, probability)
    both = np.ptp(y) > 0
    tenths = deciles(y, p)
    return ChurnMetrics(
        customers=len(y),
        base_rate=float(y.mean()),
        roc_auc=float(roc_auc_score(y, p)) if both else None,
        pr_auc=float(average_precision_score(y, p)) if both else None,
        brier=float(brier_score_loss(y, p)) if both else float(np.mean((y - p) ** 2)),
        f1=float(f1_score(y, p >= CHURN_THRESHOLD, zero_division=0.0)) if both else None,
        base_f1=float(f1_score(y, np.ones(len(y)))) if both else None,
        calibration=tenths,
        mean_predicted=float(p.mean()),
        calibration_error=calibration_error(tenths),
    )


def spearman(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Rank correlation; 0 where either side is constant and so ranks nobody."""
    y, p = _pair(actual, predicted)
    if not np.ptp(y) or not np.ptp(p):
        return 0.0
    return float(spearmanr(y, p).statistic)


def normalized_gini(actual: ArrayLike, predicted: ArrayLike) -> float | None:
    """Concentration of actual value along the predicted ranking, over the best possible.

    The concentration index is 2 cov(y, rank) / (n mean(y)), with mean ranks where values tie
    (Lerman & Yitzhaki 1984), so that the factors cancel in the ratio. None where everybody
    brought the same and no ranking is better than another.
    """
    y, p = _pair(actual, predicted)
    centred = y - y.mean()
    best = float(centred @ rankdata(y))
    return float(centred @ rankdata(p)) / best if np.ptp(y) else None


def decile_wape(actual: ArrayLike, predicted: ArrayLike) -> float | None:
    """Absolute errors of the ten groups' sums, over all actual value; None where that is 0.

    Groups are tenths of the customers by prediction; with fewer than ten customers, one each.
    """
    y, p = _by_prediction(actual, predicted)
    revenue = float(y.sum())
    if not revenue:
        return None
    return float(np.abs(np.add.reduceat(p - y, decile_starts(len(y)))).sum()) / revenue


def deciles(actual: ArrayLike, predicted: ArrayLike) -> tuple[Decile, ...]:
    """The tenths of the customers by prediction, lowest first; with fewer than ten, one each."""
    y, p = _by_prediction(actual, predicted)
    starts = decile_starts(len(y))
    counts = np.diff([*starts, len(y)])
    means = [np.add.reduceat(values, starts) / counts for values in (p, y)]
    return tuple(
        Decile(count, float(said), float(was))
        for count, said, was in zip(counts.tolist(), *means, strict=True)
    )


def calibration_error(tenths: Sequence[Decile]) -> float:
    """Mean distance of what was predicted from what happened, of groups weighed by customers."""
    off = sum(tenth.customers * abs(tenth.predicted - tenth.actual) for tenth in tenths)
    return off / sum(tenth.customers for tenth in tenths)


def decile_starts(n: int) -> NDArray[np.int64]:
    """Where each tenth of n customers in a row begins."""
    return np.unique(np.arange(_DECILES) * n // _DECILES)


def top_decile_capture(actual: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of actual value brought by the top tenth by prediction; None where there is none."""
    y, _ = _by_prediction(actual, predicted)
    revenue = float(y.sum())
    count = max(1, round(len(y) / _DECILES))
    return float(y[-count:].sum()) / revenue if revenue else None


def _by_prediction(actual: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Both in ascending order of prediction, the actual values averaged over ties."""
    y, p = _pair(actual, predicted)
    values, group, counts = np.unique(p, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=y) / counts
    return np.repeat(means, counts), np.repeat(values, counts)


def _pair(actual: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    y = np.asarray(actual, dtype=np.float64)
    p = np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise ValueError(f"actual {y.shape} and predicted {p.shape} must be equal, (n,), n >= 1")
    return y, p
