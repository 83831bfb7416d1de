"""A search for the kind and options that do best at several days of the past, one after another.

A fold is a day of the past at which a model is trained as it would have been then, and the
customers of that day with what they did afterwards. Training rows of a fold are those whose whole
label window ends at or before the fold's day; the windows grow from fold to fold.

Trials are judged by three metrics at once: the geometric mean of MAE, RMSE and 1 - normalized Gini,
each divided by that of the default model on the same fold. Below 1 is better than the default. Not
by MAE alone: nothing beats predicting 0 for everybody there, where most customers bring nothing;
its Gini is 0.

A journal beside the output has a line for every trial that ended. The same search goes on from it,
and does a trial again that was interrupted.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from features.arrays import Floats
from features.times import iso_day
from model.data.training_rows import (
    MIN_CUSTOMERS,
    TooLittleData,
    TrainingConfig,
    TrainingError,
    TrainingSet,
    check,
    part,
)
from model.errors import ModelError
from model.estimators.clv import ClvModel
from model.estimators.kinds import DEFAULT, KINDS, Setting, examples, fit, options_of
from model.evaluate.metrics import ClvMetrics, clv_metrics

CRITERION: Final = (
    "geometric mean over folds of MAE, RMSE and 1 - normalized Gini, relative to the default model"
)
DEFAULT_TRIALS: Final = 30
DEFAULT_FOLDS: Final = 3
# Metrics this near to perfect are equally good: a ratio of nearly nothing would outweigh the rest.
_LEAST: Final = 1e-3

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Fold:
    """What a model trained at 00:00 UTC of `day` may learn from, and whom it is then judged by:
    all customers of that day."""

    day: int
    training: TrainingSet
    validation: TrainingSet

    def judge(self, config: TrainingConfig) -> ClvMetrics:
        """The metrics of the model that `config` asks for. Raises TrainingError."""
        return clv_metrics(*self.predicted(config))

    def predicted(self, config: TrainingConfig) -> tuple[Floats, Floats]:
        """What the customers brought, and what that model said they would, in major units, shape
        (n,). Raises TrainingError."""
        model: ClvModel = fit(self.training, config, self.validation.X)
        judged = examples(self.validation, config, self.validation.X)
        return judged.revenue, model.clv(judged.X)


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


class SearchError(ModelError):
    """The journal beside the output is not of this search: remove it, or name another --out."""


class Trial(msgspec.Struct, frozen=True):
    """A kind of model with all of its options."""

    kind: str
    options: dict[str, Setting]


class FoldScore(msgspec.Struct, frozen=True):
    """What a trial reached at one day: money in major units; `gini` is normalized."""

    day: str
    mae: float
    rmse: float
    gini: float


class TrialOutcome(msgspec.Struct, frozen=True):
    """A trial that ended: with scores of every fold, or with the reason why it has none."""

    kind: str
    options: dict[str, Setting]
    folds: list[FoldScore] = []
    failed: str = ""
    seconds: float = 0.0


class RankedTrial(msgspec.Struct, frozen=True):
    """An outcome and its criterion: 1 is as good as the default model, less is better. `mae`,
    `rmse` and `gini` are means over the folds. `high`, where it was asked for, is what the
    criterion may be by chance."""

    kind: str
    options: dict[str, Setting]
    criterion: float | None
    mae: float | None
    rmse: float | None
    gini: float | None
    failed: str = ""
    high: float | None = None


class SearchHistory(msgspec.Struct, frozen=True):
    """What was tried, best first, and at which days it was judged."""

    criterion: str
    days: list[str]
    trials: list[RankedTrial]

    @property
    def best(self) -> Trial:
        return Trial(self.trials[0].kind, self.trials[0].options)


def plan(count: int, seed: int, kind: str | None = None) -> list[Trial]:
    """The trials of a search, `count` of them or as many as there are: the default model first,
    then every kind (or `kind` alone) as it comes, then options drawn at random from their
    candidates. A longer plan of the same seed begins with the shorter one."""
    kinds = list(KINDS) if kind is None else [kind]
    trials = [Trial(name, options_of(name, {})) for name in dict.fromkeys((DEFAULT, *kinds))]
    rng = np.random.default_rng(seed)
    fruitless = 0
    # A kind with few options is soon exhausted.
    while len(trials) < count and fruitless < 200:
        drawn = _drawn(kinds[int(rng.integers(len(kinds)))], rng)
        fruitless = fruitless + 1 if drawn in trials else 0
        if not fruitless:
            trials.append(drawn)
    return trials[: max(count, 1)]


def search(
    rows: TrainingSet,
    config: TrainingConfig,
    trials: Sequence[Trial],
    journal: Path,
    *,
    fold_count: int = DEFAULT_FOLDS,
    progress: Progress = lambda trials: None,
) -> SearchHistory:
    """The trials, best first. Those in the journal are not done again; it may be removed after.

    Raises TooLittleData where the log is too short for a fold, SearchError for a journal of
    another search.
    """
    split = folds(rows, config, fold_count)
    # The default is what the others are measured by, and so is always there.
    wanted = [Trial(DEFAULT, options_of(DEFAULT, {})), *trials]
    done = _Journal(journal, _identity(split, config))
    outcomes: list[TrialOutcome] = []
    for trial in dict.fromkeys(map(_key, wanted)):
        outcome = done.outcomes.get(trial)
        if outcome is None:
            outcome = _tried(msgspec.json.decode(trial, type=Trial), split, config)
            done.append(outcome)
        outcomes.append(outcome)
        progress(1)
    return SearchHistory(CRITERION, [iso_day(fold.day) for fold in split], _ranked(outcomes))


def _drawn(kind: str, rng: np.random.Generator) -> Trial:
    options = KINDS[kind].options
    drawn = {
        name: option.candidates[int(rng.integers(len(option.candidates)))]
        for name, option in options.items()
    }
    if not drawn.get("select"):
        # Without a selection it makes no difference by what.
        drawn.update({"select_by": "kbest"} if "select_by" in options else {})
    return Trial(kind, drawn)


def _tried(trial: Trial, split: Sequence[Fold], config: TrainingConfig) -> TrialOutcome:
    started = time.monotonic()
    asked = replace(config, kind=trial.kind, options=trial.options)
    try:
        scores = [_score(fold, fold.judge(asked)) for fold in split]
    except TrainingError as error:
        return TrialOutcome(trial.kind, trial.options, failed=str(error))
    seconds = round(time.monotonic() - started, 2)
    return TrialOutcome(trial.kind, trial.options, scores, seconds=seconds)


def _score(fold: Fold, metrics: ClvMetrics) -> FoldScore:
    return FoldScore(iso_day(fold.day), metrics.mae, metrics.rmse, metrics.gini or 0.0)


def _ranked(outcomes: Sequence[TrialOutcome]) -> list[RankedTrial]:
    """Best first; of equals the one tried first, failures last. `outcomes[0]` is the default."""
    reference = outcomes[0].folds
    ranked = [_rank(outcome, reference) for outcome in outcomes]
    return sorted(
        ranked, key=lambda one: math.inf if one.criterion is None else round(one.criterion, 9)
    )


def _rank(outcome: TrialOutcome, reference: Sequence[FoldScore]) -> RankedTrial:
    kind, options, scores = outcome.kind, outcome.options, outcome.folds
    if not scores:
        return RankedTrial(kind, options, None, None, None, None, outcome.failed)
    logs = [
        math.log(found / expected)
        for one, other in zip(scores, reference or scores, strict=True)
        for found, expected in zip(_losses(one), _losses(other), strict=True)
    ]
    means = np.mean([(score.mae, score.rmse, score.gini) for score in scores], axis=0).tolist()
    return RankedTrial(kind, options, math.exp(sum(logs) / len(logs)), *means)


def losses(mae: Floats, rmse: Floats, gini: Floats) -> Floats:
    """What the criterion is made of, shape (3, ...); less is better."""
    return np.maximum(np.stack([mae, rmse, 1.0 - gini]), _LEAST)


def _losses(score: FoldScore) -> list[float]:
    found: list[float] = losses(*np.array([score.mae, score.rmse, score.gini])).tolist()
    return found


def _key(trial: Trial) -> bytes:
    return msgspec.json.encode(trial, order="sorted")


def _identity(split: Sequence[Fold], config: TrainingConfig) -> str:
    """A name for what trials are judged by: rows, labels, days, horizon."""
    digest = hashlib.sha256(repr((config.horizon_days, config.currency)).encode())
    digest.update(repr((config.half_life_days, [fold.day for fold in split])).encode())
    for fold in split:
        for rows in (fold.training, fold.validation):
            for array in (rows.X, rows.labels.revenue_minor, rows.labels.churned, rows.day):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class _Journal:
    """Outcomes by trial, on disk as they come: one JSON object a line, the first names the
    search."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.outcomes: dict[bytes, TrialOutcome] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        # A line that was cut off in the middle is as good as never written.
        whole = [line for line in lines if line.endswith(b"\n")]
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            self._write({"search": identity})
            return
        if sum(map(len, whole)) < sum(map(len, lines)):
            os.truncate(path, sum(map(len, whole)))
        self._read(whole, identity)

    def append(self, outcome: TrialOutcome) -> None:
        self._write(outcome)

    def _read(self, lines: Sequence[bytes], identity: str) -> None:
        try:
            header = msgspec.json.decode(lines[0], type=dict[str, str])
            found = [msgspec.json.decode(line, type=TrialOutcome) for line in lines[1:]]
        except (ValueError, RecursionError) as error:
            raise SearchError(
                f"{self.path} is not a search journal ({error}); remove it or use another --out"
            ) from None
        if header.get("search") != identity:
            raise SearchError(
                f"{self.path} is the journal of another search, with other orders, horizon or"
                " folds; remove it or use another --out"
            )
        for outcome in found:
            self.outcomes[_key(Trial(outcome.kind, outcome.options))] = outcome

    def _write(self, document: Any) -> None:
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(document) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def journal_of(out: Path) -> Path:
    """The journal beside a model's directory."""
    return out.with_name(out.name + ".search.jsonl")


def table(history: SearchHistory, most: int = 10) -> str:
    """The best trials as text."""
    lines = [
        f"Search: {len(history.trials)} trials, judged at {', '.join(history.days)}",
        f"{'criterion':>10}{'MAE':>10}{'RMSE':>10}{'Gini':>8}  kind and options",
    ]
    lines += [_line(one) for one in history.trials[:most]]
    return "\n".join(lines)


def _line(one: RankedTrial) -> str:
    changed = {
        name: value
        for name, value in one.options.items()
        if value != KINDS[one.kind].options[name].default
    }
    named = " ".join([one.kind, *(f"{name}={value}" for name, value in changed.items())])
    if one.criterion is None:
        return f"{'-':>10}{'-':>10}{'-':>10}{'-':>8}  {named}: {one.failed}"
    return f"{one.criterion:>10.4f}{one.mae:>10.2f}{one.rmse:>10.2f}{one.gini:>8.3f}  {named}"
