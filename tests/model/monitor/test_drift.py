"""Drift and level: what they are worked out by hand, that chance rarely rings, and drift does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns.catalog import FEATURES
from features.columns.table import FactColumns
from features.columns.vector import FEATURE_NAMES
from features.events.orders import Order, OrderType
from features.facts.state import CustomerState
from features.times import day_of
from model.data.synthetic import Shop, generate
from model.decide.scoring import Scorer
from model.monitor import weekly as monitor
from model.monitor.drift import (
    MATERIAL_PSI,
    Brought,
    Buyers,
    base,
    bias_of,
    bins_of,
    buyers,
    checks_of,
    drifts,
    level_of,
    psi,
    psi_threshold,
    reference_of,
    revenue_within,
    rows_of,
)
from model.monitor.result import SCORE, Bins, DriftReference
from model.monitor.weekly import of_everybody
from tests.support import modelling
from tests.support.fakes import START_MS, LinearModel, an_order, at, facts_of

DAY_0 = day_of(START_MS)


def state_of(*orders: Order) -> CustomerState:
    return facts_of(orders)


# --- who bought, and what they brought -----------------------------------------------------------


def test_buyers_are_those_of_seven_days_as_of_the_day_after_their_first_purchase_in_them() -> None:
    states = [
        state_of(an_order("a", 3.5), an_order("a", 5.5)),
        state_of(an_order("b", 2.9)),  # before the window
        state_of(an_order("c", 10.0)),  # at its end: the next one's
        state_of(an_order("d", 1.0), an_order("d", 9.9)),
    ]
    found = buyers(FactColumns.of(states), DAY_0 + 10)
    assert found.place.tolist() == [0, 3]
    assert (found.day - DAY_0).tolist() == [4, 10]


def test_a_window_of_the_past_is_looked_at_in_the_states_of_now() -> None:
    then = [an_order("a", 1.5), an_order("a", 8.5)]
    later = [an_order("a", 9.5), an_order("a", 20.5)]  # one on the very day of the look
    for end in (3, 9):
        found = buyers(FactColumns.of([state_of(*then)]), DAY_0 + end)
        now = buyers(FactColumns.of([state_of(*then, *later)]), DAY_0 + end)
        assert now.day.tolist() == found.day.tolist()
        np.testing.assert_array_equal(
            rows_of(FactColumns.of([state_of(*then, *later)]), now),
            rows_of(FactColumns.of([state_of(*then)]), found),
        )


def test_revenue_is_net_of_refunds_and_of_the_days_asked_for() -> None:
    state = state_of(
        an_order("a", 0.5, 1_000),
        an_order("a", 1.5, 300),
        an_order("a", 3.5, 200, OrderType.REFUND, id="x"),
        an_order("a", 5.5, 700),
        an_order("a", 9.5, 100, OrderType.REFUND, id="y"),
    )
    found = Buyers(np.array([0]), np.array([DAY_0 + 1]))
    within = [
        revenue_within(FactColumns.of([state]), found, days).tolist() for days in (1, 4, 5, 9)
    ]
    assert within == [[300.0], [100.0], [800.0], [700.0]]
    assert revenue_within(
        FactColumns.of([state]), Buyers(np.array([0]), np.array([DAY_0 + 6])), 4
    ) == [0.0]


def test_the_base_of_a_day_knows_nothing_of_the_day() -> None:
    states = [
        state_of(an_order("a", 3.5), an_order("a", 10.1)),
        state_of(an_order("b", 10.0)),  # on the day: not known yet
        state_of(an_order("c", 0.5)),
        state_of(an_order("d", 2.5), an_order("d", 4.5, type=OrderType.CANCELLATION, id="d-2.5")),
    ]
    everybody = base(FactColumns.of(states), DAY_0 + 10, None)
    assert everybody.place.tolist() == [0, 2]
    assert base(FactColumns.of(states), DAY_0 + 10, 7).place.tolist() == [0]
    assert base(FactColumns.of(states), DAY_0 + 10, 6).place.tolist() == []
    np.testing.assert_array_equal(
        rows_of(FactColumns.of(states), everybody)[0],
        rows_of(FactColumns.of([state_of(an_order("a", 3.5))] * 3), everybody)[0],
    )


# --- PSI -----------------------------------------------------------------------------------------


def test_psi_is_what_it_is_worked_out_to_by_hand() -> None:
    reference = Bins(edges=[1.0], shares=[0.5, 0.5])
    values = np.array([0.0] * 30 + [1.0] * 10)
    q = (30.5 / 41, 10.5 / 41)
    p = (0.5 + 0.5 / 40) / (1 + 1 / 40)
    assert p == 0.5
    assert psi(values, reference) == pytest.approx(
        sum((share - p) * math.log(share / p) for share in q)
    )


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
)
def test_psi_is_finite_never_negative_and_0_for_the_same(
    one: list[float], two: list[float]
) -> None:
    bins = bins_of(np.array(one))
    assert len(bins.shares) == len(bins.edges) + 1
    assert sum(bins.shares) == pytest.approx(1)
    assert 0 <= psi(np.array(two), bins) < math.inf
    assert psi(np.array(one), bins) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(0, 50), min_size=5, max_size=40), st.randoms())
def test_psi_does_not_depend_on_the_order_of_customers(values: list[int], random: object) -> None:
    bins = bins_of(np.arange(50.0))
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert psi(np.array(values, float), bins) == psi(np.array(shuffled, float), bins)


def test_chance_exceeds_the_threshold_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    population = rng.lognormal(size=20_000)
    for n in (100, 500):
        found = []
        for _ in range(400):
            bins = bins_of(population[rng.integers(len(population), size=2_000)])
            found.append(psi(rng.lognormal(size=n), bins))
        threshold = psi_threshold(n, 2_000, 10, 0.05)
        assert 0.01 < np.mean(np.array(found) > threshold) < 0.10


# --- the level -----------------------------------------------------------------------------------


def brought(rng: np.random.Generator, n: int, factor: float = 1.0) -> Brought:
    expected = rng.lognormal(8, 1, n)
    came = rng.random(n) < 0.3
    return Brought(np.arange(n), expected, factor * came * expected * rng.lognormal(0, 0.5, n))


def test_a_level_that_falls_by_half_rings_and_one_that_stays_does_not() -> None:
    rng = np.random.default_rng(3)
    level = level_of(28, None, [brought(rng, 300) for _ in range(20)])
    assert level is not None
    rings = Counter()
    for _ in range(100):
        for factor in (1.0, 2.0, 0.5):
            bias = bias_of(brought(rng, 1_500, factor), level, "2025-01-01", 3)
            assert bias is not None
            rings[factor] += bias.alarm
            assert bias.low < 1 < bias.high
    assert rings[1.0] <= 1
    assert min(rings[2.0], rings[0.5]) >= 95


def test_one_customer_alone_does_not_ring() -> None:
    rng = np.random.default_rng(3)
    level = level_of(28, None, [brought(rng, 300) for _ in range(20)])
    assert level is not None
    one = brought(rng, 600)
    one.revenue[7] = 1e9
    bias = bias_of(one, level, "2025-01-01", 3)
    assert bias is not None
    assert bias.bias < 0.01
    assert not bias.alarm


def test_there_is_no_level_where_nobody_brings_anything() -> None:
    nothing = Brought(np.arange(3), np.ones(3), np.zeros(3))
    assert level_of(28, None, [nothing]) is None
    some = level_of(28, None, [Brought(np.arange(3), np.ones(3), np.ones(3))])
    assert some is not None
    assert bias_of(nothing, some, "2025-01-01", 3) is None


def test_levels_are_looked_at_early_and_at_the_horizon() -> None:
    assert checks_of(90) == [14, 28, 90]
    assert checks_of(28) == [14, 28]
    assert checks_of(7) == [7]


# --- a log ---------------------------------------------------------------------------------------


def scorer() -> Scorer:
    model = modelling.model()
    return Scorer.of(model, "v", (0.0,) * 101)


@pytest.fixture(scope="module")
def steady() -> list[Order]:
    """A shop in which nothing changes, its own age aside."""
    return generate(Shop(customers=2_000, days=760, arrival_days=760, seed=5)).orders


def test_a_shop_in_which_nothing_changes_rings_rarely(steady: list[Order]) -> None:
    cutoff = day_of(steady[0].ts_ms) + 560
    known = monitor.reference(steady, scorer(), cutoff)
    assert known is not None
    found = list(monitor.weeks(steady, scorer(), of_everybody(known), cutoff))
    assert len(found) > 25
    assert all(week.customers > 80 and week.drifts and week.biases for week in found)
    assert sum(bool(week.alarms) for week in found) <= 1


def test_dearer_baskets_ring_in_the_features_in_the_score_and_in_the_level(
    steady: list[Order],
) -> None:
    cutoff = day_of(steady[0].ts_ms) + 560
    known = monitor.reference(steady, scorer(), cutoff)
    assert known is not None
    changed = [
        Order(o.order_id, o.user_id, o.ts_ms, o.amount_minor * 3, o.type)
        if day_of(o.ts_ms) >= cutoff
        else o
        for o in steady
    ]
    last = nth_week(changed, known, cutoff, 10)
    rung = {drift.name for drift in last.drifts if drift.alarm}
    assert {"last_purchase_gross_minor", SCORE} <= rung
    assert not any(bias.alarm for bias in last.biases if bias.typical > 1)
    fewer = [o for o in steady if day_of(o.ts_ms) < cutoff or hash_of(o) % 3]
    late = nth_week(fewer, known, cutoff, 8)
    assert any(bias.alarm and bias.typical > 1 for bias in late.biases)


def nth_week(
    orders: Sequence[Order], known: DriftReference, cutoff: int, number: int
) -> monitor.Week:
    """The week of that number after the cutoff."""
    return next(islice(monitor.weeks(orders, scorer(), of_everybody(known), cutoff), number, None))


def hash_of(order: Order) -> int:
    return sum(order.order_id.encode())


def test_the_reference_knows_nothing_of_what_comes_after_the_cutoff(steady: list[Order]) -> None:
    cutoff = day_of(steady[0].ts_ms) + 400
    before = [o for o in steady if day_of(o.ts_ms) < cutoff]
    assert monitor.reference(before, scorer(), cutoff) == monitor.reference(
        steady[: len(before) + 500], scorer(), cutoff
    )


def test_what_ages_with_the_shop_is_shown_and_rings_never() -> None:
    X = np.abs(np.random.default_rng(1).normal(size=(500, len(FEATURE_NAMES))))
    known = reference_of(X, X[:, 0], 10, [])
    found = {drift.name: drift for drift in drifts(X * 100, X[:, 0], known)}
    assert {name for name, drift in found.items() if not drift.alarm} == {
        SCORE,
        *(f.name for f in FEATURES if f.ages),
    }
    assert found["T_days"].psi > MATERIAL_PSI


def test_too_few_customers_have_no_reference_and_a_constant_feature_no_drift() -> None:
    orders = [an_order(f"u{n}", n) for n in range(30)]
    by = replace(scorer(), model=LinearModel())
    assert monitor.reference(orders, by, day_of(at(40))) is None
    assert monitor.reference([], by, day_of(at(40))) is None
    X = np.ones((100, len(FEATURE_NAMES)))
    assert drifts(X, X[:, 0], reference_of(X, X[:, 0], 3, [])) == []
