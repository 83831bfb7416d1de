"""SHAP values of a model made of trees: what each single feature did, where the package is there.

`model.explain.shapley` shares a CLV out among groups, exactly and for any model. Trees allow more
in little time: the Shapley values of all their features (Lundberg et al. 2020, "From local
explanations to global understanding with explainable AI for trees"), against the same typical
customer. Columns are then swapped one by one, so mixtures may be customers that cannot be; take
groups for the sums and features for the detail. Needs the extra `explain` (the package shap).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np

from features.arrays import Floats
from model.decide.scoring import Scorer
from model.estimators.clv import ClvModel, widened


class FeaturePart(msgspec.Struct, frozen=True):
    """What a feature did to a customer's CLV, compared with the typical customer's: an `amount` in
    major units added, or a `factor` it was multiplied by, as the kind of model has it; the other is
    None. Before the CLV is rounded and bounded."""

    feature: str
    amount: float | None
    factor: float | None


def installed() -> bool:
    """Whether the extra `explain` is there."""
    return find_spec("shap") is not None


def by_feature(scorer: Scorer, X: Floats) -> list[tuple[FeaturePart, ...]] | None:
    """Of each row of X, shape (n, k), what all features did, the largest first; those that did
    nothing are left out. None for a model that is not made of trees on features (a rotation, a
    hurdle), that names no typical customer, or where shap is not installed."""
    found = _trees(scorer)
    if found is None or not installed():
        return None
    steps, trees, names, unit = found
    # Half a second to import, which only those who ask should wait for.
    import shap
    from sklearn.ensemble import HistGradientBoostingRegressor

    reference = steps.transform(np.array([scorer.typical]))
    rows = steps.transform(widened(X, len(scorer.typical)))
    explainer = shap.TreeExplainer(trees, reference, feature_perturbation="interventional")
    values = np.asarray(explainer.shap_values(rows), np.float64)
    multiplies = isinstance(trees, HistGradientBoostingRegressor)
    return [_parts(names, row, unit, multiplies) for row in values]


def _trees(scorer: Scorer) -> tuple[Any, Any, list[str], float] | None:
    """Steps before the trees, the trees, the names of the columns that reach them, and the unit."""
    model = scorer.model
    if not scorer.typical or not isinstance(model, ClvModel):
        return None
    # Here, as a worker whose model has no trees need not wait for them.
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

    from model.estimators.pipelines import PipelineValue

    value = model.value
    if not isinstance(value, PipelineValue) or not value.unit:
        return None
    steps, trees = value.pipeline[:-1], value.pipeline[-1]
    known = isinstance(trees, RandomForestRegressor | HistGradientBoostingRegressor)
    if not known or "rotate" in steps.named_steps:
        return None
    own = len(model.feature_names) - len(model.attributes)
    width = steps["scale"].n_features_in_
    # Columns that preparation makes of attributes come after the stream's own.
    names = [*model.feature_names[:own], *["attributes"] * (width - own)]
    if "select" in steps.named_steps:
        names = [names[at] for at in np.flatnonzero(steps["select"].get_support())]
    return steps, trees, names, value.unit


def _parts(
    names: list[str], values: Floats, unit: float, multiplies: bool
) -> tuple[FeaturePart, ...]:
    sums: dict[str, float] = {}
    for name, value in zip(names, values.tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + value
    ordered = sorted(sums.items(), key=lambda item: -abs(item[1]))
    return tuple(
        FeaturePart(name, None, float(np.exp(value)))
        if multiplies
        else FeaturePart(name, value * unit, None)
        for name, value in ordered
        if value
    )
