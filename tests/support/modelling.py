"""A made-up shop and the model trained on it, made once for all tests that need one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from features.arrays import Floats
from features.events.orders import Order, OrderRules
from features.times import day_of
from model.artifact.manifest import ManifestFields
from model.backtest.panel import NEVER, Panel, Silences
from model.data.synthetic import Shop, generate
from model.data.training_rows import (
    Labels,
    TrainingConfig,
    default_cutoff_day,
    population,
    training_set,
)
from model.decide.learned import NOTHING_LEARNED
from model.decide.scoring import Scorer
from model.estimators.clv import ClvModel
from model.estimators.kinds import fit
from model.evaluate.holdout import score_quantiles
from model.explain.shapley import typical
from model.files.order_log import read_orders

SHOP = Shop(customers=400, days=420, arrival_days=300, seed=7)
CONFIG = TrainingConfig(horizon_days=60, snapshot_every_days=30)
_REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@cache
def orders() -> tuple[Order, ...]:
    return tuple(generate(SHOP).orders)


def cutoff_day() -> int:
    return default_cutoff_day(orders(), CONFIG.horizon_days)


@cache
def known() -> Floats:
    """Feature vectors of all customers at the cutoff."""
    return population(orders(), cutoff_day())


@cache
def model() -> ClvModel:
    return fit(training_set(orders(), CONFIG, cutoff_day()), CONFIG, known())


@cache
def scaled_model(factor: float) -> ClvModel:
    """A model that says the same times a factor: fitted on revenue times that factor."""
    rows, config = training_set(orders(), CONFIG, cutoff_day()), replace(CONFIG, kind="poisson")
    labels = Labels(rows.labels.revenue_minor * factor, rows.labels.churned)
    return fit(replace(rows, labels=labels), config, known())


@cache
def tree_scorer(kind: str, **options: int) -> Scorer:
    config = replace(CONFIG, kind=kind, options=options)
    rows = training_set(orders(), CONFIG, cutoff_day())
    by = Scorer.of(fit(rows, config, known()), kind, (0.0,) * 101)
    return replace(by, typical=tuple(typical(known()).tolist()))


def fields(of: ClvModel | None = None) -> ManifestFields:
    """What `save` asks for, without a report."""
    return ManifestFields(
        snapshot_every_days=30,
        trained_from="2023-01-01",
        cutoff="2023-12-27",
        training_rows=100,
        training_customers=50,
        score_quantiles=score_quantiles((of or model()).clv(known())),
        canary_features=known()[:5].tolist(),
        metrics={},
    )


@cache
def real_orders(name: str) -> tuple[Order, ...]:
    """A real log in event time; skips the test where the log is not there."""
    path = _REAL / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here; it is not part of the project")
    found = [row for row in read_orders([path], OrderRules()) if type(row) is Order]
    return tuple(sorted(found, key=lambda order: order.ts_ms))


def day_after_first(log: tuple[Order, ...], days: int) -> int:
    """The UTC day that lies `days` after the first order's."""
    return day_of(log[0].ts_ms) + days


def random_rows(seed: int, count: int) -> Floats:
    """Rows of the population, stretched and with signs turned: within and outside of training."""
    rng = np.random.default_rng(seed)
    rows = known()[rng.integers(len(known()), size=count)]
    stretched: Floats = np.round(rows * rng.choice([1.0, 1.0, 0.0, 3.7, 1e6], rows.shape), 3)
    return stretched


def a_panel() -> Panel:
    """Ada never comes back, ben does on day 30 and cleo on day 45; the horizon is 40 days."""
    silences = Silences(
        user=["ada", "ben", "cleo"],
        since=np.array([0, 0, 0]),
        until=np.array([NEVER, 30, 45]),
        reference=np.array([100.0, 50.0, 10.0]),
        orders=np.array([9, 1, 2]),
        median_gap=np.array([5.0, 0.0, 10.0]),
        counted=np.array([True, True, True]),
        horizon_days=40,
    )
    silence = np.repeat(np.arange(3), 4)
    day = np.tile(np.array([5, 15, 25, 35]), 3)
    churn = np.tile(np.array([0.1, 0.3, 0.5, 0.7]), 3)
    return Panel(
        silences=silences,
        silence=silence,
        day=day,
        clv=np.full(12, 5.0),
        reference=silences.reference[silence],
        churn=churn,
        index=np.full(12, -np.inf),
        alive=np.full(12, np.nan),
        spend=np.tile(np.array([8.0, 6.0, 4.0, 2.0]), 3),
        better=np.repeat(np.array([True, True, False]), 4),
        model=np.zeros(12, np.int64),
        learned=(NOTHING_LEARNED,),
        end_day=200,
    )
