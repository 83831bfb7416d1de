"""Rolling cutoffs: each model knows the time before its cutoff alone, and short logs are told."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import fmean

import pytest

from features.events.orders import Order
from features.times import MS_PER_DAY, iso_day
from model.data.synthetic import Shop, generate
from model.data.training_rows import TrainingConfig, known_states
from model.evaluate.holdout import BGNBD_GG, MODEL, SAME_AGAIN, EvaluationError, evaluate
from model.evaluate.learn import learned_risk
from model.evaluate.rolling import Rolled, as_it_is, cutoff_days, rolled
from model.report.evaluation_text import text
from tests.support import modelling

_CONFIG = TrainingConfig(horizon_days=60, snapshot_every_days=30)


@cache
def _rolled() -> Rolled:
    days = cutoff_days(modelling.orders(), _CONFIG, 2, 60)
    return rolled(modelling.orders(), _CONFIG, days, resamples=50)


def test_the_newest_cutoff_is_one_horizon_before_the_log_ends() -> None:
    days = cutoff_days(modelling.orders(), _CONFIG, 3, 45)
    assert days[-1] == modelling.cutoff_day()
    assert [later - earlier for earlier, later in pairwise(days)] == [45, 45]


def test_a_log_that_is_too_short_says_what_is_needed_and_what_there_is() -> None:
    log = [Order(f"o{i}", "ada", i * MS_PER_DAY, 100) for i in range(200)]
    assert len(cutoff_days(log, _CONFIG, 2, 50)) == 2
    with pytest.raises(EvaluationError) as told:
        cutoff_days(log, _CONFIG, 3, 50)
    assert str(told.value) == (
        "3 cutoffs every 50 days with a horizon of 60 days need a log of 250 days; this one has"
        " 200; it is enough for --cutoffs 2"
    )
    with pytest.raises(
        EvaluationError, match="a cutoff with a horizon of 60 days needs a log of 150"
    ):
        cutoff_days(log[:149], _CONFIG, 1, 50)
    assert cutoff_days(log[:150], _CONFIG, 1, 50) == [90]
    with pytest.raises(EvaluationError, match="no orders"):
        cutoff_days([], _CONFIG, 1, 50)


def test_the_last_model_is_the_one_that_training_makes() -> None:
    day = modelling.cutoff_day()
    risk = learned_risk(known_states(modelling.orders(), day), day, 60)
    alone = evaluate(modelling.orders(), modelling.model(), day, 60, risk=risk)
    assert _rolled().report.cutoffs[-1] == alone


def test_no_model_knows_what_comes_after_its_cutoff() -> None:
    """A log that is cut off one horizon after a cutoff gives that cutoff the same report."""
    first = _rolled().report.cutoffs[0]
    day = modelling.cutoff_day() - 60
    known = [order for order in modelling.orders() if order.ts_ms < (day + 60) * MS_PER_DAY]
    assert rolled(known, _CONFIG, [day], resamples=5).report.cutoffs == [first]
    assert first.cutoff == iso_day(day)


def test_means_are_of_all_cutoffs_and_beside_both_yardsticks() -> None:
    report = _rolled().report
    assert list(report.mean) == [MODEL, BGNBD_GG, SAME_AGAIN]
    assert report.mean[MODEL]["mae"] == fmean(one.clv[MODEL].mae for one in report.cutoffs)
    assert set(report.differences) == {BGNBD_GG, SAME_AGAIN}
    mae = report.differences[SAME_AGAIN]["mae"]
    assert mae.value == pytest.approx(
        (report.mean[MODEL]["mae"] or 0) - (report.mean[SAME_AGAIN]["mae"] or 0)
    )
    assert mae.low < mae.value < mae.high


def test_the_text_fits_eighty_columns() -> None:
    assert max(map(len, text(_rolled().report).splitlines())) <= 80


def test_the_text_shows_at_each_cutoff_what_was_said_of_churn_and_what_happened() -> None:
    report = _rolled().report
    said = text(report).partition("P(churn) by tenth")[2].splitlines()[1:]
    assert len(said) == 2 * len(report.cutoffs)
    for at, one in enumerate(report.cutoffs):
        tenths = one.churn.calibration
        assert said[2 * at].split() == [
            one.cutoff,
            "predicted",
            *(f"{t.predicted:.0%}" for t in tenths),
        ]
        assert said[2 * at + 1].split() == ["observed", *(f"{t.actual:.0%}" for t in tenths)]
    error = fmean(one.churn.calibration_error or 0.0 for one in report.cutoffs)
    assert f"calibration error {error:.3f}" in text(report)
    assert report.churn_mean["calibration_error"] == error


def test_a_kind_other_than_the_default_is_judged_as_that_kind() -> None:
    config = replace(_CONFIG, kind="linear", options={})
    report = rolled(modelling.orders(), config, [modelling.cutoff_day()], resamples=5).report
    assert report.kind == "linear"
    assert report.cutoffs[0].clv[MODEL] != _rolled().report.cutoffs[-1].clv[MODEL]
    assert report.cutoffs[0].clv[BGNBD_GG] == _rolled().report.cutoffs[-1].clv[BGNBD_GG]


def test_too_few_customers_at_an_early_cutoff_say_how_many_cutoffs_there_can_be() -> None:
    shop = Shop(customers=60, days=600, arrival_days=500, seed=3)
    log = generate(shop).orders
    days = cutoff_days(log, _CONFIG, 7, 60)
    with pytest.raises(EvaluationError) as told:
        rolled(log, _CONFIG, days, resamples=5)
    message = str(told.value)
    assert message.startswith("cutoff 20")
    assert "are needed" in message
    possible = int(message.rpartition("--cutoffs ")[2])
    assert rolled(log, _CONFIG, days[-possible:], resamples=5).report.cutoffs


def _flat(amount_minor: int, users: int) -> list[Order]:
    day = modelling.cutoff_day()
    return [
        Order(
            f"o{user}-{n}", f"u{user}", (day - 100 + 20 * n + user % 7) * MS_PER_DAY, amount_minor
        )
        for user in range(users)
        for n in range(8)
    ]


@pytest.mark.parametrize(("amount_minor", "users"), [(0, 30), (0, 1), (5_000, 1), (5_000, 30)])
def test_shops_with_nothing_to_tell_apart_are_judged_all_the_same(
    amount_minor: int, users: int
) -> None:
    log = sorted(_flat(amount_minor, users), key=lambda order: order.ts_ms)
    found = as_it_is(log, modelling.model(), modelling.cutoff_day() - 30, resamples=5)
    metrics = found.report.cutoffs[0].clv[MODEL]
    assert metrics.customers == users
    assert metrics.gini is None
    assert "Gini" in text(found.report)
