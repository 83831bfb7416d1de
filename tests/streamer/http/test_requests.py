"""What is asked of `POST /predict`: read as the stream reads orders, and every fault told."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from features.columns.vector import FEATURE_NAMES, vectors
from features.events.money import minor_exponent
from features.events.orders import Order, OrderRules, parse
from features.facts.ledger import IdMemory, entries_newest_first
from streamer.http.requests import (
    MAX_FAULTS,
    BodyRefused,
    FromFeatures,
    FromOrders,
    Terms,
    read,
)
from tests.support.bodies import (
    BAD,
    NOW_MS,
    TERMS,
    body,
    features,
    order,
    orders,
    refused,
)
from tests.support.fakes import an_order, at, facts_of, wire
from tests.support.strategies import histories

# --- what is taken --------------------------------------------------------------------------------


@given(history=histories().filter(bool), shuffled=st.randoms(use_true_random=False))
def test_orders_are_folded_as_the_stream_folds_them(history: list[Order], shuffled: Any) -> None:
    taken = (parse(wire(event), None, None, OrderRules()) for event in history)
    events = [event for event in taken if isinstance(event, Order)]
    assume(events)
    given_in = list(events)
    shuffled.shuffle(given_in)
    raw = b",".join(wire(event) for event in given_in)
    terms = Terms(OrderRules(), IdMemory(), at(2_000))
    (row,) = read(b'{"records": [{"orders": [' + raw + b"]}]}", terms).rows
    assert row == FromOrders(facts_of(events), at(2_000))


def test_without_as_of_a_record_is_scored_as_of_now() -> None:
    (row,) = read(body(orders()), TERMS).rows
    assert isinstance(row, FromOrders)
    assert row.as_of_ms == NOW_MS


def test_a_clock_ahead_of_ours_does_not_have_a_customer_scored_before_its_order() -> None:
    ahead = NOW_MS + 60_000
    (row,) = read(body(orders(order(ts=ahead))), TERMS).rows
    assert isinstance(row, FromOrders)
    assert row.as_of_ms == ahead


def test_a_record_s_as_of_comes_before_the_request_s() -> None:
    asked = read(
        body(
            orders(as_of=at(200)), orders(), orders(as_of=None), as_of="2025-06-01T00:00:00+02:00"
        ),
        TERMS,
    )
    june = at(151) - 2 * 3_600_000
    instants = [row.as_of_ms for row in asked.rows if isinstance(row, FromOrders)]
    assert instants == [at(200), june, june]


def test_features_come_in_the_order_of_the_vector_whatever_theirs() -> None:
    values = {name: float(number) for number, name in enumerate(FEATURE_NAMES)}
    turned = dict(reversed(values.items()))
    (row,) = read(body(features(**turned) | {"features": turned}), TERMS).rows
    assert row == FromFeatures(list(values.values()))


def test_contributions_are_asked_for_unless_it_says_otherwise() -> None:
    assert read(body(orders()), TERMS).contributions
    assert not read(body(orders(), contributions=False), TERMS).contributions


@given(
    st.decimals(0, 10**9, allow_nan=False, allow_infinity=False),
    st.sampled_from(["USD", "JPY", "KWD", "CLF"]),
)
@example(Decimal("0.285"), "USD")
@example(Decimal("999999999.994999999999999999"), "USD")
@example(Decimal("1E-400"), "KWD")
def test_an_amount_is_the_digits_that_were_sent(amount: Decimal, currency: str) -> None:
    raw = json.dumps(order(amount=0.5)).replace("0.5", str(amount)).encode()
    terms = Terms(OrderRules(currency), IdMemory(), NOW_MS)
    (row,) = read(b'{"records": [{"orders": [' + raw + b"]}]}", terms).rows
    assert isinstance(row, FromOrders)
    unit = Decimal(1).scaleb(-minor_exponent(currency))
    with localcontext(prec=1_000, Emin=-9_999):
        exact = amount.quantize(unit, ROUND_HALF_EVEN) / unit
    (entry,) = entries_newest_first(row.facts.ledger)
    assert entry.amount_minor == int(exact)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "pointer", "detail"), BAD, ids=[f"{p} {d}" for _, _, p, d in BAD]
)
def test_a_fault_is_told_with_its_place_and_a_remedy(
    data: bytes, status: int, pointer: str, detail: str
) -> None:
    error = refused(data)
    assert error.status == status
    (fault,) = error.faults
    assert fault.pointer == pointer
    assert detail in fault.detail
    if "/records/" in pointer:
        assert fault.record == 0
        last = pointer.rsplit("/", 1)[1].replace("~1", "/").replace("~0", "~")
        assert fault.field in (None, last)


@pytest.mark.parametrize(
    "data",
    [
        body(features(frequency=12345.5)),
        body(features() | {"feature_version": 12345.5}),
        body(orders(), as_of=12345.5),
        body(orders(), contributions=12345.5),
        body(orders(order(ts=12345.5))),
        body(orders(order(amount=12345.5))),
        body(orders(order(type=12345.5))),
    ],
)
def test_numbers_beyond_any_float_are_told_as_they_are_written(data: bytes) -> None:
    (fault,) = refused(data.replace(b"12345.5", b"1e999")).faults
    assert fault.value == "1e999" or fault.field is None


def test_all_faults_of_a_request_come_at_once() -> None:
    error = refused(
        body(
            orders(order(amount=-1), order(ts="soon", order_id="2")),
            orders(),
            features(frequency=-1, T_days=...),
            as_of="x",
        )
    )
    assert str(error) == "5 faults"
    assert [(fault.record, fault.order, fault.field, fault.value) for fault in error.faults] == [
        (None, None, "as_of", "x"),
        (0, 0, "amount", "-1"),
        (0, 1, "ts", "soon"),
        (2, None, "frequency", "-1"),
        (2, None, "T_days", None),
    ]


def test_no_more_faults_are_told_than_anybody_reads() -> None:
    error = refused(body(*[orders(order(amount=-1))] * 200))
    assert str(error) == f"the first {MAX_FAULTS} faults"
    assert len(error.faults) == MAX_FAULTS


def test_a_value_is_not_repeated_at_length() -> None:
    (fault,) = refused(body(orders(order(type="x" * 10_000)))).faults
    assert fault.value is not None
    assert len(fault.value) < 100


def test_more_orders_than_are_remembered_all_count() -> None:
    terms = Terms(OrderRules(), IdMemory(days=400, size=2), NOW_MS)
    events = [an_order("ada", day, id=f"{day}-{n}") for day in (1, 30) for n in range(4)]
    raw = b",".join(wire(event) for event in events)
    (row,) = read(b'{"records": [{"orders": [' + raw + b"]}]}", terms).rows
    assert isinstance(row, FromOrders)
    assert vectors([(row.facts, row.as_of_ms)])[0, FEATURE_NAMES.index("orders_lifetime")] == 8


@pytest.mark.parametrize(
    ("shape", "megabytes"),
    [
        (b"{KEYS}", 1),
        (b"{KEYS", 1),
        (b"{KEYS" + b',"again":1' * 40_000 + b"}", 1),
        (b'{"records": [{KEYS}]}', 1),
        (b'{"records": [{"feature_version": "1", "features": {KEYS}}]}', 1),
        (b'{"records": [{"orders": [{KEYS}]}]}', 5),
        (b'{"records": [{"orders": [1], "attributes": {KEYS}}]}', 1),
        (b'{"records": [], "as_of": {KEYS}}', 1),
        (b'{"records": [], "contributions": [ONES]}', 1),
        (b'{"records": ' + b"[" * 1_000_000, 1),
        # So many pieces are cut, and no value is made of any.
        (b'{"records": [ONES]}', 22),
        (b'{"records": [{"orders": [ONES]}]}', 22),
    ],
    ids=lambda value: bytes(value[:60]).decode() if isinstance(value, bytes) else None,
)
def test_what_a_stranger_sends_is_refused_before_it_becomes_values(
    shape: bytes, megabytes: int
) -> None:
    keys = b",".join(b'"k%d":1' % number for number in range(290_000))
    data = shape.replace(b"KEYS", keys).replace(b"ONES", b",".join([b"1"] * 290_000))
    # What holds the interpreter is the making of values: a dict of these keys is 22 MB.
    tracemalloc.start()
    try:
        refused(data)
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
        assert len(data) > 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(b"[", b"]"), (b'{"a":', b"}")])
def test_no_depth_of_nesting_is_more_than_refused(shape: tuple[bytes, bytes]) -> None:
    # Between what can be decoded and what cannot lies what can be decoded and not be shown.
    for depth in range(900, 1_010):
        nested = shape[0] * depth + b"1" * (shape[0] != b"[") + shape[1] * depth
        for data in (
            b'{"records": [1], "as_of": ' + nested + b"}",
            b'{"records": [{"feature_version": ' + nested + b', "features": ' + nested + b"}]}",
            b'{"records": [{"orders": [{"order_id": "1", "user_id": "a", "amount": 1, "ts": '
            + nested
            + b"}]}]}",
        ):
            assert refused(data).status in (400, 422)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["records", "orders", "features", "as_of", "feature_version", "ts", ""]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    data = json.dumps(document).encode()
    wrapped = json.dumps({"records": [document], "as_of": document}).encode()
    for one in (data, wrapped):
        with suppress(BodyRefused):
            read(one, TERMS)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(BodyRefused):
        read(data, TERMS)
