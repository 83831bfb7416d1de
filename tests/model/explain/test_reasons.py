"""Why a CLV fell: every cause is named, and the shares are all of the fall."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from features.events.orders import Order, OrderType
from model.decide.codec import UNKNOWN
from model.decide.policy import Policy
from model.decide.rule_state import Trigger
from model.explain.reasons import Factor, explain
from model.judge.judge import Judge
from model.judge.judged import ScheduledCustomer, Scoring
from tests.support.fakes import LinearModel, an_order, at, every, judge, scorer
from tests.support.logs import shop_logs
from tests.support.twins.judge import events_of


def raised(by: Judge, orders: list[Order], until_day: float) -> list[Scoring]:
    """The warnings and value drops of one customer."""
    judged = by.judge({"ada": ScheduledCustomer(UNKNOWN, None)}, {"ada": events_of(orders, 0)})
    then = by.judge(judged.tracks, {}, at(until_day))
    return [scoring for scoring in judged.scorings + then.scorings if scoring.notice]


def reasons(by: Judge, orders: list[Order], until_day: float = 0) -> dict[Factor, float]:
    """Shares by factor of the only warning."""
    (shares,) = explain(by.scorer, raised(by, orders, until_day))
    return {share.factor: share.share for share in shares}


def by_model(**weights: float) -> Judge:
    return judge(
        Policy(floor_percentile=0),
        scorer(LinearModel(weights, bias=weights.pop("bias", 0.0))),
    )


def test_a_fall_by_silence_alone_is_all_silence() -> None:
    by = by_model(days_since_last_order=-1.0, bias=60.0)
    assert reasons(by, every("ada", 7, 3), 60) == {Factor.SILENCE: 1.0}


def test_an_order_far_below_the_others_is_a_smaller_basket() -> None:
    by = by_model(aov_minor_lifetime=0.01)
    orders = [an_order("ada", 1), an_order("ada", 2, 100)]
    assert reasons(by, orders) == {Factor.BASKETS: 1.0}


def test_a_refund_shows_up_as_refunds() -> None:
    by = by_model(net_minor_365d=0.01)
    orders = [*every("ada", 7, 3), an_order("ada", 20, 9_000, OrderType.REFUND)]
    assert reasons(by, orders) == {Factor.REFUNDS: 1.0}


def test_a_refund_on_the_day_of_the_order_shows_up_as_refunds() -> None:
    by = by_model(net_minor_365d=0.01)
    orders = [*every("ada", 7, 3), an_order("ada", 14.75, 9_000, OrderType.REFUND)]
    assert reasons(by, orders) == {Factor.REFUNDS: 1.0}


def test_a_cancelled_order_is_a_lower_frequency() -> None:
    by = by_model(orders_365d=10.0)
    orders = [*every("ada", 7, 3), an_order("ada", 15, 0, OrderType.CANCELLATION, id="ada-7.5")]
    assert reasons(by, orders) == {Factor.FREQUENCY: 1.0}


def test_causes_that_work_together_share_the_fall() -> None:
    by = by_model(net_minor_365d=0.01, days_since_last_order=-1.0, bias=60.0)
    orders = [*every("ada", 7, 3), an_order("ada", 20, 4_050, OrderType.REFUND)]
    # 210.00 at the peak; on the 20th day of silence 40.50 and 20.00 of it are gone.
    assert reasons(by, orders, 60) == {Factor.REFUNDS: 0.6695, Factor.SILENCE: 0.3305}


def test_the_largest_share_comes_first_and_none_is_nothing() -> None:
    by = by_model(net_minor_365d=0.01, days_since_last_order=-1.0, bias=60.0)
    orders = [*every("ada", 7, 3), an_order("ada", 20, 4_000, OrderType.REFUND)]
    (shares,) = explain(by.scorer, raised(by, orders, 60))
    assert [share.share for share in shares] == sorted((s.share for s in shares), reverse=True)
    assert all(share.share > 0 for share in shares)


@pytest.mark.parametrize("amount_minor", [10**11, 3 * 10**9])
def test_baskets_of_any_size_can_be_explained(amount_minor: int) -> None:
    by = by_model(aov_minor_lifetime=0.01)
    orders = [*every("ada", 1, 2, amount_minor), an_order("ada", 5, 1)]
    assert reasons(by, orders) == {Factor.BASKETS: 1.0}


def test_nothing_fired_asks_the_model_nothing() -> None:
    assert explain(judge().scorer, []) == []


@given(orders=shop_logs())
def test_the_shares_of_a_warning_are_all_of_it(orders: list[Order]) -> None:
    by = judge(Policy(floor_percentile=0))
    mine = [order for order in orders if order.user_id == "ada"]
    told = raised(by, mine, 700)
    explained = explain(by.scorer, told)
    assert len(explained) == len(told)
    for shares in explained:
        assert sum(Decimal(str(share.share)) for share in shares) == 1
        assert all(share.share > 0 for share in shares)


def test_many_warnings_are_explained_as_each_alone() -> None:
    by = judge(Policy(floor_percentile=0))
    orders = [*every("ada", 7, 3), an_order("ada", 15, 13_000, OrderType.REFUND)]
    told = raised(by, orders, 700)
    assert {s.trigger for s in told} >= {Trigger.SILENCE, Trigger.REFUND}
    assert explain(by.scorer, told) == [explain(by.scorer, [s])[0] for s in told]
