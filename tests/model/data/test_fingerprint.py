"""The fingerprint of a log is that of its orders, however they are laid out."""

from __future__ import annotations

import random

import msgspec
import pytest

from features.events.orders import Order, OrderType
from model.data.fingerprint import data_of
from tests.support import modelling


def test_order_of_rows_does_not_matter_and_everything_else_does() -> None:
    log = list(modelling.orders())[:200]
    data = data_of(log)
    shuffled = random.Random(1).sample(log, len(log))
    assert data_of(shuffled) == data
    assert data_of(log[:-1]).hash != data.hash
    assert data_of([*log, log[0]]).hash != data.hash


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": "x"},
        {"user_id": "x"},
        {"ts_ms": 1},
        {"amount_minor": 1},
        {"type": OrderType.REFUND},
    ],
)
def test_no_field_of_an_order_is_left_out(change: dict[str, object]) -> None:
    (one, *rest) = list(modelling.orders())[:50]
    assert (
        data_of([msgspec.structs.replace(one, **change), *rest]).hash != data_of([one, *rest]).hash
    )


def test_fields_do_not_run_into_one_another() -> None:
    def order(order_id: str, user_id: str) -> Order:
        return Order(order_id, user_id, 0, 100, OrderType.ORDER)

    assert data_of([order("1", "23")]).hash != data_of([order("12", "3")]).hash


def test_counts_and_span_are_there_for_people() -> None:
    log = modelling.orders()
    data = data_of(log)
    assert data.orders == len(log)
    assert data.customers == len({order.user_id for order in log})
    assert data.first < data.last
    assert data.first.endswith("Z")
    assert data_of([]) == type(data)(hash="0" * 32, orders=0, customers=0, first="", last="")
