"""What is learnt of a shop's past: P(churn), P(an order soon) and when to warn; at any horizon."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from features.arrays import Floats
from features.columns.rhythm import GROUP_OF, GROUPS, RISING, Typical
from features.columns.table import FactColumns, tabulate
from features.events.orders import Order
from features.facts.state import CustomerState
from features.times import MS_PER_DAY, day_of
from model.backtest.run import BacktestPlan, backtest, trained
from model.data.customer_days import (
    MAX_ROWS,
    CustomerDays,
    customer_days,
    silences_of,
    soon_days,
)
from model.data.synthetic import Shop, generate
from model.data.training_rows import TooLittleData, TrainingConfig, known_states, training_set
from model.decide.learned import EARLY, FALLBACK_MONEY, Learned, Threshold
from model.decide.policy import Policy
from model.estimators.risk import index
from model.evaluate.learn import MONEY, Lessons, _above, _quantile, learn
from tests.support.fakes import TYPICAL, an_order, every, facts_of
from tests.support.shops import orders_of

HORIZON = 60


@cache
def shop(days: int = 700) -> list[Order]:
    return generate(Shop(customers=300, days=days, arrival_days=days // 2, seed=4)).orders


def money(X: Floats) -> Floats:
    return np.ones(len(X))


def days_of(states: Mapping[str, CustomerState], day: int, typical: Typical) -> CustomerDays:
    facts = FactColumns.of(list(states.values()))
    return customer_days(list(states), facts, day, HORIZON, typical)


@cache
def lessons() -> Lessons:
    day = day_of(shop()[-1].ts_ms) + 1
    return learn(known_states(shop(), day), day, HORIZON, money, 0.5)


def test_a_customer_day_knows_what_was_before_it_and_is_labelled_by_what_came_after() -> None:
    # Orders on days 0, 20 and 100; as of day 160 the last silence is known to last 60 days.
    orders = [an_order("ada", day) for day in (0.5, 20.5, 100.5)]
    state = facts_of(orders)
    first = day_of(orders[0].ts_ms)
    silences = silences_of(FactColumns.of([state]), first + 160)
    assert (silences.since - first).tolist() == [0, 20, 100]
    assert (silences.until - silences.since)[:2].tolist() == [20, 80]
    rows = customer_days(["ada"], FactColumns.of([state]), first + 160, 40, TYPICAL)
    share = rows.columns[:, RISING.index("silence")]
    since = np.repeat([0, 20, 100], 8)[: len(share)]  # some days of the first are after it ended
    days = np.round(share * 40)
    assert days.max() <= 40
    churned = days[rows.churned & rows.churn_known]
    assert set(days[~rows.churned].tolist()) & set(range(1, 21))
    assert len(churned)
    assert soon_days(40) == 5
    assert since.max() == 100


def test_days_after_the_training_day_decide_nothing() -> None:
    day = day_of(shop()[0].ts_ms) + 400
    before = [order for order in shop() if day_of(order.ts_ms) < day]
    known, whole = known_states(before, day), known_states(shop(), day)
    one, other = (days_of(s, day, TYPICAL) for s in (known, whole))
    assert np.array_equal(one.columns, other.columns)
    assert np.array_equal(one.churned, other.churned)
    assert len(one.columns) <= MAX_ROWS


def test_the_probability_to_leave_never_falls_while_nothing_happens() -> None:
    risk = lessons().risk
    assert risk is not None
    weights = dict(zip(risk.columns, risk.churn.weights, strict=True))
    assert min(weights[name] for name in RISING) >= 0
    state = facts_of(every("ada", 9, 8))
    first = state.last_purchase_day or 0
    table = tabulate([(state, (first + n) * MS_PER_DAY) for n in range(2 * HORIZON)])
    churn, soon = risk.predict(risk.rows(table))
    assert (np.diff(churn) >= 0).all()
    assert churn[-1] > churn[0]
    assert (soon > 0).all()


def test_what_groups_add_to_the_average_makes_up_the_probability() -> None:
    risk = lessons().risk
    assert risk is not None
    state = facts_of(every("ada", 9, 8))
    rows = risk.rows(tabulate([(state, ((state.last_purchase_day or 0) + 20) * MS_PER_DAY)]))
    parts = risk.parts(rows)
    assert parts is not None
    log_odds = risk.baseline + parts.sum(axis=1)
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(risk.predict(rows)[0], abs=1e-6)
    assert set(GROUP_OF.values()) == set(GROUPS)


def test_probabilities_are_those_of_what_happens() -> None:
    day = day_of(shop()[-1].ts_ms) + 1
    risk = lessons().risk
    assert risk is not None
    rows = days_of(known_states(shop(), day), day, risk.typical)
    churn, _ = risk.predict(np.clip(rows.columns, risk.low, risk.high)[rows.churn_known])
    happened = np.average(rows.churned[rows.churn_known], weights=rows.weight[rows.churn_known])
    assert abs(np.average(churn, weights=rows.weight[rows.churn_known]) - happened) < 0.01


def test_the_same_past_teaches_the_same() -> None:
    day = day_of(shop()[-1].ts_ms) + 1
    assert learn(known_states(shop(), day), day, HORIZON, money, 0.5) == lessons()


def test_an_earlier_warning_has_a_lower_threshold() -> None:
    learned = lessons().learned
    assert tuple(each.early for each in learned.thresholds) == EARLY
    indices = [each.index for each in learned.thresholds]
    assert indices == sorted(indices)
    leads = [each.median_lead_days for each in learned.thresholds]
    assert leads == sorted(leads, reverse=True)
    assert learned.left >= 10


def test_a_threshold_is_that_of_customers_like_those_who_are_leaving_now() -> None:
    # Who left bought once, and whoever is left has bought often: their index comes later.
    values = np.array([1.0, 1.1, 1.2, 3.0, 3.1])
    assert _quantile(values, np.full(5, 10_000), 0.5) == 1.2
    assert _quantile(values, np.array([1, 1, 1, 10_000, 10_000]), 0.5) == 3.0


def test_money_is_weighed_as_was_best_on_lists_of_the_past() -> None:
    found = lessons().learned.ranking
    assert found is not None
    assert found.money in MONEY
    assert found.left >= 10
    assert 0 < found.precision <= 1
    assert 0 < found.value <= 1
    assert lessons().learned.money(Policy()) == found.money
    assert lessons().learned.money(Policy(money=3)) == 3
    assert Learned().money(Policy()) == FALLBACK_MONEY


def test_lists_are_taken_where_both_precision_and_value_are_above_simple_ones() -> None:
    assert _above((0.5, 0.3), 0.4, 0.2) == 1.25
    assert _above((0.3, 0.9), 0.4, 0.2) == 0.75


def test_a_policy_chooses_by_how_early_or_by_how_sure() -> None:
    learned = Learned(
        thresholds=(
            Threshold(0.9, 1.0, 0.4, 40.0),
            Threshold(0.5, 2.0, 0.5, 30.0),
            Threshold(0.1, 3.0, 0.6, 15.0),
        )
    )
    assert learned.threshold(Policy()) == 2.0
    assert learned.threshold(Policy(early=0.8)) == 1.0
    assert learned.threshold(Policy(precision=0.45)) == 2.0
    assert learned.threshold(Policy(precision=0.99)) == 3.0  # the surest there is
    assert Learned().threshold(Policy()) is None


def test_the_index_compares_leaving_with_an_order_soon() -> None:
    assert index(np.array([0.5, 0.0]), np.array([0.25, 0.0])).tolist() == pytest.approx(
        [np.log(2), np.log(1e-6 / 1e-4)], abs=1e-6
    )


def test_too_little_past_is_said_and_warns_from_half_the_horizon() -> None:
    few = [order for number in range(4) for order in every(f"u{number}", 20, 9)]
    day = day_of(max(order.ts_ms for order in few)) + 30
    found = learn(known_states(sorted(few, key=lambda o: o.ts_ms), day), day, 60, money, 0.5)
    assert found.risk is None
    assert "too few became longer than 60 days" in found.learned.why_not


# --- any horizon ---------------------------------------------------------------------------------


# Customers arrive in the first half of a log. One of 4.4 x 365 days leaves three years to learn
# from: most who left there had bought once, and nobody in the judged period has.
@pytest.mark.parametrize(
    ("horizon", "days"),
    [
        (30, 400),
        *(
            pytest.param(horizon, days, marks=pytest.mark.slow)
            for horizon, days in ((14, 400), (90, 600), (180, 1_000), (365, 2_200), (730, 2_900))
        ),
    ],
)
def test_at_any_horizon_nearly_everybody_who_leaves_is_warned_of_in_time(
    horizon: int, days: int
) -> None:
    shop = Shop(250, days, days // 2, rate_days=horizon / 3, drop_b=5.0, seed=horizon)
    orders = generate(shop).orders
    day = day_of(orders[-1].ts_ms) + 1 - horizon - horizon // 2
    by = trained(orders, day, TrainingConfig(horizon_days=horizon, kind="poisson"))
    found = backtest(orders, by, BacktestPlan(day)).rule
    assert found.churners >= 5
    assert (found.recall or 0) >= 0.9
    assert (found.median_lead_days or 0) >= horizon / 4


@pytest.mark.parametrize(
    ("kind", "horizon", "customers", "days"),
    [
        ("growing", 90, 250, 600),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("subscription", 60, 200, 600),
                ("grocery", 30, 150, 300),
                ("shrinking", 90, 250, 600),
                ("gifts", 365, 200, 2_300),
            )
        ),
    ],
)
def test_in_shops_of_other_kinds_too(kind: str, horizon: int, customers: int, days: int) -> None:
    orders = orders_of(kind, customers, days)
    day = day_of(orders[-1].ts_ms) + 1 - horizon - horizon // 2
    by = trained(orders, day, TrainingConfig(horizon_days=horizon, kind="poisson"))
    found = backtest(orders, by, BacktestPlan(day)).rule
    assert found.churners >= 5
    assert (found.recall or 0) >= 0.9
    assert (found.median_lead_days or 0) >= horizon / 4


def test_a_log_too_short_for_a_horizon_says_which_it_carries() -> None:
    orders = shop(300)
    config = TrainingConfig(horizon_days=365)
    with pytest.raises(TooLittleData, match=r"this log carries 1\d\d\)"):
        training_set(orders, config, day_of(orders[-1].ts_ms) + 1 - 365)
