"""The kind of model that `--kind auto` trains: another than the default only where it is better at
days of the past by more than chance.

Every kind that is saved as parameters, with the options that it has unless told otherwise, is
judged at the folds of a search, by its criterion. How far that may be chance, customers drawn again
say; the same customers come at every fold, so that folds do not make it surer than one does, and of
several kinds one is more likely to look better than it is (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from statistics import NormalDist
from typing import Final

import numpy as np

from features.arrays import Floats
from features.times import iso_day
from model.data.training_rows import TrainingConfig, TrainingError, TrainingSet
from model.estimators.kinds import DEFAULT, KINDS, options_of
from model.evaluate.bootstrap import METRICS, SEED, SortedPredictions
from model.training.search import (
    CRITERION,
    DEFAULT_FOLDS,
    Fold,
    RankedTrial,
    SearchHistory,
    folds,
    losses,
)

AUTO: Final = "auto"
_RESAMPLES: Final = 200
_BY_CHANCE: Final = 0.025
# Customers of a fold that are drawn from; of more a part says as much.
_CUSTOMERS: Final = 20_000
_SHOWN: Final = tuple(METRICS.index(name) for name in ("mae", "rmse", "gini"))


def auto(
    rows: TrainingSet, config: TrainingConfig, fold_count: int = DEFAULT_FOLDS
) -> SearchHistory:
    """All kinds as judged, the one to train first. Raises TooLittleData where the log is too short
    for a fold."""
    split = folds(rows, config, fold_count)
    names = [DEFAULT, *(n for n, kind in KINDS.items() if kind.plain and n != DEFAULT)]
    judged: dict[str, Floats] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            asked = replace(config, kind=name, options=options_of(name, {}))
            judged[name] = np.stack([_drawn(fold, asked) for fold in split])
        except TrainingError as error:
            failed[name] = str(error)
    if DEFAULT not in judged:
        raise TrainingError(failed[DEFAULT])
    limit = NormalDist().inv_cdf(1.0 - _BY_CHANCE / max(len(names) - 1, 1))
    told = [_told(name, judged, limit) for name in judged]
    told += [_failed(name, why) for name, why in failed.items()]
    ranked = sorted(told, key=lambda one: math.inf if one.criterion is None else one.criterion)
    surely = [one for one in ranked if one.high is not None and one.high < 1.0]
    first = surely[0] if surely else next(one for one in told if one.kind == DEFAULT)
    others = [one for one in ranked if one is not first]
    return SearchHistory(CRITERION, [iso_day(fold.day) for fold in split], [first, *others])


def _drawn(fold: Fold, config: TrainingConfig) -> Floats:
    """MAE, RMSE and Gini of all customers of a fold, and of each resample, the same for every
    kind; shape (1 + resamples, 3)."""
    actual, predicted = fold.predicted(config)
    every = 1 + len(actual) // _CUSTOMERS
    actual, predicted = actual[::every], predicted[::every]
    rows = SortedPredictions(actual, predicted)
    rng, n = np.random.default_rng((SEED, fold.day)), len(actual)
    draws = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(_RESAMPLES))
    found = [rows.metrics(counts) for counts in chain([np.ones(n, np.int64)], draws)]
    return np.asarray(np.nan_to_num(np.array(found)[:, _SHOWN]), np.float64)


def _told(name: str, judged: Mapping[str, Floats], limit: float) -> RankedTrial:
    """A kind beside the default; `high` is what its criterion may be by chance."""
    ratio = _logs(judged[name]) - _logs(judged[DEFAULT])
    log, spread = float(ratio[:, 0].mean()), float(ratio[:, 1:].std(axis=1).mean())
    mae, rmse, gini = judged[name][:, 0].mean(axis=0).tolist()
    high = None if name == DEFAULT else round(math.exp(log + limit * spread), 6)
    return RankedTrial(
        name, options_of(name, {}), round(math.exp(log), 6), mae, rmse, gini, high=high
    )


def _failed(name: str, why: str) -> RankedTrial:
    return RankedTrial(name, options_of(name, {}), None, None, None, None, why)


def _logs(metrics: Floats) -> Floats:
    """The logarithm of the geometric mean of the three losses, of each fold and resample."""
    return np.asarray(np.log(losses(*np.moveaxis(metrics, -1, 0))).mean(axis=0))


def told(history: SearchHistory) -> str:
    """What was chosen, and why, as text."""
    best = history.trials[0]
    lines = [f"Kind {best.kind}, of {len(history.trials)} judged at {', '.join(history.days)}:"]
    for one in history.trials:
        if one.criterion is None:
            lines.append(f"  {one.kind:<10} {one.failed}")
        elif one.high is None:
            lines.append(f"  {one.kind:<10} the default, by which the others are measured")
        else:
            chance = "" if one.high < 1.0 else ": not surely better"
            lines.append(
                f"  {one.kind:<10} {one.criterion:.3f} of its errors, by chance up to"
                f" {one.high:.3f}{chance}"
            )
    return "\n".join(lines)
