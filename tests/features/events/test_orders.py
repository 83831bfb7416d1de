"""Every record is an order or is set aside with a reason that stays the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.ids import is_placeholder
from features.events.orders import (
    FreeOrders,
    Order,
    OrderRules,
    OrderType,
    Reason,
    Rejected,
    from_fields,
    parse,
)
from features.times import MS_PER_DAY
from tests.support.corpus import (
    BAD,
    ODD_AMOUNTS,
    ODD_IDS,
    TS_MS,
    UNKNOWN_FIELDS,
    WRONG_KEYS,
    as_json,
    raw,
)
from tests.support.strategies import wide

_RULES = OrderRules()
_HOUR_MS = 3_600_000


def _read(value: bytes | None, key: bytes | None = b"ada") -> Order | Rejected:
    return parse(value, key, TS_MS, _RULES)


def _accepted(value: bytes | None, key: bytes | None = b"ada") -> Order:
    order = _read(value, key)
    assert isinstance(order, Order), order
    return order


# --- what is set aside ---------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_set_aside_with_its_reason(value: bytes | None, reason: Reason) -> None:
    rejected = _read(value)
    assert isinstance(rejected, Rejected), rejected
    assert rejected.reason == reason
    assert 0 < len(rejected.detail) < 300
    rejected.detail.encode()  # it becomes a header


def test_every_reason_of_a_single_record_is_in_the_table() -> None:
    # They need the customer's history to be known, a model, how the topic grew, and who is who.
    not_of_the_record = {
        *(Reason.BEYOND_ID_MEMORY, Reason.NOT_SCORED, Reason.WRONG_PARTITION),
        *(Reason.NO_KEY, Reason.PLACEHOLDER_USER),
        *(Reason.UNKNOWN_SCHEMA, Reason.NOT_DECODED),
    }
    assert {reason for _, reason in BAD.values()} == set(Reason) - not_of_the_record


def test_the_codes_are_those_that_are_documented() -> None:
    """Alerts and redrives of other people match on them."""
    assert sorted(Reason) == [
        "ambiguous_amount",
        "bad_amount",
        "bad_order_id",
        "bad_refund_id",
        "bad_ts",
        "bad_type",
        "bad_updated_at",
        "bad_user_id",
        "beyond_id_memory",
        "empty",
        "future_ts",
        "key_mismatch",
        "missing_field",
        "naive_ts",
        "no_key",
        "not_an_object",
        "not_decoded",
        "not_json",
        "not_scored",
        "past_ts",
        "placeholder_user",
        "unknown_schema",
        "wrong_currency",
        "wrong_partition",
    ]


_INNER = {"order_id": "1", "user_id": "ada", "ts": TS_MS, "amount": 12.5}


@pytest.mark.parametrize(
    ("document", "remedy"),
    [
        ({"before": None, "after": _INNER, "op": "c"}, "ExtractNewRecordState"),
        ({"schema": {}, "payload": {"after": _INNER, "op": "u"}}, "ExtractNewRecordState"),
        ({"schema": {}, "payload": _INNER}, "value.converter.schemas.enable=false"),
        ({"specversion": "1.0", "id": "1", "data": _INNER}, "send its data alone"),
        ({"event": "created", "order": _INNER}, "send what 'order' holds as the whole value"),
        ({"orders": [_INNER, _INNER]}, "send each one in 'orders' as a record of its own"),
        ({"user_id": "ada"}, "it is required"),
    ],
)
def test_an_envelope_is_named_with_what_unwraps_it(document: object, remedy: str) -> None:
    rejected = _read(json.dumps(document).encode())
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Reason.MISSING_FIELD
    assert remedy in rejected.detail


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (b"\x00\x00\x00\x00\x07" + as_json(), "schema registry"),
        (b"\xef\xbb\xbf" + as_json(), "byte order mark"),
        (b"\x1f\x8b\x08\x00" + b"\x00" * 20, "compression.type"),
    ],
)
def test_bytes_ahead_of_the_json_are_named(value: bytes, remedy: str) -> None:
    rejected = _read(value)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Reason.NOT_JSON
    assert remedy in rejected.detail


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (b'"ada"', "the key is JSON"),
        (b'{"user_id":"ada"}', "the key is JSON"),
        (b"\x00\x00\x00\x00\x07\x06ada", "schema registry"),
        (b"ada ", "the key has blanks around it"),
    ],
)
def test_how_a_key_was_written_is_told(key: bytes, fault: str) -> None:
    rejected = _read(as_json(), key)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Reason.KEY_MISMATCH
    assert fault in rejected.detail


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("Type", "refund", Reason.BAD_TYPE),
        ("refundId", "r-1", Reason.BAD_REFUND_ID),
        ("refundid", "r-1", Reason.BAD_REFUND_ID),
        ("updatedAt", "2026-01-01T00:00:00Z", Reason.BAD_UPDATED_AT),
        ("updated-at", "2026-01-01T00:00:00Z", Reason.BAD_UPDATED_AT),
        (" TYPE", "refund", Reason.BAD_TYPE),
        ("Currency", "EUR", Reason.WRONG_CURRENCY),
        ("Refund ID", "r-1", Reason.BAD_REFUND_ID),
        ("UPDATED_AT", TS_MS, Reason.BAD_UPDATED_AT),
    ],
)
def test_an_optional_field_in_other_letters_is_told_and_not_passed_over(
    field: str, value: object, reason: Reason
) -> None:
    rejected = _read(as_json(**{field: value}))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason
    assert f"field {field!r} is not read" in rejected.detail
    assert _accepted(as_json(items=[{field: value}], Note="x"))


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_key_that_is_not_the_user_is_a_mismatch(key: bytes) -> None:
    rejected = _read(as_json(), key)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Reason.KEY_MISMATCH


@pytest.mark.parametrize("field", ["order_id", "user_id", "ts", "amount", "type", "currency"])
def test_no_depth_of_nesting_makes_parse_raise(field: str) -> None:
    # Between what can be decoded and what cannot lies what can be decoded and not be shown. Where
    # that is hangs on how deep the caller stands, so that any depth may be the one.
    for depth in range(850, 1_010):
        for nested in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            fields = {"order_id": '"1"', "user_id": '"ada"', "ts": "1", "amount": "1"}
            fields[field] = nested
            value = ",".join(f'"{name}":{text}' for name, text in fields.items())
            assert isinstance(_read(f"{{{value}}}".encode(), None), Rejected)


def test_a_detail_cannot_forge_a_log_line() -> None:
    rejected = _read(as_json(type="x\r\nERROR forged"))
    assert isinstance(rejected, Rejected)
    assert rejected.detail.splitlines() == [rejected.detail]


def test_a_detail_names_field_value_and_remedy() -> None:
    rejected = _read(as_json(ts="2026-01-01T00:00:00"))
    assert rejected == Rejected(
        Reason.NAIVE_TS, "ts '2026-01-01T00:00:00' has no offset; append Z or +hh:mm"
    )


# --- what is accepted ----------------------------------------------------------------------------


def test_an_order_is_read() -> None:
    assert _accepted(as_json()) == Order("o-1", "ada", TS_MS, 1_250, OrderType.ORDER)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("order", OrderType.ORDER),
        ("refund", OrderType.REFUND),
        ("cancellation", OrderType.CANCELLATION),
    ],
)
def test_each_type_is_read(name: str, kind: OrderType) -> None:
    assert _accepted(as_json(type=name)).type is kind


def test_a_record_without_key_is_taken_at_its_word() -> None:
    assert _accepted(as_json(user_id="bob"), key=None).user_id == "bob"


@pytest.mark.parametrize("user_id", ODD_IDS)
def test_an_id_may_hold_any_unicode_text(user_id: str) -> None:
    value = as_json(user_id=user_id, order_id=user_id)
    assert _accepted(value, user_id.encode()).user_id == user_id


@pytest.mark.parametrize("extra", UNKNOWN_FIELDS, ids=lambda extra: extra[:20])
def test_unknown_fields_are_ignored(extra: str) -> None:
    value = as_json()[:-1] + b"," + extra.encode() + b"}"
    assert _accepted(value) == _accepted(as_json())


def test_of_a_field_written_twice_the_last_counts() -> None:
    assert _accepted(as_json()[:-1] + b',"amount":7}').amount_minor == 700


def test_almost_a_megabyte_is_an_order_like_any_other() -> None:
    value = as_json(note="x" * (2**20 - 200))
    assert _accepted(value) == _accepted(as_json())


@pytest.mark.parametrize(
    ("ts", "ts_ms"),
    [
        ("2026-01-01T00:00:00Z", TS_MS),
        ("2026-01-01T00:00:00+00:00", TS_MS),
        ("2026-01-01T01:30:00+01:30", TS_MS),
        ("2025-12-31T19:00:00-05:00", TS_MS),
        ("2026-01-01T00:00:00.123Z", TS_MS + 123),
        ("2026-01-01T00:00:00.123999Z", TS_MS + 123),
        ("2025-12-31T23:59:59.999999999Z", TS_MS - 1),
        ("2026-01-01 00:00:00 UTC", TS_MS),
        ("1990-01-01T00:00:00Z", 631_152_000_000),
        (TS_MS, TS_MS),
        (TS_MS + _HOUR_MS, TS_MS + _HOUR_MS),
    ],
)
def test_a_time_is_read_to_the_millisecond(ts: str | int, ts_ms: int) -> None:
    assert _accepted(as_json(ts=ts)).ts_ms == ts_ms


def test_without_a_record_timestamp_the_future_is_not_checked() -> None:
    order = parse(as_json(ts="9999-12-31T23:59:59Z"), b"ada", None, _RULES)
    assert isinstance(order, Order)


@pytest.mark.parametrize(
    ("record_ts_ms", "now_ms", "ahead_of"),
    [
        (TS_MS, None, "the record's own timestamp"),
        (TS_MS, TS_MS + MS_PER_DAY, "the record's own timestamp"),
        (None, TS_MS, "the clock"),
        # A device whose clock is wrong writes the record's timestamp by it too.
        (TS_MS + MS_PER_DAY, TS_MS, "the clock"),
        (0, TS_MS, "the clock"),
        (-1, TS_MS, "the clock"),
    ],
)
def test_no_order_is_ahead_of_any_clock(
    record_ts_ms: int | None, now_ms: int | None, ahead_of: str
) -> None:
    rules = OrderRules(max_future_ms=1)
    assert isinstance(parse(as_json(ts=TS_MS + 1), b"ada", record_ts_ms, rules, now_ms), Order)
    ahead = parse(as_json(ts=TS_MS + 2), b"ada", record_ts_ms, rules, now_ms)
    assert isinstance(ahead, Rejected)
    assert ahead.reason == Reason.FUTURE_TS
    assert ahead_of in ahead.detail


@pytest.mark.parametrize("record_ts_ms", [0, -1, None])
def test_a_record_timestamp_of_0_or_less_is_none(record_ts_ms: int | None) -> None:
    assert isinstance(parse(as_json(), b"ada", record_ts_ms, _RULES, TS_MS), Order)


def test_the_earliest_time_is_a_rule() -> None:
    rules = OrderRules(earliest_ms=TS_MS)
    assert _at(TS_MS - 1, rules) == Reason.PAST_TS
    assert _at(TS_MS, rules) is None
    compact = from_fields({**_ROW, "ts": "202601010000"}, _RULES)
    assert isinstance(compact, Rejected)
    assert "it looks like YYYYMMDDhhmm: write it out" in compact.detail


def _at(ts_ms: int, rules: OrderRules) -> Reason | None:
    read = parse(as_json(ts=ts_ms), b"ada", None, rules)
    return read.reason if isinstance(read, Rejected) else None


@pytest.mark.parametrize("kind", ["refund", "cancellation"])
def test_what_takes_back_may_be_written_with_either_sign(kind: str) -> None:
    negative = _accepted(as_json(type=kind, amount=-30))
    assert negative == _accepted(as_json(type=kind, amount=30)) == _row(type=kind, amount="-30")
    assert negative.amount_minor == 3_000


def test_refund_id_and_updated_at_are_read() -> None:
    fields = {"type": "refund", "refund_id": "r-1", "updated_at": "2026-01-02T00:00:00Z"}
    read = _accepted(as_json(**fields))
    assert (read.refund_id, read.updated_ms) == ("r-1", TS_MS + MS_PER_DAY)
    assert read == _row(**fields)
    assert _accepted(as_json(refund_id="r-1")).refund_id == ""


@pytest.mark.parametrize(
    ("choice", "kind"), [("count", OrderType.ORDER), ("ignore", OrderType.FREE)]
)
def test_a_free_order_is_an_order_or_not_as_the_shop_says(choice: str, kind: OrderType) -> None:
    rules = OrderRules(free_orders=FreeOrders(choice))
    for read in (
        parse(as_json(amount=0), b"ada", TS_MS, rules),
        from_fields({**_ROW, "amount": "0"}, rules),
    ):
        assert isinstance(read, Order)
        assert (read.type, read.type.wire) == (kind, "order")
    assert _accepted(as_json(type="refund", amount=0)).type is OrderType.REFUND


def test_a_currency_in_small_letters_is_that_currency() -> None:
    assert _accepted(as_json(currency="usd")) == _row(currency=" usd ") == _accepted(as_json())


def test_an_amount_that_is_rounded_says_so() -> None:
    assert _accepted(raw("amount", "12.3451")).rounded
    assert not _accepted(raw("amount", repr(0.1 + 0.2))).rounded
    assert not _accepted(raw("amount", "12.5000")).rounded


@pytest.mark.parametrize(
    ("amount", "minor"), ODD_AMOUNTS.items(), ids=lambda value: str(value)[:20]
)
def test_an_amount_is_read_without_a_float(amount: str, minor: int) -> None:
    assert _accepted(raw("amount", amount)).amount_minor == minor


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [("JPY", "1250", 1_250), ("KWD", "1.2345", 1_234), ("KWD", "1.234", 1_234)],
)
def test_the_minor_unit_is_the_currencys(currency: str, amount: str, minor: int) -> None:
    rules = OrderRules(currency=currency)
    value = raw("amount", amount)[:-1] + f',"currency":"{currency}"}}'.encode()
    order = parse(value, b"ada", TS_MS, rules)
    assert isinstance(order, Order)
    assert order.amount_minor == minor


_OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_TIMES = st.datetimes(datetime(1990, 1, 2), datetime(9999, 12, 30), timezones=_OFFSETS)


@given(
    st.text(min_size=1, max_size=128, alphabet=st.characters(exclude_categories=["Cs"])).filter(
        lambda name: not is_placeholder(name)
    ),
    _TIMES,
    st.integers(0, 10**11),
    st.sampled_from([OrderType.ORDER, OrderType.REFUND, OrderType.CANCELLATION]),
)
def test_an_order_that_is_written_is_read_back(
    name: str, when: datetime, minor: int, kind: OrderType
) -> None:
    value = raw("amount", f"{minor // 100}.{minor % 100:02}")[:-1]
    rest = {"user_id": name, "order_id": name, "ts": when.isoformat(), "type": kind.wire}
    value += b"," + json.dumps(rest).encode()[1:]
    ts_ms = (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse(value, name.encode(), None, _RULES) == Order(name, name, ts_ms, minor, kind)


# --- nothing escapes -----------------------------------------------------------------------------


def _check(result: Order | Rejected) -> None:
    """An order that keeps its own rules, or a reason."""
    if isinstance(result, Rejected):
        result.detail.encode()
        return
    assert 1 <= len(result.order_id) <= 128
    assert 1 <= len(result.user_id) <= 128
    assert 0 <= result.ts_ms < 253_402_300_800_000
    assert 0 <= result.amount_minor <= 10**11
    (result.order_id + result.user_id).encode()


_KEYS = st.one_of(st.none(), st.just(b"ada"), st.binary(max_size=8))
_RECORD_TIMES = st.one_of(st.none(), st.integers(-1, 2**63 - 1))


@wide
@given(st.one_of(st.none(), st.binary(max_size=200)), _KEYS, _RECORD_TIMES)
def test_no_bytes_make_parse_raise(
    value: bytes | None, key: bytes | None, record_ts_ms: int | None
) -> None:
    _check(parse(value, key, record_ts_ms, _RULES))


_ANY_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(max_size=10),
        _TIMES.map(datetime.isoformat),
        st.sampled_from(["order", "refund", "USD", "ada", "2026-01-01T00:00:00Z"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_FIELDS = st.sampled_from(["order_id", "user_id", "ts", "amount", "type", "currency", "x"])


@wide
@given(st.dictionaries(_FIELDS, _ANY_JSON, max_size=3), _KEYS)
def test_no_values_make_parse_raise(changes: dict[str, object], key: bytes | None) -> None:
    _check(parse(as_json(**changes), key, TS_MS, _RULES))


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    value = bytearray(as_json(type="refund", currency="USD"))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


@wide
@given(_damaged())
def test_no_damage_makes_parse_raise(value: bytes) -> None:
    _check(parse(value, b"ada", TS_MS, _RULES))


_NUMBER_PARTS = st.lists(st.sampled_from([*"0123456789", ".", "e", "E", "-", "+", "99999"]))


@wide
@given(_NUMBER_PARTS.map("".join))
def test_no_number_makes_parse_raise(number: str) -> None:
    _check(_read(raw("amount", number)))
    _check(_read(raw("ts", number)))


# --- rows of files -------------------------------------------------------------------------------

_ROW: Mapping[str, str | None] = {
    "order_id": "o-1",
    "user_id": "ada",
    "ts": "2026-01-01T00:00:00Z",
    "amount": "12.50",
}


def _row(**changes: str | None) -> Order | Rejected:
    return from_fields({**_ROW, **changes}, _RULES)


def test_a_row_is_the_same_order_as_its_record() -> None:
    assert _row() == _accepted(as_json())
    assert _row(ts=str(TS_MS), type="", currency="") == _accepted(as_json())


def test_a_negative_amount_in_a_file_is_a_refund() -> None:
    assert _row(amount="-12.50") == Order("o-1", "ada", TS_MS, 1_250, OrderType.REFUND)
    nearly = Order("o-1", "ada", TS_MS, 1, OrderType.REFUND, rounded=True)
    assert _row(amount="-0.006") == nearly


@pytest.mark.parametrize("amount", ["0", "-0", " -0.00", "1e-400"])
def test_an_amount_of_0_in_a_file_is_an_order_of_0(amount: str) -> None:
    assert _row(amount=amount) == Order("o-1", "ada", TS_MS, 0, OrderType.ORDER)


def test_a_refund_of_next_to_nothing_in_a_file_is_no_order() -> None:
    rejected = _row(amount="-0.001")
    assert isinstance(rejected, Rejected)
    assert rejected.detail.startswith("amount '-0.001' is a refund that rounds to 0 USD; send")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order_id": ""}, Reason.BAD_ORDER_ID),
        ({"order_id": None}, Reason.BAD_ORDER_ID),
        ({"order_id": "\udcff"}, Reason.BAD_ORDER_ID),
        ({"user_id": "a" * 129}, Reason.BAD_USER_ID),
        ({"user_id": "\ud800"}, Reason.BAD_USER_ID),
        ({"ts": None}, Reason.BAD_TS),
        ({"ts": "01/02/2026 08:26"}, Reason.BAD_TS),
        ({"ts": "1767225600"}, Reason.BAD_TS),
        ({"ts": "-1767225600000"}, Reason.BAD_TS),
        ({"ts": "9" * 20}, Reason.BAD_TS),
        ({"ts": "9" * 5_000}, Reason.BAD_TS),
        ({"ts": "0" * 8 + "1767225600000"}, Reason.BAD_TS),
        ({"ts": "9999-12-31T23:59:59-01:00"}, Reason.BAD_TS),
        ({"ts": "\ud800"}, Reason.BAD_TS),
        ({"ts": "2026-01-01T00:00:00"}, Reason.NAIVE_TS),
        ({"amount": ""}, Reason.BAD_AMOUNT),
        ({"amount": None}, Reason.BAD_AMOUNT),
        ({"amount": "12,50"}, Reason.BAD_AMOUNT),
        ({"amount": "1_000"}, Reason.BAD_AMOUNT),
        ({"amount": "nan"}, Reason.BAD_AMOUNT),
        ({"amount": "1e1000000"}, Reason.BAD_AMOUNT),
        ({"amount": "-0.001"}, Reason.BAD_AMOUNT),
        ({"amount": "1.234"}, Reason.AMBIGUOUS_AMOUNT),
        ({"amount": " -0.005"}, Reason.BAD_AMOUNT),
        ({"amount": "-1e-400"}, Reason.BAD_AMOUNT),
        ({"type": "return"}, Reason.BAD_TYPE),
        ({"currency": "EUR"}, Reason.WRONG_CURRENCY),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(
    changes: dict[str, str | None], reason: Reason
) -> None:
    rejected = _row(**changes)
    assert isinstance(rejected, Rejected), rejected
    assert rejected.reason == reason


_CELLS = st.one_of(
    st.none(), st.text(max_size=12), st.text(alphabet="0123456789.-+:TZe", max_size=26)
)


@wide
@given(st.dictionaries(_FIELDS, _CELLS, max_size=4))
def test_no_row_makes_from_fields_raise(changes: dict[str, str | None]) -> None:
    _check(_row(**changes))


def test_a_short_row_of_a_csv_file_is_set_aside() -> None:
    rows = csv.DictReader(io.StringIO("order_id,user_id,ts,amount\no-1,ada\n"))
    assert [from_fields(row, _RULES) for row in rows] == [_row(ts=None, amount=None)]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"user_id": "canary" * 50}, None),
        ({"user_id": ["canary"]}, None),
        ({"user_id": "canary\ud800"}, None),
        ({"user_id": "canary"}, b"canary-2"),
        ({"order_id": {"canary": 1}}, None),
    ],
)
def test_a_reason_never_quotes_an_id(changes: dict[str, object], key: bytes | None) -> None:
    rejected = parse(as_json(**changes), key, TS_MS, _RULES)
    assert isinstance(rejected, Rejected)
    assert "canary" not in rejected.detail


@pytest.mark.parametrize("name", [b"\x80 order_id", b"Type\xff", b"\xc3"])
def test_a_name_that_is_no_text_sets_a_record_aside_or_is_none_of_ours(name: bytes) -> None:
    plain = b'{"order_id": "1", "user_id": "ada", "ts": "2025-03-01T12:00:00Z", "amount": 12.5'
    outcome = parse(plain + b', "' + name + b'": "1"}', b"ada", None, OrderRules())
    assert isinstance(outcome, Order) or outcome.reason is Reason.NOT_JSON
