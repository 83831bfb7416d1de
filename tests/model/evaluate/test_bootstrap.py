"""Resampled metrics are those of the customers repeated; intervals are what the seed says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluate.bootstrap import METRICS, Predictions, SortedPredictions, differences
from model.evaluate.metrics import clv_metrics

_customers = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=40
).filter(lambda rows: any(count for _, _, count in rows))


@given(_customers)
def test_metrics_of_counts_are_those_of_customers_repeated(
    rows: list[tuple[int, int, int]],
) -> None:
    actual, predicted, counts = (np.array(column) for column in zip(*rows, strict=True))
    found = SortedPredictions(actual.astype(float), predicted.astype(float)).metrics(counts)
    slow = clv_metrics(np.repeat(actual, counts), np.repeat(predicted, counts))
    for metric, value in zip(METRICS, found, strict=True):
        expected = getattr(slow, metric)
        assert np.isnan(value) if expected is None else value == pytest.approx(expected, abs=1e-9)


def _judged(seed: int, n: int = 300, worse: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    actual = rng.gamma(0.5, 100.0, n)
    return Predictions(
        [f"u{i}" for i in range(n)],
        actual,
        {
            "model": actual + rng.normal(0, 10, n),
            "other": actual + rng.normal(0, 10 * worse, n),
        },
    )


def test_what_is_plainly_better_is_said_to_be() -> None:
    found = differences([_judged(1, worse=8.0)], "model", resamples=100)
    assert found.overall["other"]["mae"].better
    assert found.overall["other"]["gini"].better
    assert found.overall["other"]["mae"].value < 0 < found.overall["other"]["gini"].value


def test_two_alike_are_not_told_apart() -> None:
    found = differences([_judged(seed) for seed in range(3)], "model", resamples=200)
    assert found.overall["other"]["mae"].better is None


def test_the_same_predictions_differ_by_nothing() -> None:
    one = _judged(1)
    same = Predictions(one.users, one.actual, {"model": one.actual, "other": one.actual})
    (found,) = differences([same], "model", resamples=20).by_cutoff
    assert {(d.value, d.low, d.high) for d in found["other"].values()} == {(0.0, 0.0, 0.0)}


def test_the_same_seed_gives_the_same_interval() -> None:
    once, again, other = (
        differences([_judged(1)], "model", resamples=50, seed=seed) for seed in (1, 1, 2)
    )
    assert once == again
    assert once != other


def test_the_overall_difference_is_the_mean_of_the_cutoffs() -> None:
    found = differences([_judged(1), _judged(2, worse=2.0)], "model", resamples=20)
    each = [cutoff["other"]["mae"].value for cutoff in found.by_cutoff]
    assert found.overall["other"]["mae"].value == pytest.approx(sum(each) / 2)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Two predictions that are equally good: 95 % of the intervals hold 0."""
    held = 0
    for seed in range(60):
        d = differences([_judged(seed, 150)], "model", resamples=100).overall["other"]["mae"]
        held += d.low <= 0 <= d.high
    assert 50 <= held <= 60


def test_a_yardstick_missing_at_a_cutoff_is_compared_at_the_others_alone() -> None:
    one, two = _judged(1), _judged(2)
    two = Predictions(two.users, two.actual, {"model": two.predictions["model"]})
    found = differences([one, two], "model", resamples=20)
    assert "other" not in found.overall
    assert "mae" in found.by_cutoff[0]["other"]
    assert found.by_cutoff[1] == {}


def test_a_holdout_without_revenue_or_with_one_customer_leaves_out_what_is_not_defined() -> None:
    none = Predictions(["a", "b"], np.zeros(2), {"model": np.ones(2), "other": np.zeros(2)})
    (found,) = differences([none], "model", resamples=20).by_cutoff
    assert set(found["other"]) == {"mae", "rmse", "spearman"}
    one = Predictions(["a"], np.ones(1), {"model": np.ones(1), "other": np.zeros(1)})
    (found,) = differences([one], "model", resamples=20).by_cutoff
    assert found["other"]["mae"].value == -1.0
