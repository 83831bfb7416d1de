"""The report on a holdout: the baselines, the table, and what the model reaches on real logs."""

from __future__ import annotations

from statistics import fmean

import pytest

from features.events.orders import Order
from features.times import iso_day
from model.data.training_rows import TrainingConfig, population, training_set
from model.estimators.kinds import fit
from model.evaluate.holdout import (
    BGNBD_GG,
    MODEL,
    SAME_AGAIN,
    Evaluation,
    EvaluationError,
    evaluate,
    score_quantiles,
)
from model.report.evaluation_text import table
from tests.support import modelling


def _report() -> Evaluation:
    return evaluate(modelling.orders(), modelling.model(), modelling.cutoff_day(), 60)


def test_the_report_compares_three_predictors_on_the_same_customers() -> None:
    report = _report()
    assert list(report.clv) == [MODEL, BGNBD_GG, SAME_AGAIN]
    assert {metrics.customers for metrics in report.clv.values()} == {report.churn.customers}
    assert report.until == iso_day(modelling.cutoff_day() + 60)


def test_the_model_ranks_better_than_the_last_horizon_again() -> None:
    report = _report()
    assert report.clv[MODEL].gini is not None
    assert report.clv[SAME_AGAIN].gini is not None
    assert report.clv[MODEL].gini > report.clv[SAME_AGAIN].gini
    assert report.churn.roc_auc is not None
    assert report.churn.roc_auc > 0.7


def test_the_table_fits_eighty_columns() -> None:
    lines = table(_report()).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("  ")[0] for line in lines[3:6]] == [MODEL, BGNBD_GG, SAME_AGAIN]


def test_a_holdout_that_reaches_past_the_log_is_refused_with_the_latest_cutoff() -> None:
    late = modelling.cutoff_day() + 1
    with pytest.raises(EvaluationError, match=f"latest cutoff is {iso_day(late - 1)}"):
        evaluate(modelling.orders(), modelling.model(), late, 60)


def test_a_cutoff_before_the_first_order_is_refused() -> None:
    with pytest.raises(EvaluationError, match="nobody has an order before"):
        evaluate(modelling.orders(), modelling.model(), 19_000, 60)


def test_a_yardstick_that_cannot_be_fitted_is_left_out_and_says_why() -> None:
    day = modelling.cutoff_day()
    log = [Order(f"o{i}", f"u{i}", (day - 10 + i) * 86_400_000, 100) for i in range(80)]
    report = evaluate(log, modelling.model(), day, 60)
    assert list(report.clv) == [MODEL, SAME_AGAIN]
    assert "repeat purchase" in report.skipped[BGNBD_GG]
    assert "BG/NBD + GG  not fitted" in table(report)


def test_score_quantiles_are_a_hundred_and_one_in_order() -> None:
    quantiles = score_quantiles(modelling.model().clv(modelling.known()))
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)


def _on_real_log(name: str, days: int) -> Evaluation:
    """The report of a model trained and judged at a cutoff, in days from the first order."""
    log, config = modelling.real_orders(name), TrainingConfig()
    cutoff = modelling.day_after_first(log, days)
    rows = training_set(log, config, cutoff)
    return evaluate(log, fit(rows, config, population(log, cutoff)), cutoff, 90)


@pytest.mark.parametrize(
    ("name", "days"),
    [("online_retail_ii", 588), pytest.param("cdnow", 335, marks=pytest.mark.slow)],
)
def test_the_model_ranks_better_than_bgnbd_on_a_real_log(name: str, days: int) -> None:
    report = _on_real_log(name, days)
    model, baseline = report.clv[MODEL], report.clv[BGNBD_GG]
    assert (model.gini or 0) > (baseline.gini or 0) + 0.01
    assert model.mae < baseline.mae * 1.03


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cutoffs", "gini", "mae", "rmse", "bgnbd_gini"),
    [
        ("online_retail_ii", (528, 588, 648), 0.8475, 319.0, 1_495.0, 0.838),
        ("cdnow", (335, 395, 455), 0.750, 12.1, 33.7, 0.725),
    ],
)
def test_the_model_reaches_its_goals_on_real_logs(
    name: str, cutoffs: tuple[int, ...], gini: float, mae: float, rmse: float, bgnbd_gini: float
) -> None:
    reports = [_on_real_log(name, days) for days in cutoffs]
    print(*(table(report) for report in reports), sep="\n\n")
    assert fmean(r.clv[MODEL].gini or 0 for r in reports) >= gini
    assert fmean(r.clv[MODEL].mae for r in reports) <= mae
    assert fmean(r.clv[MODEL].rmse for r in reports) <= rmse
    assert fmean(r.clv[BGNBD_GG].gini or 0 for r in reports) == pytest.approx(bgnbd_gini, abs=0.003)
