"""The scorer: a row scores the same in any batch, within bounds, and falls in silence."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import Floats
from features.columns.catalog import feature_of
from features.columns.vector import FEATURE_NAMES, vectors
from features.times import MS_PER_DAY
from model.data.training_rows import snapshots
from model.estimators.base import Examples
from model.estimators.blend import Blend
from model.estimators.clv import ClvModel, FeatureError
from model.estimators.glm import LogisticChance, SignedPoissonRegressor
from model.estimators.kinds import fitted
from model.estimators.transform import SignedLogClip, signed_log, smooth_rows
from tests.support import modelling


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 700),
    cuts=st.lists(st.integers(0, 700), max_size=4),
)
def test_a_row_scores_the_same_in_any_batch(seed: int, count: int, cuts: list[int]) -> None:
    model, X = modelling.model(), modelling.random_rows(seed, count)
    parts = np.split(X, sorted(min(cut, count) for cut in cuts))
    for score in (model.clv, model.churn):
        whole = score(X)
        assert np.concatenate([score(part) for part in parts]).tolist() == whole.tolist()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_one_row_seven_and_ten_thousand_score_the_same_to_the_last_bit(size: int) -> None:
    model, X = modelling.model(), modelling.random_rows(5, 10_000)
    batches = [X[at : at + size] for at in range(0, min(len(X), size * 300), size)]
    for score in (model.clv, model.churn):
        expected = score(X)[: sum(len(batch) for batch in batches)]
        assert np.concatenate([score(batch) for batch in batches]).tobytes() == expected.tobytes()


def test_memory_layout_does_not_change_a_score() -> None:
    model, X = modelling.model(), modelling.random_rows(6, 333)
    for score in (model.clv, model.churn):
        assert score(np.asfortranarray(X)).tobytes() == score(X).tobytes()
        assert score(X[::-1])[::-1].tobytes() == score(X).tobytes()


@given(st.lists(st.floats(-1e15, 1e15), min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)))
def test_scores_stay_within_bounds_for_any_finite_features(row: list[float]) -> None:
    model, X = modelling.model(), np.abs(np.array([row]))
    X[0, FEATURE_NAMES.index("T_days")] += X[0, FEATURE_NAMES.index("recency_days")]
    clv, churn = model.clv(X)[0], model.churn(X)[0]
    assert 0 <= clv <= round(model.top, 2)
    assert 0 <= churn <= 1


def test_scores_are_rounded_to_cents_and_to_six_decimals() -> None:
    model, X = modelling.model(), modelling.known()
    assert model.clv(X).dtype == np.float64
    assert model.clv(X).tolist() == [round(value, 2) for value in model.clv(X).tolist()]
    assert model.churn(X).tolist() == [round(value, 6) for value in model.churn(X).tolist()]


def test_no_rows_give_no_scores() -> None:
    assert modelling.model().clv(np.empty((0, len(FEATURE_NAMES)))).shape == (0,)
    assert modelling.model().churn(np.empty((0, len(FEATURE_NAMES)))).shape == (0,)


def _examples(seed: int, population: Floats, currency: str = "USD", unit: float = 1) -> Examples:
    """Made-up labels for the customers known."""
    X = modelling.known()
    rng = np.random.default_rng(seed)
    return Examples(
        X=X,
        revenue=np.round(rng.gamma(1, 50, len(X)), 2) * unit,
        churned=rng.random(len(X)) < 0.5,
        weight=np.ones(len(X)),
        day=np.zeros(len(X), dtype=np.int64),
        population=population,
        columns=FEATURE_NAMES,
        horizon_days=60,
        currency=currency,
        signs=tuple(feature_of(name).sign for name in FEATURE_NAMES),
    )


def test_scores_are_those_of_the_value_model_and_the_pipeline() -> None:
    model, X = modelling.model(), modelling.known()
    assert isinstance(model.chance, LogisticChance)
    value = model.value.predict(X)
    np.testing.assert_allclose(model.clv(X), np.minimum(value, model.top), atol=0.0051)
    rows = smooth_rows(X, model.chance.kept, model.chance.floored)
    churn = model.chance.linear.pipeline.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(model.churn(X), churn, atol=6e-7)


def test_the_churn_probability_never_falls_while_a_customer_is_silent() -> None:
    (snapshot,) = snapshots(modelling.orders(), [modelling.cutoff_day()], 60)
    noon = modelling.cutoff_day() * MS_PER_DAY + MS_PER_DAY // 2
    daily = np.stack(
        [
            modelling.model().churn(vectors([(s, noon + d * MS_PER_DAY) for s in snapshot.states]))
            for d in range(0, 400, 3)
        ],
        axis=1,
    )
    assert (np.diff(daily, axis=1) >= 0).all()
    # Of somebody silent for longer than anybody was in training, no more is known by waiting.
    assert (daily[:, -1] > daily[:, 0]).mean() > 0.5


def test_a_population_without_repeats_leaves_the_clv_to_the_regression() -> None:
    X = modelling.known()
    model = fitted(_examples(1, np.zeros_like(X[:10])))
    assert isinstance(model.value, Blend)
    assert model.value.lifetime is None
    alone = model.value.predict(X)
    smooth = np.flatnonzero([feature_of(name).smooth for name in FEATURE_NAMES])
    np.testing.assert_allclose(alone, model.value.regression.predict(X[:, smooth]))
    np.testing.assert_allclose(model.clv(X), np.minimum(alone, model.top), atol=0.0051)


def test_the_scale_of_the_currency_does_not_change_the_ranking() -> None:
    X = modelling.known()
    one, hundred = fitted(_examples(2, X[:1])), fitted(_examples(2, X[:1], unit=100))
    np.testing.assert_allclose(hundred.clv(X), one.clv(X) * 100, atol=0.51, rtol=1e-4)


def test_currencies_without_cents_score_whole_units() -> None:
    X = modelling.known()
    yen = fitted(_examples(3, X, currency="JPY"))
    assert yen.clv(X).tolist() == np.round(yen.clv(X)).tolist()


def test_a_shop_without_revenue_is_worth_nothing() -> None:
    X = modelling.known()
    assert not fitted(_examples(3, X, unit=0)).clv(X).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_named(value: float) -> None:
    X = modelling.known()[:3].copy()
    X[1, 4] = value
    with pytest.raises(FeatureError, match=f"feature {FEATURE_NAMES[4]} is not finite"):
        modelling.model().clv(X)


def test_a_matrix_of_another_width_is_refused() -> None:
    with pytest.raises(FeatureError, match=rf"needs \(n, {len(FEATURE_NAMES)}\)"):
        modelling.model().churn(np.zeros((2, 3)))


def test_a_pickled_model_scores_the_same() -> None:
    again: ClvModel = pickle.loads(pickle.dumps(modelling.model()))
    assert (
        again.clv(modelling.known()).tobytes() == modelling.model().clv(modelling.known()).tobytes()
    )


def test_without_signs_the_regression_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import PoissonRegressor

    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 5))
    y = rng.poisson(np.exp(X @ [0.5, -0.3, 0, 0.1, 0] + 0.2)).astype(float)
    weight = rng.random(500)
    theirs = PoissonRegressor(alpha=0.03, tol=1e-8, max_iter=1_000).fit(X, y, weight)
    ours = SignedPoissonRegressor(alpha=0.03).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-4)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-3)


def test_a_sign_holds_a_coefficient_at_zero() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 2))
    y = np.exp(X @ [0.5, -0.5])
    fitted = SignedPoissonRegressor(alpha=0.01, signs=[-1, -1]).fit(X, y)
    assert fitted.coef_[0] == 0
    assert fitted.coef_[1] < -0.3


def test_features_beyond_training_are_taken_for_the_nearest_seen() -> None:
    limits = SignedLogClip().fit([[0.0, -5.0], [10.0, 5.0]])
    np.testing.assert_allclose(
        limits.transform([[1e9, -1e9]]), signed_log(np.array([[10.0, -5.0]])), rtol=0, atol=1e-9
    )
