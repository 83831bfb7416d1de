"""A first look at a log too large to be held at once is that of one which is."""

from __future__ import annotations

import pytest

from features.times import UTC
from model.backtest.run import deciding_judge
from model.decide.policy import Policy
from model.decide.scoring import Scorer
from model.files.columns import OrderColumns
from model.training import trial
from tests.support import modelling


def test_customers_who_are_listed_some_at_a_time_are_those_listed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = OrderColumns(modelling.orders())
    scorer = Scorer.of(modelling.model(), "v1", modelling.fields().score_quantiles)
    judge = deciding_judge(scorer, Policy())
    today = UTC.day_of(orders[-1].ts_ms) + 1
    asked = orders[-1].user_id
    whole = trial._listed(orders, judge, today, asked)
    net = trial.net_minor(orders, UTC)
    monkeypatch.setattr(trial, "_LISTED_ORDERS", len(orders) // 5)
    parts = list(trial.parts_of(orders))
    assert len(parts) > 3
    assert sorted(one.order_id for part in parts for one in part) == sorted(
        one.order_id for one in orders
    )
    assert trial._listed(orders, judge, today, asked) == whole
    assert trial.net_minor(orders, UTC) == net
    assert whole[0].customers
    assert whole[1] is not None
