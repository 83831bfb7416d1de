"""A kind of model judged at several cutoffs, each time fitted on what was known then, and on a
model as it is judged at one.

A model trained once is judged once. Whether its kind can be trusted next quarter shows when it is
trained again and again on a history that ends earlier, and judged by what came next: the label
windows of training end at or before 00:00 of each cutoff, the customers' futures begin there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import msgspec

from features.events.orders import Order
from features.times import iso_day
from model.data.attributes import Attributes
from model.data.training_rows import (
    TooLittleData,
    TrainingConfig,
    known_states,
    population_of,
    training_set,
)
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit
from model.estimators.risk import Risk
from model.evaluate.bootstrap import RESAMPLES, SEED, Difference, Predictions, differences
from model.evaluate.holdout import (
    MODEL,
    Evaluation,
    EvaluationError,
    Holdout,
    evaluation_of,
    predicted,
)
from model.evaluate.learn import learned_risk

_CHURN_MEANS: Final = (
    "base_rate", "mean_predicted", "roc_auc", "pr_auc", "brier", "calibration_error", "f1",
    "base_f1",
)  # fmt: skip
_CLV_MEANS: Final = (
    "mse", "rmse", "mae", "r2", "spearman", "gini", "bias", "decile_wape", "top_decile",
)  # fmt: skip


class Rolling(msgspec.Struct, frozen=True):
    """The reports of all cutoffs, oldest first; their means, and differences to the baselines.

    `differences` are of the means, by baseline and metric (`model.evaluate.bootstrap`); those of
    single cutoffs are in `by_cutoff`, in the order of `cutoffs`. A metric that is not defined at
    one of the cutoffs has no mean. `refitted`: retrained for each cutoff, on what was known
    then.
    """

    kind: str
    options: dict[str, Any]
    refitted: bool
    horizon_days: int
    currency: str
    cutoffs: list[Evaluation]
    mean: dict[str, dict[str, float | None]]
    churn_mean: dict[str, float | None]
    differences: dict[str, dict[str, Difference]]
    by_cutoff: list[dict[str, dict[str, Difference]]]
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Rolled:
    """The report, and what its plots need: the holdouts, and the model of the newest one."""

    report: Rolling
    holdouts: list[Holdout]
    model: ClvModel


def cutoff_days(
    orders: Sequence[Order],
    config: TrainingConfig,
    count: int,
    every_days: int,
    newest: int | None = None,
) -> list[int]:
    """The days of `count` cutoffs, `every_days` apart, oldest first; the newest, if not given, is
    one horizon before the log ends. Raises EvaluationError where the log is too short for them."""
    if not orders:
        raise EvaluationError("the log has no orders; name one that has")
    horizon = config.horizon_days
    day_of = config.calendar.day_of
    first, end = day_of(orders[0].ts_ms), day_of(orders[-1].ts_ms) + 1
    newest = end - horizon if newest is None else newest
    # As `training_set` has it: one label window before the oldest cutoff, and a while before that.
    least = horizon + min(config.snapshot_every_days, horizon)
    possible = max(0, (newest - first - least) // every_days + 1)
    if possible < count:
        needed = least + horizon + (count - 1) * every_days
        if count == 1:
            what, rest = f"a cutoff with a horizon of {horizon} days needs", ""
        else:
            what = f"{count} cutoffs every {every_days} days with a horizon of {horizon} days need"
            rest = (
                f"; it is enough for --cutoffs {possible}"
                if possible
                else f"; one cutoff needs {least + horizon} days"
            )
        there_are = max(0, newest + horizon - first)
        raise EvaluationError(f"{what} a log of {needed} days; this one has {there_are}{rest}")
    return [newest - every_days * back for back in reversed(range(count))]


def rolled(
    orders: Sequence[Order],
    config: TrainingConfig,
    days: Sequence[int],
    progress: Callable[[], object] = lambda: None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Rolled:
    """A model of `config` trained and judged at each of the days; `orders` sorted by event time.

    `progress` is called when a cutoff is done. Raises EvaluationError, naming the cutoff at which
    there are too few customers.
    """
    holdouts = []
    for day in days:
        try:
            rows = training_set(orders, config, day)
        except TooLittleData as error:
            later = sum(one > day for one in days)
            remedy = f"; or try --cutoffs {later}" if later else ""
            raise EvaluationError(f"cutoff {iso_day(day)}: {error}{remedy}") from None
        states = known_states(orders, day, config.calendar)
        model = fit(rows, config, population_of(states, day, config.attributes))
        risk = learned_risk(states, day, config.horizon_days)
        holdouts.append(predicted(orders, model, day, config.horizon_days, config.attributes, risk))
        progress()
    return _rolled(holdouts, model, True, resamples, seed)


def as_it_is(
    orders: Sequence[Order],
    model: ClvModel,
    cutoff_day: int,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    attributes: Attributes | None = None,
    risk: Risk | None = None,
) -> Rolled:
    """A trained model judged at one cutoff, not before its own. Raises EvaluationError."""
    holdout = predicted(orders, model, cutoff_day, model.horizon_days, attributes, risk)
    return _rolled([holdout], model, False, resamples, seed)


def _rolled(
    holdouts: Sequence[Holdout], model: ClvModel, refitted: bool, resamples: int, seed: int
) -> Rolled:
    reports = [evaluation_of(holdout) for holdout in holdouts]
    found = differences(
        [Predictions(h.users, h.actual, h.predictions) for h in holdouts], MODEL, resamples, seed
    )
    report = Rolling(
        kind=model.kind,
        options=dict(model.options),
        refitted=refitted,
        horizon_days=model.horizon_days,
        currency=model.currency,
        cutoffs=reports,
        mean=_means(reports),
        churn_mean={
            name: _mean([getattr(report.churn, name) for report in reports])
            for name in _CHURN_MEANS
        },
        differences=found.overall,
        by_cutoff=found.by_cutoff,
        resamples=resamples,
        seed=seed,
    )
    return Rolled(report, list(holdouts), model)


def _means(reports: Sequence[Evaluation]) -> dict[str, dict[str, float | None]]:
    """Of each predictor that is there at all cutoffs."""
    everywhere = [name for name in reports[-1].clv if all(name in report.clv for report in reports)]
    return {
        name: {
            metric: _mean([getattr(report.clv[name], metric) for report in reports])
            for metric in _CLV_MEANS
        }
        for name in everywhere
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if len(there) == len(values) else None
