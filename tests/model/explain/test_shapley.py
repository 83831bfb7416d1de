"""Contributions to a CLV: they add up, they are the Shapley values, and they name what matters."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor

from features.arrays import Floats
from features.columns.catalog import Group
from features.columns.vector import FEATURE_NAMES, vectors
from features.events.orders import Order
from model.decide.scoring import Scorer
from model.explain.groups import Mixer, groups_of
from model.explain.shapley import CannotExplain, Explanation, explain, in_units, shapley, typical
from tests.support import modelling
from tests.support.fakes import LinearModel, at, every, facts_of, scorer
from tests.support.strategies import histories

_GROUPS = groups_of(FEATURE_NAMES)


def _default() -> Scorer:
    """The shop's model, with its typical customer."""
    by = Scorer.of(modelling.model(), "shop", (0.0,) * 101)
    return replace(by, typical=tuple(typical(modelling.known()).tolist()))


def _linear(**weights: float) -> Scorer:
    reference = typical(modelling.known())
    return replace(
        scorer(LinearModel(weights, bias=weights.pop("bias", 0.0))),
        typical=tuple(reference.tolist()),
    )


def _parts(explanation: Explanation) -> dict[str, int]:
    return dict(explanation.contributions)


def _by_permutations(by: Scorer, row: Floats) -> dict[str, float]:
    """The definition, slowly: what a group adds when it comes, on average over all orders."""
    mixer = Mixer.of(row[None, :], np.array(by.typical), FEATURE_NAMES)

    def value(groups: tuple[Group, ...]) -> int:
        return int(by.rate(mixer.rows([groups])[0])[0][0])

    totals = dict.fromkeys(_GROUPS, 0)
    for order in permutations(_GROUPS):
        for place, group in enumerate(order):
            totals[group] += value(order[: place + 1]) - value(order[:place])
    return {group.value: total / factorial(len(_GROUPS)) for group, total in totals.items()}


# --- the whole ------------------------------------------------------------------------------------


def test_baseline_and_contributions_are_the_clv_to_the_minor_unit() -> None:
    by, X = _default(), modelling.known()
    clv_minor, _ = by.rate(X)
    assert [e.clv_minor for e in explain(by, X)] == clv_minor.tolist()
    assert {frozenset(_parts(e)) for e in explain(by, X[:9])} == {frozenset(_GROUPS)}


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_vectors_that_are_no_customers_are_explained_to_the_minor_unit_as_well(seed: int) -> None:
    by, X = _default(), modelling.random_rows(seed, 20)
    assert [e.clv_minor for e in explain(by, X)] == by.rate(X)[0].tolist()


def test_contributions_are_those_of_the_definition_by_permutations() -> None:
    by = _default()
    for row in modelling.known()[::67]:
        (explained,) = explain(by, row[None, :])
        slow = _by_permutations(by, row)
        assert all(abs(part - slow[name]) < 1 for name, part in explained.contributions)


def test_many_are_explained_as_each_alone() -> None:
    by, X = _default(), modelling.known()[:40]
    assert explain(by, X) == [explain(by, row[None, :])[0] for row in X]


def test_more_customers_than_go_into_one_call_of_the_model_keep_their_order() -> None:
    by = _linear(bias=500.0, days_since_last_order=-1.0)
    X = np.resize(modelling.known(), (2_100, len(FEATURE_NAMES)))
    assert [e.clv_minor for e in explain(by, X)] == by.rate(X)[0].tolist()


def test_the_typical_customer_owes_nothing_to_any_group() -> None:
    by = _default()
    (explained,) = explain(by, np.array([by.typical]))
    assert set(_parts(explained).values()) == {0}
    assert explained.baseline_minor == explained.clv_minor > 0


def test_the_largest_contribution_comes_first() -> None:
    for explained in explain(_default(), modelling.known()[:20]):
        sizes = [abs(part) for _, part in explained.contributions]
        assert sizes == sorted(sizes, reverse=True)


def test_nobody_to_explain_is_an_empty_list() -> None:
    assert explain(_default(), np.empty((0, len(FEATURE_NAMES)))) == []


def test_a_model_without_a_typical_customer_says_so() -> None:
    with pytest.raises(CannotExplain, match="fake-1 does not name its typical customer"):
        explain(scorer(), modelling.known()[:1])


# --- what each group gets -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "group"),
    [
        ("days_since_last_order", Group.SILENCE),
        ("frequency", Group.FREQUENCY),
        ("gap_mean_days", Group.FREQUENCY),
        ("aov_minor_lifetime", Group.BASKETS),
        ("last_purchase_gross_minor", Group.BASKETS),
        ("refunded_share_lifetime", Group.REFUNDS),
    ],
)
def test_a_model_that_sees_one_group_credits_that_group_alone(feature: str, group: Group) -> None:
    by = _linear(bias=1_000.0, **{feature: 0.1})
    for explained in explain(by, modelling.known()[:50]):
        assert {name for name, part in explained.contributions if part} <= {group.value}


def test_silence_is_charged_for_what_it_takes_from_decayed_sums() -> None:
    """Two customers who differ by silence alone differ by its contribution alone."""
    state = facts_of(every("ada", 7, 6))
    awake, silent = vectors([(state, at(36)), (state, at(300))])
    by = replace(_linear(decayed_orders_45d=10.0, T_days=0.001), typical=tuple(awake.tolist()))
    (explained,) = explain(by, silent[None, :])
    assert {name for name, part in explained.contributions if part} == {Group.SILENCE}
    assert _parts(explained)[Group.SILENCE] < 0


@given(first=histories(), second=histories())
def test_customers_mixed_with_themselves_are_themselves(
    first: list[Order], second: list[Order]
) -> None:
    """So that a group in which two customers are equal makes no difference."""
    one, other = vectors([(facts_of(history), at(1_100)) for history in (first, second)])
    mixer = Mixer.of(one[None, :], one, FEATURE_NAMES)
    for group in _GROUPS:
        # Of 10**11 ordered and sent back, the arithmetic may leave a thousandth of a minor unit.
        np.testing.assert_allclose(mixer.rows([[group]])[0, 0], one, rtol=1e-9, atol=1e-3)
    mixed = Mixer.of(one[None, :], other, FEATURE_NAMES)
    assert np.array_equal(mixed.rows([_GROUPS])[0, 0], one)
    assert np.array_equal(mixed.rows([[]])[0, 0], other)


def test_customers_of_a_shop_mix_to_customers_that_can_be() -> None:
    X, names = modelling.known(), list(FEATURE_NAMES)
    mixer = Mixer.of(X, typical(X), FEATURE_NAMES)
    for group in _GROUPS:
        (rows,) = mixer.rows([[group]])
        column = {name: rows[:, i] for i, name in enumerate(names)}
        np.testing.assert_allclose(
            column["T_days"] - column["recency_days"], column["days_since_last_order"]
        )
        for days in (7, 30, 90, 365):
            inside = column["days_since_last_order"] < days
            assert ((column[f"orders_{days}d"] > 0) == inside).all()
            gross = column[f"orders_{days}d"] * column[f"aov_minor_{days}d"]
            assert (column[f"net_minor_{days}d"] <= gross + 1e-6 * gross).all()


def test_columns_beyond_the_streams_own_are_attributes() -> None:
    names = (*FEATURE_NAMES, "age", "channel")

    class Aged:
        feature_names = names

        def clv(self, X: Floats) -> Floats:
            return np.round(100.0 + X[:, -2], 2)

        def churn(self, X: Floats) -> Floats:
            return np.zeros(len(X))

    X = np.column_stack([modelling.known()[:5], np.arange(5.0), np.full(5, np.nan)])
    by = replace(scorer(), model=Aged(), typical=tuple(X[0].tolist()))
    assert groups_of(names)[-1] is Group.ATTRIBUTES
    for number, explained in enumerate(explain(by, X)):
        assert _parts(explained).pop("attributes") == 100 * number
        assert explained.clv_minor == 10_000 + 100 * number


# --- Shapley values -------------------------------------------------------------------------------

_games = st.integers(1, 5).flatmap(
    lambda g: st.lists(st.integers(-1_000, 1_000), min_size=1 << g, max_size=1 << g)
)


@given(_games)
def test_shapley_values_share_out_the_whole(game: list[int]) -> None:
    (shares,) = shapley(np.array([game]))
    assert shares.sum() == (game[-1] - game[0]) * factorial(len(shares))


@given(_games)
def test_a_player_who_adds_nothing_gets_nothing(game: list[int]) -> None:
    *_, last = shapley(np.array([game + game]))[0]  # the last player makes no difference
    assert last == 0


@given(st.lists(st.integers(-1_000, 1_000), min_size=6, max_size=6))
def test_equal_players_get_the_same(by_size: list[int]) -> None:
    (shares,) = shapley(np.array([[by_size[number.bit_count()] for number in range(32)]]))
    assert len(set(shares.tolist())) == 1


@given(_games, st.integers(0, 2**32 - 1))
def test_contributions_to_a_sum_of_games_add_up(game: list[int], seed: int) -> None:
    one, other = np.array([game]), np.random.default_rng(seed).integers(-50, 50, (1, len(game)))
    assert np.array_equal(shapley(one + other), shapley(one) + shapley(other))


def test_shapley_values_of_a_forest_are_those_of_the_shap_package() -> None:
    shap = pytest.importorskip("shap", reason="the extra 'explain' is not installed")
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 4))
    y = X[:, 0] * X[:, 1] + X[:, 2]
    forest = RandomForestRegressor(10, max_depth=5, random_state=0).fit(X, y)
    reference, rows = X[:1], X[1:30]
    values = [
        forest.predict(np.where([n >> i & 1 for i in range(4)], rows, reference)) for n in range(16)
    ]
    whole = np.round(np.stack(values, axis=1) * 1e9).astype(np.int64)
    theirs = shap.TreeExplainer(forest, reference, feature_perturbation="interventional")
    np.testing.assert_allclose(shapley(whole) / 24e9, theirs.shap_values(rows), atol=1e-6)


# --- whole numbers --------------------------------------------------------------------------------


@given(_games)
def test_parts_in_whole_units_add_up_and_are_off_by_less_than_one(game: list[int]) -> None:
    parts = shapley(np.array([game]))[0].tolist()
    whole, orders = in_units(parts), factorial(len(parts))
    assert sum(whole) == game[-1] - game[0]
    assert all(abs(unit * orders - part) < orders for unit, part in zip(whole, parts, strict=True))


def test_a_group_without_a_part_gets_no_unit_of_the_rounding() -> None:
    assert in_units([3, 0, 3]) == [1, 0, 0]


# --- the typical customer -------------------------------------------------------------------------


def test_the_typical_customer_is_one_of_those_known() -> None:
    X = modelling.known()
    chosen = typical(X)
    assert any(np.array_equal(chosen, row) for row in X)
    share_below = float((modelling.model().clv(X) < modelling.model().clv(chosen[None, :])).mean())
    assert 0.1 < share_below < 0.9


def test_the_only_customer_is_typical_and_constant_features_do_no_harm() -> None:
    X = modelling.known()[:1]
    assert np.array_equal(typical(X), X[0])
    assert np.array_equal(typical(np.repeat(X, 3, axis=0)), X[0])
