"""From orders to a model ready to be saved, with everything its manifest says of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy as np

from features.arrays import Floats
from features.events.orders import Order
from features.facts.fold import uncounted
from features.facts.ledger import MAX_EVENTS
from features.times import Calendar, iso_day
from model.artifact import artifact
from model.artifact.manifest import Manifest, ManifestFields
from model.data.attributes import Attributes
from model.data.fingerprint import data_of
from model.data.synthetic import Shop, generate
from model.data.training_rows import (
    TrainingConfig,
    TrainingSet,
    default_cutoff_day,
    known_states,
    population_of,
    training_set,
)
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit
from model.estimators.risk import Risk
from model.evaluate.holdout import (
    Evaluation,
    as_json,
    evaluate,
    score_quantiles,
)
from model.evaluate.learn import learn
from model.evaluate.rolling import rolled
from model.explain.shapley import typical
from model.files.columns import OrderColumns
from model.monitor.result import DriftReference
from model.monitor.weekly import reference
from model.report.backtest_text import learned_text
from model.report.evaluation_text import table
from model.training.search import SearchHistory

Choose: TypeAlias = Callable[[TrainingSet, TrainingConfig], SearchHistory]

_CANARIES: Final = 8
# A model is fitted to half as many rows at most, and its risk to fewer.
_TAUGHT_ORDERS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """A model, what `artifact.save` asks to know of it, its holdout report, None where the log ends
    before the horizon does, and the search that chose its kind, None where there was none."""

    model: ClvModel
    fields: ManifestFields
    report: Evaluation | None
    history: SearchHistory | None


def made(
    log: Sequence[Order],
    config: TrainingConfig,
    cutoff_day: int,
    choose: Choose | None = None,
    earlier: Sequence[int] = (),
) -> Made:
    """The model of what was known at 00:00 UTC of `cutoff_day`, evaluated on what came after it.

    `log` sorted by event time. `choose` searches for the kind and options, which are else those of
    the config. At the days `earlier`, oldest first, such a model is trained as well and evaluated
    for the manifest. Raises TrainingError and EvaluationError.
    """
    taught, note = _taught(log)
    rows = training_set(taught, config, cutoff_day)
    history = None if choose is None else choose(rows, config)
    if history is not None:
        config = replace(config, kind=history.best.kind, options=history.best.options)
    states = known_states(taught, cutoff_day, config.calendar)
    known = population_of(states, cutoff_day, config.attributes)
    model = fit(rows, config, known)
    scores = model.clv(known)
    floor = float(np.percentile(scores, Policy().floor_percentile))
    risk, learned = learn(states, cutoff_day, config.horizon_days, model.clv, floor)
    report = _report(taught, model, risk, cutoff_day, config.attributes)
    fields = ManifestFields(
        snapshot_every_days=config.snapshot_every_days,
        trained_from=iso_day(config.calendar.day_of(log[0].ts_ms)),
        cutoff=iso_day(cutoff_day),
        training_rows=len(rows.X),
        training_customers=rows.customers,
        score_quantiles=score_quantiles(scores),
        risk=risk,
        learned=learned,
        canary_features=_canaries(known, scores).tolist(),
        typical=typical(known).tolist(),
        reference=_reference(taught, model, cutoff_day, scores, config.attributes),
        metrics={} if report is None else as_json(report),
        report=_uncounted(_before(log, cutoff_day, config.calendar), config)
        + note
        + f"{_no_holdout(config.horizon_days) if report is None else table(report)}\n\n"
        f"Warnings. {learned_text(learned, Policy())}",
        search={} if history is None else msgspec.to_builtins(history),
        data=data_of(_before(log, cutoff_day, config.calendar)),
        free_orders=config.free_orders,
        cutoffs=[as_json(evaluation) for evaluation in _at(taught, config, earlier)],
    )
    return Made(model, fields, report, history)


def _taught(log: Sequence[Order]) -> tuple[Sequence[Order], str]:
    """The orders that are learned from: of a long log those of a part of the customers, chosen by a
    hash of their ids; and what is to be said of that."""
    every = -(-len(log) // _TAUGHT_ORDERS)
    if every <= 1:
        return log, ""
    columns = OrderColumns.of(log)
    # Other bits than those by which rows are thinned, which would thin nothing any more.
    taught = columns.of_users((columns.drawn() >> 16) % every == 0)
    note = (
        f"Learned from one in {every} customers, chosen by a hash of their ids:\n"
        f"{len(taught):,} of {len(log):,} orders.\n\n"
    )
    return taught, note


def _report(
    log: Sequence[Order],
    model: ClvModel,
    risk: Risk | None,
    cutoff_day: int,
    attributes: Attributes | None,
) -> Evaluation | None:
    if cutoff_day + model.horizon_days > model.calendar.day_of(log[-1].ts_ms) + 1:
        return None
    return evaluate(log, model, cutoff_day, model.horizon_days, attributes, risk)


def _reference(
    log: Sequence[Order],
    model: ClvModel,
    cutoff_day: int,
    scores: Floats,
    attributes: Attributes | None,
) -> DriftReference | None:
    """What monitoring compares with, from the orders before the cutoff."""
    # Without a version: `save` finds it from the model's numbers.
    scorer = Scorer.of(model, quantiles=score_quantiles(scores), attributes=attributes)
    return reference(_before(log, cutoff_day, model.calendar), scorer, cutoff_day)


def _before(log: Sequence[Order], day: int, calendar: Calendar) -> Sequence[Order]:
    return log[: bisect_left(log, calendar.start_ms(day), key=lambda order: order.ts_ms)]


def _at(log: Sequence[Order], config: TrainingConfig, days: Sequence[int]) -> list[Evaluation]:
    return rolled(log, config, days, resamples=0).report.cutoffs if days else []


def _uncounted(log: Sequence[Order], config: TrainingConfig) -> str:
    lost = uncounted(log, config.calendar)
    if not lost:
        return ""
    return (
        f"{lost:,} orders are not counted: of one customer no more than {MAX_EVENTS:,} are\n"
        "remembered at once, and the rest cannot be told from repeats. Split such an account.\n\n"
    )


def _no_holdout(horizon_days: int) -> str:
    return (
        f"Not evaluated: the log ends less than {horizon_days} days after the cutoff.\n"
        "Train with an earlier --cutoff to see how good such a model is."
    )


def _canaries(known: Floats, scores: Floats) -> Floats:
    """A few customers from the lowest score to the highest, for the manifest's golden vectors."""
    ranks = np.linspace(0, len(scores) - 1, min(_CANARIES, len(scores))).round().astype(int)
    canaries: Floats = known[np.argsort(scores, kind="stable")[ranks]]
    return canaries


# Of the model for tests and a first look, without orders of one's own.
SHOP: Final = Shop(customers=400, days=540, arrival_days=360, seed=1)


def save_ready_made(
    directory: str | Path, *, horizon_days: int = 90, currency: str = "USD"
) -> Manifest:
    """The manifest of the model trained and written to `directory`; the same at every call.

    Its customers order once in one to two months, for 40 on average; it takes a few seconds.
    """
    orders = generate(SHOP).orders
    config = TrainingConfig(horizon_days=horizon_days, currency=currency)
    result = made(orders, config, default_cutoff_day(orders, horizon_days))
    report = "Trained on a made-up shop. Use it in tests, never on customers."
    fields = msgspec.structs.replace(result.fields, report=report)
    return artifact.save(directory, result.model, fields)
