"""Metrics against values worked out by hand, and against what must hold of any of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluate.metrics import (
    churn_metrics,
    clv_metrics,
    decile_wape,
    normalized_gini,
    spearman,
    top_decile_capture,
)

_money = st.integers(0, 1_000).map(float)
_pairs = st.lists(st.tuples(_money, _money), min_size=2, max_size=60)


def test_errors_are_those_worked_out_by_hand() -> None:
    m = clv_metrics([0.0, 10.0, 20.0, 30.0], [1.0, 8.0, 20.0, 34.0])
    assert m.customers == 4
    assert m.mse == pytest.approx(21 / 4)
    assert m.rmse == pytest.approx((21 / 4) ** 0.5)
    assert m.mae == pytest.approx(7 / 4)
    assert m.r2 == pytest.approx(1 - 21 / 500)
    assert m.bias == pytest.approx(63 / 60)
    assert m.spearman == pytest.approx(1.0)
    assert m.gini == pytest.approx(1.0)


def test_gini_is_one_for_the_best_ranking_and_minus_one_for_the_worst() -> None:
    assert normalized_gini([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert normalized_gini([1, 2, 3], [30, 20, 10]) == pytest.approx(-1.0)


def test_a_constant_prediction_ranks_nobody() -> None:
    assert normalized_gini([5, 0, 0, 1], [0, 0, 0, 0]) == 0.0
    assert spearman([5, 0, 0, 1], [0, 0, 0, 0]) == 0.0


def test_gini_equals_the_area_under_the_concentration_curve() -> None:
    rng = np.random.default_rng(3)
    actual, predicted = rng.gamma(0.3, 100, 500), rng.gamma(1, 1, 500)

    def area(order: np.ndarray) -> float:
        return float((np.cumsum(actual[order]) / actual.sum() - np.arange(1, 501) / 500).sum())

    by_hand = area(np.argsort(-predicted)) / area(np.argsort(-actual))
    assert normalized_gini(actual, predicted) == pytest.approx(by_hand)


@given(_pairs, st.integers(0, 2**32 - 1))
def test_no_metric_depends_on_the_order_of_customers(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    shuffled = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))]
    for metric in (normalized_gini, decile_wape, top_decile_capture, spearman):
        one, other = metric(*zip(*pairs, strict=True)), metric(*zip(*shuffled, strict=True))
        assert one == pytest.approx(other, abs=1e-9)


@given(_pairs)
def test_shares_lie_between_none_and_all(pairs: list[tuple[float, float]]) -> None:
    actual, predicted = zip(*pairs, strict=True)
    captured = top_decile_capture(actual, predicted)
    gini = normalized_gini(actual, predicted)
    assert captured is None or 0 <= captured <= 1 + 1e-9
    assert gini is None or -1 - 1e-9 <= gini <= 1 + 1e-9


def test_decile_calibration_sees_groups_and_not_single_customers() -> None:
    actual = np.tile([0.0, 20.0], 50)
    assert decile_wape(actual, np.full(100, 10.0)) == pytest.approx(0.0)
    assert decile_wape(actual, np.full(100, 15.0)) == pytest.approx(0.5)


def test_the_top_decile_of_a_hundred_is_ten_customers() -> None:
    actual = np.arange(100.0)
    assert top_decile_capture(actual, actual) == pytest.approx(actual[90:].sum() / actual.sum())


def test_a_holdout_without_revenue_has_no_ratios() -> None:
    m = clv_metrics([0.0, 0.0], [1.0, 2.0])
    assert (m.bias, m.decile_wape, m.top_decile, m.gini, m.r2) == (None,) * 5
    assert m.mae == 1.5


def test_churn_metrics_of_a_perfect_ranking() -> None:
    m = churn_metrics([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1])
    assert (m.base_rate, m.roc_auc, m.pr_auc) == (0.5, 1.0, 1.0)
    assert m.brier == pytest.approx((0.01 + 0.04) * 2 / 4)


def test_churn_of_everybody_cannot_be_ranked() -> None:
    m = churn_metrics([1, 1], [0.5, 0.5])
    assert (m.roc_auc, m.pr_auc, m.brier) == (None, None, 0.25)


def test_calibration_of_a_churn_probability_is_how_far_its_tenths_are_off() -> None:
    # Two tenths of ten customers each: said .2 and .8, happened to 4 and 8 of ten.
    happened = [1] * 4 + [0] * 6 + [1] * 8 + [0] * 2
    m = churn_metrics(happened, [0.2] * 10 + [0.8] * 10)
    assert m.mean_predicted == pytest.approx(0.5)
    assert m.base_rate == pytest.approx(0.6)
    assert m.calibration_error == pytest.approx((0.2 + 0.0) / 2)
    assert [t.customers for t in m.calibration] == [2] * 10
    assert [t.actual for t in m.calibration] == pytest.approx([0.4] * 5 + [0.8] * 5)
    assert m.f1 == pytest.approx(2 * 0.8 * (8 / 12) / (0.8 + 8 / 12))


def test_a_sure_and_right_probability_is_calibrated() -> None:
    assert churn_metrics([0, 0, 1], [0.0, 0.0, 1.0]).calibration_error == 0.0


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        clv_metrics([1.0], [1.0, 2.0])
