"""Records of any shape give the same orders whenever they are read."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderRules, OrderType, Reason, Rejected
from features.mapping.mapping import OrderMapping, Skipped
from streamer.reading import CanonicalReading, MappedReading, OrderReading, with_refund_ids

RULES = OrderRules(currency="EUR")
NOW_MS = 1_750_000_000_000
MAPPING = OrderMapping.from_toml(
    'order_id = "id"\nuser_id = "who"\nts = "at"\namount = "total"\n'
    '[[skip]]\nwhen = "test"\nreason = "test order"\n'
    '[[event]]\n'
    '[[event]]\neach = "back"\norder_id = "record.id"\nuser_id = "record.who"\ntype = "refund"\n'
    'ts = "at"\namount = "sum"\n'
)  # fmt: skip


def read(reading: OrderReading, record: Any) -> list[Any]:
    return list(reading.of_json(json.dumps(record).encode(), 0, NOW_MS))


def refund(
    order_id: str = "1", ts_ms: int = 1_000, amount: int = 500, refund_id: str = ""
) -> Order:
    return Order(order_id, "kim", ts_ms, amount, OrderType.REFUND, refund_id)


def shop(**fields: Any) -> dict[str, Any]:
    return {"id": "1", "who": "kim", "at": "2025-01-01T10:00:00Z", "total": 12.5, **fields}


def test_a_canonical_order_is_read_whatever_its_key() -> None:
    record = {"order_id": "1", "user_id": "kim", "ts": "2025-01-01T10:00:00Z", "amount": 12.5}
    (order,) = read(CanonicalReading(RULES), record)
    assert (order.order_id, order.user_id, order.amount_minor) == ("1", "kim", 1250)


def test_a_document_is_read_as_its_json_would_be_to_the_last_digit() -> None:
    fields = {"order_id": "1", "user_id": "kim", "ts": 1_735_725_600_000}
    reading = CanonicalReading(RULES)
    for text in ("12.10", "0.07", "123456789.99", "1E+1"):
        (order,) = reading.of_document({**fields, "amount": Decimal(text)}, 0, NOW_MS)
        assert order.amount_minor == int(Decimal(text) * 100)


def test_a_mapping_makes_orders_refunds_and_what_is_skipped() -> None:
    reading = MappedReading(MAPPING, RULES)
    back = [{"at": "2025-01-02T00:00:00Z", "sum": "1.50"}]
    order, one = read(reading, shop(back=back))
    assert (order.type, order.amount_minor) == (OrderType.ORDER, 1250)
    assert (one.type, one.amount_minor, one.order_id) == (OrderType.REFUND, 150, "1")
    assert read(reading, shop(test=True)) == [Skipped("test order")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b"[1]", Reason.NOT_AN_OBJECT),
        (b'{"id": 1}', Reason.BAD_AMOUNT),
        (json.dumps(shop(at="2025-01-01T10:00:00")).encode(), Reason.NAIVE_TS),
        (json.dumps(shop(at="2225-01-01T10:00:00Z")).encode(), Reason.FUTURE_TS),
        (json.dumps(shop(who="guest")).encode(), Reason.PLACEHOLDER_USER),
        (json.dumps(shop(id="x" * 200)).encode(), Reason.BAD_ORDER_ID),
    ],
)
def test_what_does_not_fit_is_set_aside_with_its_reason(value: bytes, reason: Reason) -> None:
    (found,) = MappedReading(MAPPING, RULES).of_json(value, 0, NOW_MS)
    assert isinstance(found, Rejected)
    assert found.reason is reason


def test_json_digits_never_become_a_float() -> None:
    # 1.230 may be one thousand two hundred and thirty: a float would have lost the zero.
    (found,) = MappedReading(MAPPING, RULES).of_json(
        json.dumps(shop()).replace("12.5", "1.230").encode(), 0, NOW_MS
    )
    assert isinstance(found, Rejected)
    assert found.reason is Reason.AMBIGUOUS_AMOUNT


# --- ids of refunds -----------------------------------------------------------------------------

refunds = st.builds(
    refund,
    st.sampled_from(["1", "2"]),
    st.sampled_from([1_000, 2_000]),
    st.sampled_from([500, 700]),
)


@given(st.lists(refunds, max_size=6), st.lists(refunds, max_size=6))
def test_the_same_refund_has_the_same_id_in_every_record(
    one: list[Order], other: list[Order]
) -> None:
    def ids(listed: list[Order]) -> set[str]:
        return {order.refund_id for order in with_refund_ids(list(listed)) if order.refund_id}  # type: ignore[union-attr]

    # The slow twin: a refund is its order, time and amount, and how many like it came before.
    def names(listed: list[Order]) -> set[tuple[str, int, int, int]]:
        plain = [(order.order_id, order.ts_ms, order.amount_minor) for order in listed]
        return {(*what, plain[:at].count(what)) for at, what in enumerate(plain)}

    assert len(ids(one)) == len(names(one)) == len(one)
    assert len(ids(one) & ids(other)) == len(names(one) & names(other))


def test_a_refund_keeps_the_shops_own_id_and_an_order_gets_none() -> None:
    order = Order("1", "kim", 1_000, 500)
    assert with_refund_ids([order, refund(refund_id="r-1")]) == [order, refund(refund_id="r-1")]
