"""The default value model: what it is made of, and that silence lowers it little by little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.arrays import Floats, in_turn
from features.columns.catalog import feature_of
from features.columns.vector import FEATURE_NAMES, vectors
from features.events.orders import Order, OrderType
from features.facts.state import EMPTY, CustomerState, apply
from features.times import MS_PER_DAY
from model.data.training_rows import TrainingConfig, population, snapshots, training_set
from model.estimators.base import Examples
from model.estimators.blend import CORRECTION_WEIGHT, LIFETIME_LEVEL, Blend, log_level
from model.estimators.clv import ClvModel
from model.estimators.glm import PoissonValue
from model.estimators.kinds import examples, fit
from model.estimators.lifetime import LifetimeValue
from tests.support import modelling

SILENT_DAYS = 90


def _blend() -> Blend:
    value = modelling.model().value
    assert isinstance(value, Blend)
    return value


def _daily(model: ClvModel, states: list[CustomerState], day: int) -> Floats:
    """CLV of each customer at noon of every day of a silence that begins on a day."""
    return np.stack(
        [
            model.clv(vectors([(s, (day + d) * MS_PER_DAY + MS_PER_DAY // 2) for s in states]))
            for d in range(SILENT_DAYS + 1)
        ],
        axis=1,
    )


def _falls_little_by_little(daily: Floats) -> None:
    """Never rises, and no day takes off more than a third of the whole fall, to a cent."""
    steps = -np.diff(daily, axis=1)
    assert steps.min() >= 0
    fall = daily[:, 0] - daily[:, -1]
    assert (steps.max(axis=1) <= fall / 3 + 0.0101).all()


def _states(orders: tuple[Order, ...], day: int) -> list[CustomerState]:
    (taken,) = snapshots(orders, [day], 1)
    return taken.states


def test_a_thousand_silent_customers_fall_little_by_little() -> None:
    day = modelling.cutoff_day()
    states = (_states(modelling.orders(), day) + _states(modelling.orders(), day - 60))[:1_000]
    daily = _daily(modelling.model(), states, day)
    _falls_little_by_little(daily)
    assert np.median(1 - daily[:, -1] / daily[:, 0]) > 0.15


def test_customers_with_refunds_fall_little_by_little_too() -> None:
    day = modelling.cutoff_day()
    rng = np.random.default_rng(8)
    states = []
    for customer in range(200):
        state = EMPTY
        for number, before in enumerate(sorted(rng.integers(1, 200, size=6), reverse=True)):
            kind = OrderType.REFUND if rng.random() < 0.4 and number else OrderType.ORDER
            ts_ms = int(day - before) * MS_PER_DAY
            amount = int(rng.integers(100, 20_000))
            state = apply(state, Order(f"o{number}", f"u{customer}", ts_ms, amount, kind)).state
        if state.last_purchase_day is not None:
            states.append(state)
    assert len(states) > 150
    _falls_little_by_little(_daily(modelling.model(), states, day))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "days"), [("online_retail_ii", 648), ("cdnow", 455)])
def test_a_thousand_customers_of_a_real_log_fall_little_by_little(name: str, days: int) -> None:
    log, config = modelling.real_orders(name), TrainingConfig()
    day = modelling.day_after_first(log, days)
    model = fit(training_set(log, config, day), config, population(log, day))
    states = _states(log, day)
    picked = np.random.default_rng(0).choice(len(states), 1_000, replace=False)
    _falls_little_by_little(_daily(model, [states[i] for i in picked], day))


def test_only_features_that_move_one_way_in_silence_are_looked_at() -> None:
    day = modelling.cutoff_day()
    states = _states(modelling.orders(), day)
    X = np.stack([vectors([(s, (day + d) * MS_PER_DAY) for s in states]) for d in range(0, 91, 3)])
    for i, name in enumerate(FEATURE_NAMES):
        if feature_of(name).smooth:
            column = np.maximum(X[:, :, i], 0) if feature_of(name).floored else X[:, :, i]
            moved = np.diff(column, axis=0)
            # What may only raise a CLV falls, what may only lower it grows, the rest stands still.
            falls = moved * feature_of(name).sign <= 1e-9
            assert falls.all() if feature_of(name).sign else (moved == 0).all(), name


def test_every_coefficient_has_the_sign_of_its_feature() -> None:
    value = _blend()
    assert value.correction is not None
    signs = [feature_of(FEATURE_NAMES[i]).sign for i in value.kept]
    assert sum(sign != 0 for sign in signs) >= 10
    for part, expected in (
        (value.regression.linear, [1, *signs]),
        (value.correction.linear, signs),
        (value.chance.linear, signs),
    ):
        assert part is not None
        coefficients = np.ravel(part.pipeline["regression"].coef_)
        assert (coefficients * expected >= 0).all()


def test_both_parts_are_brought_to_one_sum_over_the_population() -> None:
    value, X = _blend(), modelling.known()
    regression, correction = value._parts(X)
    assert correction is not None
    total = np.exp(correction).sum()
    assert np.exp(regression + value.balance).sum() == pytest.approx(total)
    assert value.predict(X).sum() == pytest.approx(total * np.exp(value.level))
    assert 0 < CORRECTION_WEIGHT < 1


def test_an_offset_is_what_a_poisson_regression_corrects() -> None:
    rows = _examples()
    truth = np.exp(0.3 * np.log1p(rows.X[:, 0]) + 1)
    exact = replace(rows, revenue=truth)
    corrected = PoissonValue(10.0).fit(exact, np.log(truth))
    np.testing.assert_allclose(corrected.log_value(rows.X), 0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 500])
def test_columns_are_added_up_one_after_the_other_in_any_number_of_rows(rows: int) -> None:
    rng = np.random.default_rng(rows)
    columns, weights = rng.normal(size=(37, rows)), rng.normal(size=(2, 37))
    biases = rng.normal(size=2)
    for found, of_one, bias in zip(in_turn(columns, weights, biases), weights, biases, strict=True):
        total = np.full(rows, bias)
        for column, weight in zip(columns, of_one, strict=True):
            total += weight * column
        assert found.tobytes() == total.tobytes()
        assert in_turn(columns, of_one, bias).tobytes() == total.tobytes()


def test_a_few_giants_make_no_fortune_of_a_single_purchase() -> None:
    rng = np.random.default_rng(2)
    rows = _examples()
    x = rows.columns.index("frequency")
    value = rows.columns.index("monetary_value_minor")
    known = rows.population.copy()
    known[:, value] = np.where(known[:, x] > 0, 100 * rng.lognormal(3, 2.5, len(known)), 0)
    heavy = replace(rows, population=known)
    once = known[known[:, x] == 0]
    published, bounded = LifetimeValue().fit(heavy), LifetimeValue(bounded=True).fit(heavy)
    mean = known[known[:, x] > 0, value].mean() / 100
    spend = [m.spend.p * m.spend.gamma / (m.spend.q - 1) / mean for m in (published, bounded)]
    assert spend[1] <= 1.5 + 1e-6
    assert bounded.predict(once).sum() <= published.predict(once).sum() * 1.001


def _examples() -> Examples:
    rows = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    return examples(rows, modelling.CONFIG, modelling.known())


ROWS = 400


def _level(
    factors: dict[int, float], cutoff: int, lifetime: float = 0.0, noise: float = 0.1
) -> float:
    """The level of a log that begins on day 0, whose snapshots brought so many times what was
    predicted."""
    rng = np.random.default_rng(1)
    day = np.repeat(list(factors), ROWS)
    predicted: Floats = np.full(len(day), 10.0)
    wobble = 1 + noise * rng.normal(size=len(day))
    actual = predicted * np.repeat(list(factors.values()), ROWS) * wobble
    return log_level(day, actual, predicted, 0, cutoff, lifetime)


def _yearly(until: int) -> dict[int, float]:
    return {day: 1 + 0.4 * np.sin(2 * np.pi * day / 365) for day in range(30, until, 30)}


def test_the_level_is_that_of_a_year_ago() -> None:
    cutoff = 630
    expected = np.log(1 + 0.4 * np.sin(2 * np.pi * (cutoff - 365) / 365))
    assert _level(_yearly(540), cutoff, lifetime=0.5) == pytest.approx(expected, abs=0.03)


def test_without_a_year_of_history_the_level_is_the_lifetime_models() -> None:
    assert _level(_yearly(300), 390, lifetime=-0.2) == pytest.approx(-0.2 * LIFETIME_LEVEL)


def test_a_log_that_was_too_young_a_year_ago_says_less_of_its_season() -> None:
    level = {age: _level(_yearly(age + 275), 365 + age) for age in (60, 90, 150, 180)}
    trust = {age: value / np.log(_yearly(600)[age]) for age, value in level.items()}
    assert trust[60] == 0
    assert trust[90] == pytest.approx(0.25, abs=0.05)
    assert trust[150] == pytest.approx(0.75, abs=0.05)
    assert trust[180] == pytest.approx(1.0, abs=0.05)


def test_errors_that_are_chance_are_no_season() -> None:
    flat = dict.fromkeys(range(30, 540, 30), 1.0)
    assert abs(_level(flat, 630, noise=5.0)) < 0.15


def test_neither_a_season_nor_a_lifetime_model_makes_a_level_without_bounds() -> None:
    wild = {day: 1e6 if 240 <= day <= 300 else 1.0 for day in range(30, 540, 30)}
    assert _level(wild, 630) <= np.log(10) + 1e-9
    assert _level(_yearly(300), 390, lifetime=50.0) <= np.log(3)


def test_a_snapshot_without_revenue_is_left_out() -> None:
    factors = _yearly(540) | {270: 0.0}
    assert np.isfinite(_level(factors, 630))
