"""Every kind of model: trained, saved, loaded and scored; and fed with what hardly says a thing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from features.columns.catalog import feature_of
from features.columns.vector import FEATURE_NAMES
from model.artifact.artifact import load, save, version_of
from model.artifact.signature import Trust
from model.data.training_rows import training_set
from model.estimators.base import Examples
from model.estimators.clv import ClvModel
from model.estimators.hurdle import HurdleRegressor
from model.estimators.kinds import KINDS, OptionError, examples, fit, fitted, options_of
from model.estimators.pipelines import ImportanceSelector, PipelineValue, coarse, relevance
from tests.support import modelling

# What keeps the kinds that take long quick: those that are pickles.
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "forest": {"trees": 10},
    "boosting": {"max_iter": 8, "max_leaf_nodes": 4},
    "mlp": {"epochs": 3, "width": 8},
    "hurdle": {"max_iter": 8, "max_leaf_nodes": 4},
}
_PIPELINES = [kind for kind in KINDS if "pca" in KINDS[kind].options]


@cache
def _examples() -> Examples:
    rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    return examples(rows, modelling.CONFIG, modelling.known())


@cache
def _model(kind: str, **options: Any) -> ClvModel:
    return fitted(_examples(), kind, {**_QUICK.get(kind, {}), **options})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_saved_and_loaded_and_says_the_same(kind: str, tmp_path: Path) -> None:
    model, X = _model(kind), modelling.known()
    save(tmp_path / "m", model, modelling.fields())
    again = load(tmp_path / "m", Trust(pickles=True))
    assert again.manifest.file == ("model.joblib" if kind in _QUICK else "model.json")
    assert again.model.clv(X).tobytes() == model.clv(X).tobytes()
    assert again.model.churn(X).tobytes() == model.churn(X).tobytes()
    assert again.manifest.kind == kind
    assert again.manifest.options == options_of(kind, _QUICK.get(kind, {}))


@pytest.mark.parametrize("kind", _PIPELINES)
def test_every_pipeline_takes_a_selection_and_a_rotation_and_still_loads(
    kind: str, tmp_path: Path
) -> None:
    model = _model(kind, select=6, select_by="importance", pca=3)
    save(tmp_path / "m", model, modelling.fields())
    X = modelling.known()
    assert (
        load(tmp_path / "m", Trust(pickles=True)).model.clv(X).tobytes() == model.clv(X).tobytes()
    )
    assert isinstance(model.value, PipelineValue)
    assert [name for name, _ in model.value.pipeline.steps] == [
        "range", "scale", "select", "rotate", "regression"
    ]  # fmt: skip
    assert model.value.pipeline["rotate"].n_components_ == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scores_within_bounds_far_outside_of_training(kind: str) -> None:
    model, X = _model(kind), modelling.random_rows(3, 500)
    X[:, FEATURE_NAMES.index("T_days")] += X[:, FEATURE_NAMES.index("recency_days")]
    clv = model.clv(X)
    assert np.isfinite(clv).all()
    assert clv.min() >= 0
    assert clv.max() <= round(model.top, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scores_a_row_the_same_in_any_batch_to_a_minor_unit(kind: str) -> None:
    model, X = _model(kind), modelling.random_rows(4, 200)
    whole = model.clv(X)
    for size in (1, 7, 64):
        parts = np.concatenate([model.clv(X[at : at + size]) for at in range(0, 64, size)])
        np.testing.assert_allclose(parts[:64], whole[:64], atol=0.0101)


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same_version_on_any_number_of_threads(kind: str) -> None:
    config = replace(modelling.CONFIG, kind=kind, options=_QUICK.get(kind, {}))
    rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    models = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            models.append(fit(rows, config, modelling.known()))
    assert version_of(models[0]) == version_of(models[1])
    assert pickle.dumps(models[0]) == pickle.dumps(models[1])


def test_kinds_and_options_have_versions_of_their_own() -> None:
    versions = {version_of(_model(kind)) for kind in KINDS}
    assert len(versions) == len(KINDS)
    assert version_of(_model("poisson", alpha=0.1)) != version_of(_model("poisson"))


@pytest.mark.parametrize("kind", ["linear", "poisson", "tweedie", "forest", "boosting", "hurdle"])
def test_every_kind_ranks_customers_far_better_than_chance(kind: str) -> None:
    model, rows = _model(kind), _examples()
    ranks = np.argsort(np.argsort(model.clv(rows.X)))
    half = ranks >= len(ranks) // 2
    assert rows.revenue[half].sum() > 0.75 * rows.revenue.sum()


@pytest.mark.parametrize("kind", ["boosting", "hurdle", "poisson"])
@pytest.mark.parametrize("options", [{}, {"select": 20}])
def test_directions_hold_in_whatever_columns_are_kept(kind: str, options: dict[str, Any]) -> None:
    model, X = _model(kind, **options), modelling.known()[:100]
    before = model.clv(X)
    for name, factor in (("days_since_last_order", 3.0), ("net_minor_90d", 0.5)):
        changed = X.copy()
        changed[:, FEATURE_NAMES.index(name)] *= factor
        assert (model.clv(changed) <= before + 0.01).all(), name


# --- what hardly says a thing ---


def _flat(**changes: Any) -> Examples:
    """Sixty customers alike to the last bit, two of whom brought something."""
    X = np.tile(modelling.known()[0], (60, 1))
    revenue = np.zeros(60)
    revenue[:2] = 10.0
    return replace(
        _examples(), X=X, revenue=revenue, churned=revenue == 0, weight=np.ones(60),
        day=np.zeros(60, dtype=np.int64), **changes,
    )  # fmt: skip


@contextmanager
def _quietly() -> Iterator[None]:
    """Whatever numpy would warn of becomes an error."""
    with np.errstate(divide="raise", invalid="raise"):
        yield


@pytest.mark.parametrize(
    ("kind", "options"),
    [("blend", {}), *((kind, {}) for kind in _PIPELINES)]
    + [(kind, {"select": 3, "pca": 2}) for kind in _PIPELINES],
)
def test_constant_features_give_everybody_the_mean(kind: str, options: dict[str, Any]) -> None:
    flat = _flat()
    model = fitted(flat, kind, {**_QUICK.get(kind, {}), **options})
    clv = model.clv(flat.X)
    assert len(set(clv.tolist())) == 1
    if kind not in ("blend", "mlp"):
        assert clv[0] == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bgnbd"])
def test_no_revenue_at_all_is_worth_nothing(kind: str) -> None:
    none = replace(_examples(), revenue=np.zeros(len(_examples().X)))
    with _quietly():
        assert not fitted(none, kind, _QUICK.get(kind, {})).clv(modelling.known()).any()


def test_a_hurdle_without_zeros_has_no_chance_to_learn() -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    X, y = np.arange(10.0)[:, None], np.arange(1.0, 11.0)
    fitted_ = HurdleRegressor(LogisticRegression(), LinearRegression()).fit(X, y)
    assert fitted_.chance_ is None
    np.testing.assert_allclose(fitted_.predict(X), y)
    assert (
        not HurdleRegressor(LogisticRegression(), LinearRegression()).fit(X, 0 * y).predict(X).any()
    )


def test_relevance_is_the_correlation_and_0_for_a_constant() -> None:
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=200), np.ones(200), rng.normal(size=200)])
    y = np.exp(X[:, 0])
    found = relevance(X, y)
    assert found[0] == pytest.approx(np.corrcoef(X[:, 0], np.log1p(y))[0, 1])
    assert found[1] == 0
    assert found[0] > found[2]


def test_a_forest_finds_the_column_that_matters() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 5))
    chosen = ImportanceSelector(1).fit(X, np.exp(2 * X[:, 3]))
    assert chosen.get_support().tolist() == [False, False, False, True, False]


def test_coarse_columns_keep_their_order_and_their_extremes() -> None:
    X = np.column_stack([np.random.default_rng(1).normal(size=5_000), np.arange(5_000) % 7])
    found = coarse(X)
    assert len(np.unique(found[:, 0])) <= 200
    assert found.max(axis=0).tolist() == X.max(axis=0).tolist()
    assert found[:, 1].tolist() == X[:, 1].tolist()
    assert (np.diff(found[np.argsort(X[:, 0]), 0]) >= 0).all()
    assert np.abs(found[:, 0] - X[:, 0]).mean() < 0.02


def test_signs_of_the_columns_are_those_of_their_names() -> None:
    assert _examples().signs == tuple(feature_of(name).sign for name in FEATURE_NAMES)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("tree", {}, "no kind of model 'tree'; there are blend"),
        ("poisson", {"power": "2"}, "kind poisson has no option 'power'; it has alpha"),
        ("bgnbd", {"alpha": "2"}, "kind bgnbd has no option 'alpha'; it has none"),
        ("poisson", {"alpha": "much"}, "'much'; it must be a number"),
        ("poisson", {"alpha": "-1"}, "must be a number from 0 to"),
        ("poisson", {"alpha": "nan"}, "must be a number from 0 to"),
        ("forest", {"trees": "1.5"}, "must be a whole number"),
        ("hurdle", {"parts": "glue"}, "'glue'; it must be boosting or glm"),
        ("poisson", {"select": -1}, "must be a whole number from 0"),
    ],
)
def test_a_wrong_kind_or_option_is_named_with_what_there_is(
    kind: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError) as raised:
        options_of(kind, given)
    assert message in str(raised.value)


def test_every_option_has_a_default_and_candidates_that_are_valid() -> None:
    for name, kind in KINDS.items():
        for option, what in kind.options.items():
            for value in (what.default, *what.candidates):
                assert options_of(name, {option: str(value)})[option] == value
