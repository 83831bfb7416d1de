"""What single features did in models made of trees: the parts of a prediction, to the last one."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from math import prod

import numpy as np
import pytest

from features.columns.vector import FEATURE_NAMES
from model.decide.scoring import Scorer
from model.explain import tree_shap
from model.explain.tree_shap import by_feature
from tests.support import modelling
from tests.support.modelling import tree_scorer

needs_shap = pytest.mark.skipif(
    find_spec("shap") is None, reason="the extra 'explain' is not installed"
)


def _baseline(by: Scorer) -> float:
    return float(by.model.clv(np.array([by.typical]))[0])


@needs_shap
@pytest.mark.parametrize("select", [0, 9])
def test_amounts_of_a_forest_add_up_to_the_difference_from_the_typical_customer(
    select: int,
) -> None:
    by = tree_scorer("forest", trees=20, select=select)
    X = modelling.known()[:25]
    found = by_feature(by, X)
    assert found is not None
    for clv, parts in zip(by.model.clv(X), found, strict=True):
        assert {part.factor for part in parts} <= {None}
        assert _baseline(by) + sum(part.amount or 0 for part in parts) == pytest.approx(
            clv, abs=0.02
        )
        assert not select or len(parts) <= select
        sizes = [abs(part.amount or 0) for part in parts]
        assert sizes == sorted(sizes, reverse=True)


@needs_shap
def test_factors_of_boosting_multiply_to_the_ratio_to_the_typical_customer() -> None:
    by = tree_scorer("boosting", max_iter=30)
    X = modelling.known()[:25]
    found = by_feature(by, X)
    assert found is not None
    for clv, parts in zip(by.model.clv(X), found, strict=True):
        assert _baseline(by) * prod(part.factor or 0 for part in parts) == pytest.approx(
            clv, rel=2e-3, abs=0.02
        )
        assert {part.feature for part in parts} <= set(FEATURE_NAMES)


@needs_shap
def test_models_that_are_no_trees_on_features_have_none() -> None:
    X = modelling.known()[:2]
    assert by_feature(tree_scorer("linear"), X) is None
    assert by_feature(tree_scorer("boosting", max_iter=5, pca=4), X) is None
    assert by_feature(replace(tree_scorer("boosting", max_iter=30), typical=()), X) is None


def test_without_the_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_shap, "find_spec", lambda name: None)
    assert by_feature(tree_scorer("boosting", max_iter=30), modelling.known()[:2]) is None
