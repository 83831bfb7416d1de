"""What `show` says of a customer: the CLV as a sum that adds up, in a table of 80 columns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from features.events.orders import Order
from model.decide import codec as customer_bytes
from model.decide.codec import CustomerRecord
from model.decide.scoring import Scorer
from model.explain.shapley import typical
from streamer.http.customer_view import CustomerView, features_of, text, view
from tests.support import modelling
from tests.support.fakes import ORDERS_0, an_order, at, every, facts_of, judge, pipeline, scorer
from tests.support.modelling import tree_scorer


def _shop() -> Scorer:
    by = Scorer.of(modelling.model(), "shop", tuple(float(p) for p in range(101)))
    return replace(by, typical=tuple(typical(modelling.known()).tolist()))


def _shown(orders: list[Order], by: Scorer) -> CustomerView:
    state = customer_bytes.encode(CustomerRecord(facts_of(orders)))
    return view("ada", ORDERS_0, state, None, pipeline(judge(by=by)), at(90))


@pytest.mark.parametrize(
    "orders", [every("ada", 9, 8, 12_345), every("ada", 9, 1, 0), every("ada", 1, 80, 10**9)]
)
def test_the_contributions_shown_add_up_to_the_clv(orders: list[Order]) -> None:
    shown = _shown(orders, _shop())
    assert shown.contributions is not None
    amounts = [shown.baseline, *(part.amount for part in shown.contributions)]
    assert sum(Decimal(str(amount)) for amount in amounts) == Decimal(str(shown.clv))
    table = text(shown)
    assert max(map(len, table.splitlines())) <= 80
    assert all(part.group in table for part in shown.contributions)


def test_contributions_are_part_of_the_json() -> None:
    document = msgspec.to_builtins(_shown(every("ada", 9, 8), _shop()))
    assert {part["group"] for part in document["contributions"]} >= {"silence", "baskets"}
    assert isinstance(document["baseline"], float)


def test_a_model_that_names_no_typical_customer_shows_none() -> None:
    shown = _shown([an_order("ada", 1)], scorer())
    assert shown.contributions is None
    assert "typical" not in text(shown)


def test_features_of_trees_are_shown_where_they_are_asked_for() -> None:
    pytest.importorskip("shap", reason="the extra 'explain' is not installed")
    by = tree_scorer("boosting", max_iter=30)
    state = customer_bytes.encode(CustomerRecord(facts_of(every("ada", 9, 8))))
    features = features_of("ada", state, pipeline(judge(by=by)), at(90))
    assert features
    table = text(_shown(every("ada", 9, 8), by), features)
    assert f"{features[0].feature} " in table
    assert max(map(len, table.splitlines())) <= 80
    assert "SHAP" not in text(_shown(every("ada", 9, 8), by))
