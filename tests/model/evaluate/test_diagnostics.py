"""What lies behind the metrics: importances, dependence and curves that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import auc

from features.columns.catalog import FEATURES
from features.columns.vector import FEATURE_NAMES
from model.evaluate.diagnostics import BEST, Diagnostics, diagnostics, gain
from model.evaluate.holdout import MODEL, Holdout, predicted
from model.evaluate.metrics import normalized_gini, top_decile_capture
from model.explain.groups import consistent
from tests.support import modelling


@cache
def _holdout() -> Holdout:
    return predicted(modelling.orders(), modelling.model(), modelling.cutoff_day(), 60)


@cache
def _found() -> Diagnostics:
    return diagnostics(_holdout(), modelling.model())


def test_a_silent_customer_matters_and_what_follows_from_others_is_not_listed() -> None:
    found = _found()
    assert {one.group for one in found.groups} == {"silence", "frequency", "baskets", "refunds"}
    assert next(one for one in found.groups if one.group == "silence").drop > 0.02
    names = [one.feature for one in found.importance]
    assert set(names) == {f.name for f in FEATURES if not f.derived}
    assert [one.drop for one in found.importance] == sorted(
        (one.drop for one in found.importance), reverse=True
    )


def test_the_curve_of_silence_falls() -> None:
    (silence,) = [one for one in _found().dependence if one.feature == "days_since_last_order"]
    assert silence.clv[0] > silence.clv[-1] > 0
    assert silence.at == sorted(silence.at)


def test_diagnostics_are_the_same_at_every_call() -> None:
    assert diagnostics(_holdout(), modelling.model()) == _found()


def test_the_room_under_the_gain_curves_is_the_normalized_gini() -> None:
    rng = np.random.default_rng(2)
    actual, ranking = rng.gamma(0.4, 100, 600), rng.integers(0, 8, 600).astype(float)

    def room(points: list[tuple[float, float]]) -> float:
        x, y = zip(*points, strict=True)
        return float(auc(x, y)) - 0.5

    share = room(gain(actual, ranking)) / room(gain(actual, actual))
    assert share == pytest.approx(normalized_gini(actual, ranking) or 0, abs=0.01)


def test_the_gain_of_a_tenth_is_the_top_decile_and_the_best_curve_lies_above() -> None:
    holdout, found = _holdout(), _found()
    (at_tenth,) = [y for x, y in found.gain[MODEL] if x == pytest.approx(0.1)]
    captured = top_decile_capture(holdout.actual, holdout.predictions[MODEL])
    assert at_tenth == pytest.approx(captured or 0, abs=1e-9)
    for one, best in zip(found.gain[MODEL], found.gain[BEST], strict=True):
        assert best[1] >= one[1] - 1e-9


def test_residuals_are_of_all_tenths() -> None:
    holdout, found = _holdout(), _found()
    error = holdout.predictions[MODEL] - holdout.actual
    means = np.array([one.mean for one in found.residuals])
    assert means.mean() == pytest.approx(error.mean(), rel=0.01)
    assert all(one.percentiles == tuple(sorted(one.percentiles)) for one in found.residuals)


def test_customers_as_they_are_are_consistent_and_stay_as_they_are() -> None:
    assert np.array_equal(consistent(modelling.known(), FEATURE_NAMES), modelling.known())


def test_an_age_that_does_not_fit_is_worked_out_anew() -> None:
    rows = modelling.known()[:50].copy()
    age, silence = FEATURE_NAMES.index("T_days"), FEATURE_NAMES.index("days_since_last_order")
    recency = FEATURE_NAMES.index("recency_days")
    rows[:, silence] += 40
    mended = consistent(rows, FEATURE_NAMES)
    assert np.array_equal(mended[:, age], mended[:, recency] + mended[:, silence])


@pytest.mark.parametrize("customers", [1, 2, 7])
def test_a_handful_of_customers_and_constant_features_do_no_harm(customers: int) -> None:
    whole = _holdout()
    few = replace(
        whole,
        users=whole.users[:customers],
        X=np.repeat(whole.X[:1], customers, axis=0),
        actual=np.zeros(customers),
        churned=whole.churned[:customers],
        predictions={name: p[:customers] for name, p in whole.predictions.items()},
        chance=whole.chance[:customers],
    )
    found = diagnostics(few, modelling.model())
    assert found.dependence == []
    assert found.gain == {}
    assert {one.drop for one in found.importance} == {0.0}
