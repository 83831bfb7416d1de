"""Folds for choosing between models, none of which trains on its own future.

A fold is a day of the past at which a model is trained as it would have been then, and the
customers of that day with what they did afterwards. Training rows of a fold are those whose whole
label window ends at or before the fold's day; the windows grow from fold to fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.training_rows import (
    MIN_CUSTOMERS,
    TooLittleData,
    TrainingConfig,
    TrainingSet,
    check,
    part,
)
from model.estimators.clv import ClvModel
from model.estimators.fit import examples, fit
from model.evaluate.metrics import ClvMetrics, clv_metrics


@dataclass(frozen=True, slots=True)
class Fold:
    """What a model trained at 00:00 UTC of `day` may learn from, and whom it is then judged by:
    all customers of that day."""

    day: int
    training: TrainingSet
    validation: TrainingSet

    def judge(self, config: TrainingConfig) -> ClvMetrics:
        """The metrics of the model that `config` asks for. Raises TrainingError."""
        model: ClvModel = fit(self.training, config, self.validation.X)
        judged = examples(self.validation, config, self.validation.X)
        return clv_metrics(judged.revenue, model.clv(judged.X))


def folds(rows: TrainingSet, config: TrainingConfig, count: int) -> list[Fold]:
    """At most `count` folds of a training set, the earliest first, their label windows one horizon
    apart where snapshots allow. Raises TooLittleData where not even one can be made."""
    horizon, step = config.horizon_days, config.snapshot_every_days
    apart = -(-horizon // step) * step
    found: list[Fold] = []
    for day in sorted(set(rows.day.tolist()), reverse=True):
        if len(found) == count:
            break
        if found and day > found[-1].day - apart:
            continue
        fold = _fold(rows, config, day)
        if fold is not None:
            found.append(fold)
    if not found:
        raise TooLittleData(
            f"a search needs snapshots to train on and, {horizon} days or more after them, one to"
            f" judge by; the log has {_span(rows)} days of snapshots before the cutoff: give a"
            " longer history or a shorter --horizon, or train without --search"
        )
    return found[::-1]


def _fold(rows: TrainingSet, config: TrainingConfig, day: int) -> Fold | None:
    """The fold of a day; None where there is too little to train on or to judge by."""
    training = part(rows, rows.day <= day - config.horizon_days)
    validation = part(rows, rows.day == day)
    if len(validation.X) < MIN_CUSTOMERS or not validation.labels.revenue_minor.any():
        return None
    try:
        check(training, config)
    except TooLittleData:
        return None
    return Fold(day, training, validation)


def _span(rows: TrainingSet) -> int:
    days: Sequence[int] = np.unique(rows.day).tolist()
    return days[-1] - days[0] if days else 0
