"""A mapping does what its file says, and says what is wrong with the file or the record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.orders import Order, OrderRules, Reason, from_fields, parse
from features.mapping.mapping import MappingError, OrderMapping, Skipped, Unfit
from features.times import rfc3339, wire_ms

PLAIN = """
order_id = "id"
user_id = "customer.id || email"
ts = { path = "at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
amount = { path = "total", decimal = ",", negative = "refund" }
currency = "EUR"

[[skip]]
when = "test == `true`"
reason = "test order"
"""
RECORD = {"id": 7, "email": "kim@shop.test", "at": "27.11.2024 06:01", "total": "1.234,50 €"}


def mapped(record: object, text: str = PLAIN) -> Any:
    return OrderMapping.from_toml(text).orders(record)


def test_a_record_becomes_an_order_of_the_contract() -> None:
    assert mapped(RECORD) == [
        {
            "order_id": "7",
            "user_id": "kim@shop.test",
            "ts": wire_ms("2024-11-27T05:01:00Z"),
            "amount": "1234.50",
            "type": "order",
            "currency": "EUR",
        }
    ]


def test_a_number_below_0_is_a_refund_where_the_mapping_says_so() -> None:
    (event,) = mapped({**RECORD, "total": "-5,00"})
    assert (event["type"], event["amount"]) == ("refund", "5.00")


def test_what_is_to_be_skipped_is_skipped_with_its_reason() -> None:
    assert mapped({**RECORD, "test": True}) == Skipped("test order")


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"id": None}, Reason.MISSING_FIELD, "line 2: id is missing"),
        ({"id": [1]}, Reason.BAD_ORDER_ID, "line 2: id is a list"),
        ({"email": " "}, Reason.PLACEHOLDER_USER, "line 3: .* guest"),
        ({"at": "11/27/2024"}, Reason.BAD_TS, "line 4: at '11/27/2024' is not of the format"),
        ({"at": None}, Reason.BAD_TS, "line 4: at is missing"),
        ({"total": "12.50"}, Reason.BAD_AMOUNT, 'line 5: .*say decimal = "\\."'),
        ({"total": None}, Reason.BAD_AMOUNT, "line 5: total is missing"),
        ({"total": {}}, Reason.BAD_AMOUNT, "line 5: total {} is not a number"),
    ],
)
def test_a_record_that_does_not_fit_names_line_path_value_and_remedy(
    change: dict[str, Any], reason: Reason, says: str
) -> None:
    unfit = mapped({**RECORD, **change})
    assert isinstance(unfit, Unfit)
    assert unfit.reason is reason
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(unfit.detail)


def test_ids_of_persons_stay_out_of_what_is_said() -> None:
    unfit = mapped({**RECORD, "id": {"secret": "kim"}})
    assert "kim" not in unfit.detail


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("\norder_id = \nts = 5", 2, "is no TOML"),
        (PLAIN.replace("[[skip]]", "[[skp]]"), 8, "'skp' is no key"),
        (PLAIN.replace('order_id = "id"', 'order_id = "a b"'), 2, "a name with blanks is written"),
        (PLAIN.replace("%d.%m.%Y %H:%M", "german"), 4, "format 'german'"),
        (PLAIN.replace("Europe/Berlin", "Berlin"), 4, "is not a time zone"),
        (PLAIN.replace('decimal = ","', 'decimal = ";"'), 5, "decimal ';' is none of"),
        (PLAIN.replace('decimal = ","', 'comma = ","'), 5, "'comma' is no key of amount"),
        (PLAIN.replace('reason = "test order"', ""), 8, "reason is missing"),
        (PLAIN.replace("amount", "amounts"), 5, "'amounts' is no key"),
        ('user_id = "a"\nts = "b"\namount = "c"', 1, "order_id is missing"),
        (PLAIN + '\n[[event]]\ntype = "sale"', 13, "type 'sale' is none of"),
        (PLAIN + "\n[[event]]\n[[event]]\nts = 5", 14, "ts is neither a path nor a table"),
        ('rows = "lines"\n' + PLAIN, 1, "rows 'lines' is none of"),
    ],
)
def test_a_faulty_mapping_names_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(MappingError, match=says) as caught:
        OrderMapping.from_toml(text, name="shop.toml")
    assert f"line {line}" in str(caught.value)
    assert "shop.toml" in str(caught.value)


def test_a_time_without_a_zone_is_asked_about_and_the_option_answers() -> None:
    text = 'order_id = "id"\nuser_id = "u"\nts = "at"\namount = "n"\n'
    record = {"id": "1", "u": "kim", "at": "2024-11-27 06:01", "n": "1"}
    unfit = OrderMapping.from_toml(text).orders(record)
    assert isinstance(unfit, Unfit)
    assert unfit.reason is Reason.NAIVE_TS
    assert "--timezone" in unfit.detail
    found = OrderMapping.from_toml(text, timezone="Europe/Berlin").orders(record)
    assert isinstance(found, list)
    assert found[0]["ts"] == wire_ms("2024-11-27T05:01:00Z")


def test_amounts_of_a_list_are_added_up_and_products_are_exact() -> None:
    text = 'order_id = "id"\nuser_id = "u"\nts = "at"\n'
    record = {"id": "1", "u": "kim", "at": "2024-11-27T06:01Z", "n": ["0.10", "0.20"], "q": 3}
    (summed,) = mapped(record, text + 'amount = "n"')
    (times,) = mapped(record, text + 'amount = { path = "n[0]", times = "q" }')
    (less,) = mapped(record, text + 'amount = { path = "n[1]", minus = ["n[0]", "none"] }')
    assert [summed["amount"], times["amount"], less["amount"]] == ["0.30", "0.30", "0.10"]


def test_minor_units_need_to_know_of_which_currency() -> None:
    text = 'order_id = "id"\nuser_id = "u"\nts = "at"\namount = { path = "n", unit = "minor" }\n'
    record = {"id": "1", "u": "kim", "at": "2024-11-27T06:01Z", "n": 1250, "c": "jpy"}
    unfit = mapped(record, text)
    assert isinstance(unfit, Unfit)
    assert unfit.reason is Reason.WRONG_CURRENCY
    (event,) = mapped(record, text + 'currency = "c"')
    assert (event["amount"], event["currency"]) == ("1250", "JPY")


def test_a_value_that_no_type_names_is_asked_about() -> None:
    text = PLAIN.replace(
        'currency = "EUR"', 'type = { path = "k", order = "sale", refund = ["Return"], skip = "x" }'
    )
    assert mapped({**RECORD, "k": "SALE "}, text)[0]["type"] == "order"
    assert mapped({**RECORD, "k": "return"}, text)[0]["type"] == "refund"
    assert isinstance(mapped({**RECORD, "k": "x"}, text), Skipped)
    unfit = mapped({**RECORD, "k": "exchange"}, text)
    assert isinstance(unfit, Unfit)
    assert "'exchange' is none of the values" in unfit.detail


def test_a_refund_that_names_no_customer_takes_that_of_its_order_where_it_is_known() -> None:
    text = """
    order_id = "id"
    user_id = "u"
    user_of_order = true
    type = "refund"
    ts = "at"
    amount = "n"
    """
    mapping = OrderMapping.from_toml(text)
    record = {"id": "1", "at": "2024-11-27T06:01Z", "n": "1"}
    assert isinstance(mapping.orders(record), Skipped)
    found = mapping.orders(record, {"1": "kim"}.get)
    assert isinstance(found, list)
    assert found[0]["user_id"] == "kim"


@given(
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.datetimes(min_value=datetime(1991, 1, 1)),
)
def test_what_comes_out_is_accepted_by_the_worker_and_by_files_alike(
    order_id: int, cents: int, at: Any
) -> None:
    text = 'order_id="id"\nuser_id="u"\nts={path="at",zone="UTC"}\namount={path="n",unit="minor"}'
    record = {"id": order_id, "u": "kim", "at": at.isoformat(), "n": cents}
    (event,) = mapped(record, text + '\ncurrency = "USD"')
    rules = OrderRules()
    sent = {**event, "ts": rfc3339(event["ts"]), "amount": msgspec.Raw(event["amount"].encode())}
    accepted = parse(msgspec.json.encode(sent), b"kim", None, rules)
    assert isinstance(accepted, Order)
    assert accepted.amount_minor == cents
    assert accepted == from_fields(event, rules)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_record_raises(value: Any) -> None:
    for record in (value, {"id": value, "email": value, "at": value, "total": value}):
        assert isinstance(mapped(record), list | Skipped | Unfit)
