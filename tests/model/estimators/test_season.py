"""The level of the next horizon: a year ago where the log knows it, else the lifetime model's."""

from __future__ import annotations

import numpy as np
import pytest

from features.arrays import Floats
from model.estimators.season import LIFETIME_LEVEL, log_level

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
