"""The optimum of a fit against a slow obvious twin."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.arrays import Floats
from model.estimators.optimum import minimum, settled, significant


def _by_all_active_sets(matrix: Floats, slope: Floats, lower: Floats, upper: Floats) -> Floats:
    """Every parameter at its lower bound, at its upper, or free: the lowest that is allowed."""
    found = []
    for places in product((-1, 0, 1), repeat=len(slope)):
        x = np.where(np.array(places) < 0, lower, upper)
        free = np.array(places) == 0
        if free.any():
            rest = slope[free] - matrix[np.ix_(free, ~free)] @ x[~free]
            x[free] = np.linalg.solve(matrix[np.ix_(free, free)], rest)
        if ((lower - 1e-9 <= x) & (x <= upper + 1e-9)).all():
            found.append((0.5 * x @ matrix @ x - slope @ x, x))
    return np.asarray(min(found, key=lambda one: one[0])[1])


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_minimum_is_the_best_of_all_sets_of_parameters_at_a_bound(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(k, k + 2))
    matrix, slope = root @ root.T + 0.1 * np.eye(k), rng.normal(size=k)
    lower, upper = -rng.uniform(0, 1, k), rng.uniform(0, 1, k)

    def loss(x: Floats) -> tuple[float, Floats]:
        return float(0.5 * x @ matrix @ x - slope @ x), matrix @ x - slope

    found = minimum(loss, np.zeros(k), (lower, upper))
    np.testing.assert_allclose(
        found, _by_all_active_sets(matrix, slope, lower, upper), rtol=0, atol=1e-9
    )


def test_what_is_stored_has_the_digits_in_which_processors_agree() -> None:
    numbers = np.array([0.123456789012, -1e-12, -0.0])
    assert settled(numbers).tolist() == [0.1234568, 0.0, 0.0]
    assert not np.signbit(settled(numbers))[1:].any()
    assert significant(np.array([1234567890.4, 0.0, -1.0000000004e-5])).tolist() == [
        1234567890.0,
        0.0,
        -1e-5,
    ]
    assert significant(5e-324) >= 0.0
