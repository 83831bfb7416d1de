"""A small model of a made-up shop: for tests, and a first look, without orders of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from features.times import day_of, iso_day
from model.artifact import artifact
from model.artifact.artifact import Manifest, ManifestFields
from model.data.synthetic import Shop, generate
from model.data.training_rows import TrainingConfig, default_cutoff_day, population, training_set
from model.estimators.fit import fit
from model.evaluate.holdout import score_quantiles
from model.explain.shapley import typical

SHOP: Final = Shop(customers=400, days=540, arrival_days=360, seed=1)
_CANARIES: Final = 8


def save_ready_made(
    directory: str | Path, *, horizon_days: int = 90, currency: str = "USD"
) -> Manifest:
    """The manifest of the model trained and written to `directory`; the same at every call.

    Its customers order once in one to two months, for 40 on average; it takes about a second.
    """
    orders = generate(SHOP).orders
    config = TrainingConfig(horizon_days=horizon_days, currency=currency)
    cutoff_day = default_cutoff_day(orders, horizon_days)
    rows = training_set(orders, config, cutoff_day)
    known = population(orders, cutoff_day)
    model = fit(rows, config, known)
    return artifact.save(
        directory,
        model,
        ManifestFields(
            snapshot_every_days=config.snapshot_every_days,
            trained_from=iso_day(day_of(orders[0].ts_ms)),
            cutoff=iso_day(cutoff_day),
            training_rows=len(rows.X),
            training_customers=rows.customers,
            score_quantiles=score_quantiles(model.clv(known)),
            canary_features=known[:_CANARIES].tolist(),
            typical=typical(known).tolist(),
            metrics={},
            report="Trained on a made-up shop. Use it in tests, never on customers.",
        ),
    )
