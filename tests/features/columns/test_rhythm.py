"""The columns of silence equal the twin's, never fall in silence, and depend on one customer
alone."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from features.arrays import Floats
from features.columns.rhythm import (
    RHYTHM_NAMES,
    RISING,
    STEADY,
    Typical,
    rhythm,
    typical_of,
)
from features.columns.table import tabulate
from features.events.orders import Order
from features.facts.state import CustomerState
from features.times import MS_PER_DAY, day_of
from tests.support import strategies
from tests.support.fakes import at, every, facts_of
from tests.support.twins.rhythm import twin_rhythm

TYPICAL = Typical(3.0, 0.5, 4_000.0, (1.0, 0.98, 0.9, 0.7, 0.4, 0.2))
HORIZONS = st.sampled_from([1, 14, 90, 365, 730])


def columns(states: list[CustomerState], day: int, horizon: int, days: int = 1) -> Floats:
    """As of a day after the last event of each, and as of those that follow it."""
    rows = [(state, day + later) for state in states for later in range(days)]
    table = tabulate([(state, day * MS_PER_DAY) for state, day in rows])
    silent = np.array([day - (state.last_purchase_day or 0) for state, day in rows])
    return rhythm(table, silent, horizon, TYPICAL)


@given(strategies.histories(), st.integers(0, 400), HORIZONS)
def test_the_columns_equal_the_twins(history: list[Order], later: int, horizon: int) -> None:
    state = facts_of(history)
    assume(state.last_purchase_day is not None)
    day = day_of(state.newest_ms) + later
    found = dict(zip(RHYTHM_NAMES, columns([state], day, horizon)[0].tolist(), strict=True))
    expected = twin_rhythm(history, day * MS_PER_DAY, horizon, TYPICAL)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(found[name] - value) <= 1e-7 * (1 + abs(value)), name


@given(strategies.long_histories(), HORIZONS)
def test_in_silence_no_column_falls_and_the_steady_ones_stay(
    history: list[Order], horizon: int
) -> None:
    state = facts_of(history)
    assume(state.last_purchase_day is not None)
    rows = columns([state], day_of(state.newest_ms), horizon, days=2 * horizon + 5)
    k = len(RISING)
    assert len(RHYTHM_NAMES) == k + len(STEADY)
    assert (np.diff(rows[:, :k], axis=0) >= -1e-9).all()
    assert np.ptp(rows[:, k:], axis=0).max() <= 1e-9


@given(st.lists(strategies.histories(), min_size=1, max_size=6), HORIZONS)
def test_a_row_is_the_same_to_the_last_bit_whoever_is_beside_it(
    histories: list[list[Order]], horizon: int
) -> None:
    states = [facts_of(history) for history in histories]
    day = max(day_of(max(state.newest_ms, 0)) for state in states) + 9
    together = columns(states, day, horizon)
    for row, state in zip(together, states, strict=True):
        assert row.tobytes() == columns([state], day, horizon)[0].tobytes()


def test_days_of_one_silence_are_the_same_to_the_last_bit_together_and_alone() -> None:
    states = [facts_of(every("ada", 40, 3)), facts_of(every("ben", 1, 3)), CustomerState()]
    day = day_of(max(state.newest_ms for state in states)) + 40
    table = tabulate([(state, day * MS_PER_DAY) for state in states])
    of = np.array([0, 0, 0, 1, 0, 1])
    silent = np.array([1, 2, 30, 7, 30, 5])
    together = rhythm(table, silent, 30, TYPICAL, of)
    for row, whose, days in zip(together, of.tolist(), silent.tolist(), strict=True):
        alone = tabulate([(states[whose], day * MS_PER_DAY)])
        assert row.tobytes() == rhythm(alone, np.array([days]), 30, TYPICAL)[0].tobytes()


def test_the_typical_customer_is_that_of_the_shops_own_gaps_and_money() -> None:
    states = [
        facts_of(every("ada", 10, 5)),
        facts_of(every("ben", 20, 3)),
        facts_of(every("cleo", 1, 1)),
    ]
    table = tabulate([(state, at(100)) for state in states])
    typical = typical_of(table.purchases.gaps, np.array([100.0, 300.0, 500.0, -5.0]), 30)
    assert np.isclose(typical.log_gap, np.log(10 * 20) / 2)
    assert (typical.order_minor, typical.gap_variance) == (300.0, 0.05)
    assert (typical.survival[9], typical.survival[10], typical.survival[20]) == (1, 0.333333, 0)


def test_where_nobody_ordered_twice_a_gap_is_taken_for_a_third_of_the_horizon() -> None:
    table = tabulate([(facts_of(every("cleo", 1, 1)), at(100))])
    assert np.isclose(typical_of(table.purchases.gaps, np.array([-1.0]), 30).log_gap, np.log(10))
