"""Records that a worker must outlive: bad ones, each of them a dead letter, and odd ones, each of
them an order like any other.

Single values first, as `tests/features/events/test_orders.py` reads them; then whole records, with
their keys and headers, and what only several records together have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from features.events.orders import Reason
from features.times import MS_PER_DAY
from streamer.records import Message

TS_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
GOOD: Mapping[str, object] = {
    "order_id": "o-1",
    "user_id": "ada",
    "ts": TS_MS,
    "amount": 12.5,
}


def as_json(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def raw(field: str, raw: str) -> bytes:
    """A good order, but for one field's JSON as given, valid or not."""
    return as_json(**{field: "@"}).replace(b'"@"', raw.encode())


def without(field: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != field}).encode()


BAD: dict[str, tuple[bytes | None, Reason]] = {
    "empty": (b"", Reason.EMPTY),
    "tombstone": (None, Reason.EMPTY),
    # no JSON
    "blank": (b"  ", Reason.NOT_JSON),
    "not UTF-8": (as_json().replace(b"o-1", b"\xff\xfe"), Reason.NOT_JSON),
    "UTF-16": (as_json().decode().encode("utf-16"), Reason.NOT_JSON),
    "byte order mark": (b"\xef\xbb\xbf" + as_json(), Reason.NOT_JSON),
    "NUL": (b"\x00", Reason.NOT_JSON),
    "NUL after the object": (as_json() + b"\x00", Reason.NOT_JSON),
    "lone surrogate": (raw("order_id", r'"\ud800"'), Reason.NOT_JSON),
    "truncated": (as_json()[:-1], Reason.NOT_JSON),
    "trailing garbage": (as_json() + b"x", Reason.NOT_JSON),
    "two objects": (as_json() + as_json(), Reason.NOT_JSON),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\x00" * 20, Reason.NOT_JSON),
    "raw control character": (as_json().replace(b"o-1", b"o\n1"), Reason.NOT_JSON),
    "single quotes": (as_json().replace(b'"', b"'"), Reason.NOT_JSON),
    "deep nesting": (b"[" * 100_000, Reason.NOT_JSON),
    "deep nesting, closed": (b"[" * 100_000 + b"]" * 100_000, Reason.NOT_JSON),
    "deep nesting in a field": (raw("x", "[" * 100_000 + "]" * 100_000), Reason.NOT_JSON),
    "almost 1 MB of rubbish": (b"x" * (2**20 - 1), Reason.NOT_JSON),
    # JSON, but no object
    "null": (b"null", Reason.NOT_AN_OBJECT),
    "number": (b"5", Reason.NOT_AN_OBJECT),
    "string": (b'"order"', Reason.NOT_AN_OBJECT),
    "array": (b"[" + as_json() + b"]", Reason.NOT_AN_OBJECT),
    # fields
    "no fields": (b"{}", Reason.MISSING_FIELD),
    "no order_id": (without("order_id"), Reason.MISSING_FIELD),
    "no user_id": (without("user_id"), Reason.MISSING_FIELD),
    "no ts": (without("ts"), Reason.MISSING_FIELD),
    "no amount": (without("amount"), Reason.MISSING_FIELD),
    "a new schema": (b'{"schema":"order/2","event":{}}', Reason.MISSING_FIELD),
    "order_id of 0 characters": (as_json(order_id=""), Reason.BAD_ORDER_ID),
    "order_id of 129 characters": (as_json(order_id="a" * 129), Reason.BAD_ORDER_ID),
    "order_id of 10,000 characters": (as_json(order_id="a" * 10_000), Reason.BAD_ORDER_ID),
    "order_id as number": (as_json(order_id=5), Reason.BAD_ORDER_ID),
    "order_id null": (as_json(order_id=None), Reason.BAD_ORDER_ID),
    "user_id of 0 characters": (as_json(user_id=""), Reason.BAD_USER_ID),
    "user_id of 10,000 characters": (as_json(user_id="a" * 10_000), Reason.BAD_USER_ID),
    "user_id as list": (as_json(user_id=["ada"]), Reason.BAD_USER_ID),
    "user_id as bool": (as_json(user_id=True), Reason.BAD_USER_ID),
    "user_id is not the key": (as_json(user_id="bob"), Reason.KEY_MISMATCH),
    # time
    "ts in seconds": (as_json(ts=TS_MS // 1_000), Reason.BAD_TS),
    "ts in microseconds": (as_json(ts=TS_MS * 1_000), Reason.BAD_TS),
    "ts 0": (as_json(ts=0), Reason.BAD_TS),
    "ts as compact date": (as_json(ts=20260101000000), Reason.BAD_TS),
    "ts in nanoseconds": (as_json(ts=TS_MS * 1_000_000), Reason.BAD_TS),
    "ts of a null date": (as_json(ts="1970-01-01T00:00:00Z"), Reason.PAST_TS),
    "updated_at in words": (as_json(updated_at="now"), Reason.BAD_UPDATED_AT),
    "refund_id empty": (as_json(type="refund", refund_id=""), Reason.BAD_REFUND_ID),
    "ts negative": (as_json(ts=-TS_MS), Reason.BAD_TS),
    "ts as float": (as_json(ts=1.5), Reason.BAD_TS),
    "ts as whole float": (raw("ts", f"{TS_MS}.0"), Reason.BAD_TS),
    "ts with exponent": (raw("ts", "1e12"), Reason.BAD_TS),
    "ts as digits in a string": (as_json(ts=str(TS_MS)), Reason.BAD_TS),
    "ts of 25 digits": (raw("ts", "9" * 25), Reason.BAD_TS),
    "ts of 5,000 digits": (raw("ts", "9" * 5_000), Reason.NOT_JSON),
    "ts as bool": (as_json(ts=True), Reason.BAD_TS),
    "ts null": (as_json(ts=None), Reason.BAD_TS),
    "ts as object": (as_json(ts={"$date": 1}), Reason.BAD_TS),
    "ts is NaN": (raw("ts", "NaN"), Reason.NOT_JSON),
    "ts empty": (as_json(ts=""), Reason.BAD_TS),
    "ts in words": (as_json(ts="yesterday"), Reason.BAD_TS),
    "ts without time": (as_json(ts="2026-01-01"), Reason.NAIVE_TS),
    "ts of 30 February": (as_json(ts="2026-02-30T00:00:00Z"), Reason.BAD_TS),
    "ts at 25 o'clock": (as_json(ts="2026-01-01T25:00:00Z"), Reason.BAD_TS),
    "ts is a leap second": (as_json(ts="2016-12-31T23:59:60Z"), Reason.BAD_TS),
    "ts before 1970": (as_json(ts="1969-12-31T23:59:59Z"), Reason.BAD_TS),
    "ts in year 1": (as_json(ts="0001-01-01T00:00:00+23:59"), Reason.BAD_TS),
    "ts past year 9999": (as_json(ts="9999-12-31T23:59:59-01:00"), Reason.BAD_TS),
    "ts without offset": (as_json(ts="2026-01-01T00:00:00"), Reason.NAIVE_TS),
    "ts in a day and a ms": (as_json(ts=TS_MS + MS_PER_DAY + 1), Reason.FUTURE_TS),
    "ts in year 9999": (as_json(ts="9999-12-31T23:59:59Z"), Reason.FUTURE_TS),
    # amount
    "amount of three decimals": (raw("amount", "12.345"), Reason.AMBIGUOUS_AMOUNT),
    "amount next to nothing, negative": (raw("amount", "-1e-400"), Reason.BAD_AMOUNT),
    "amount negative": (as_json(amount=-1), Reason.BAD_AMOUNT),
    "amount 1e18": (raw("amount", "1e18"), Reason.BAD_AMOUNT),
    "amount 1e999": (raw("amount", "1e999"), Reason.BAD_AMOUNT),
    "amount 1e1000000": (raw("amount", "1e1000000"), Reason.BAD_AMOUNT),
    "amount 1e99999999999999999999": (raw("amount", "1e99999999999999999999"), Reason.BAD_AMOUNT),
    "amount just above 1e9": (raw("amount", "1000000000.01"), Reason.BAD_AMOUNT),
    "amount of 5,000 digits": (raw("amount", "9" * 5_000), Reason.BAD_AMOUNT),
    "amount as string": (as_json(amount="12.50"), Reason.BAD_AMOUNT),
    "amount as bool": (as_json(amount=True), Reason.BAD_AMOUNT),
    "amount null": (as_json(amount=None), Reason.BAD_AMOUNT),
    "amount as list": (as_json(amount=[1]), Reason.BAD_AMOUNT),
    "amount as object": (as_json(amount={"value": 1}), Reason.BAD_AMOUNT),
    "amount NaN": (raw("amount", "NaN"), Reason.NOT_JSON),
    "amount Infinity": (raw("amount", "Infinity"), Reason.NOT_JSON),
    "amount -Infinity": (raw("amount", "-Infinity"), Reason.NOT_JSON),
    "amount 01": (raw("amount", "01"), Reason.NOT_JSON),
    "amount +1": (raw("amount", "+1"), Reason.NOT_JSON),
    "amount 1.": (raw("amount", "1."), Reason.NOT_JSON),
    "amount .5": (raw("amount", ".5"), Reason.NOT_JSON),
    "amount 0x10": (raw("amount", "0x10"), Reason.NOT_JSON),
    "amount 1_000": (raw("amount", "1_000"), Reason.NOT_JSON),
    # type and currency
    "type unknown": (as_json(type="return"), Reason.BAD_TYPE),
    "type unknown, time as text": (
        as_json(type="return", ts="2026-01-01T00:00:00Z"),
        Reason.BAD_TYPE,
    ),
    "currency as number, time as text": (
        as_json(currency=840, ts="2026-01-01T00:00:00Z"),
        Reason.WRONG_CURRENCY,
    ),
    "type in capitals": (as_json(type="ORDER"), Reason.BAD_TYPE),
    "type null": (as_json(type=None), Reason.BAD_TYPE),
    "type as number": (as_json(type=1), Reason.BAD_TYPE),
    "type as list": (as_json(type=["order"]), Reason.BAD_TYPE),
    "another currency": (as_json(currency="EUR"), Reason.WRONG_CURRENCY),
    "currency unknown": (as_json(currency="???"), Reason.WRONG_CURRENCY),
    "currency empty": (as_json(currency=""), Reason.WRONG_CURRENCY),
    "currency as number": (as_json(currency=840), Reason.WRONG_CURRENCY),
}
WRONG_KEYS = (b"", b"bob", b"ADA", b"ada ", b"\xff\xfe", b"ada\x00")
ODD_IDS = (
    "a",
    "a" * 128,
    "😀" * 128,
    "שלום",
    "{orders-3}",
    "clv:*:c:",
    "a\r\nb",
    "\x00",
    " x ",
    "../../etc/passwd",
    "\u202eada",
    "' OR 1=1",
)
UNKNOWN_FIELDS = (
    '"note":null',
    '"__faust":{"ns":"os.system"}',
    '"__proto__":{"admin":true}',
    '"items":[]',
    '"items":[' + ",".join(["{}"] * 10_000) + "]",
    '"quantity":0',
    '"schema":"order/9"',
    '"":1e999',
    '"big":' + "9" * 5_000,
    '"currency":null',
    '"currency":"USD"',
)
ODD_AMOUNTS = {
    "0": 0,
    "-0": 0,
    "-0.0": 0,
    "0.1": 10,
    repr(0.1 + 0.2): 30,
    "19.99": 1_999,
    "12.3450": 1_234,
    "12.3451": 1_235,
    "1e-400": 0,
    "1E2": 10_000,
    "1e9": 100_000_000_000,
    "0." + "1" * 5_000: 11,
}
# What Kafka takes by default, less what a batch has of its own.
LARGEST: Final = 1_048_500
# What Faust's agents would obey, and more headers than anybody sends.
_HEADERS: Final = {
    "headers for an agent": (("Faust-Ag-ReplyTo", b"replies"), ("Faust-Ag-CorrelationId", b"1")),
    "1,000 headers": tuple((f"h-{n}", b"\r\n\xff") for n in range(1_000)),
}


def bad(topic: str, now_ms: int) -> dict[str, Message]:
    """Records that are no orders, by what is wrong; `now_ms`: what the broker's clock will say."""
    found = {
        name: Message(topic, b"ada", value[:LARGEST])
        for name, (value, _) in BAD.items()
        if value is not None  # which is a tombstone, and passed over
    }
    # Of that table's own clock.
    later_ms = now_ms + MS_PER_DAY + 3_600_000
    found["ts in a day and a ms"] = Message(topic, b"ada", _order("ada", "1", later_ms))
    for key in WRONG_KEYS:
        found[f"a key of {key!r}"] = Message(topic, key, _order("ada", "1", now_ms))
    for name, headers in _HEADERS.items():
        found[name] = Message(topic, b"ada", b"{", headers)
    return found


def odd(topic: str, ts_ms: int) -> list[Message]:
    """Orders that look as if they were none, all at `ts_ms` or before; in their order."""
    return [Message(topic, *record) for record in _odd(ts_ms)]


_Headers = tuple[tuple[str, bytes], ...]


def _odd(ts_ms: int) -> Iterator[tuple[bytes, bytes] | tuple[bytes, bytes, _Headers]]:
    for number, user in enumerate(ODD_IDS):
        yield user.encode(), _order(user, f"{user[:100]}{number}", ts_ms)
    plain = _order("odd", "@", ts_ms)
    for number, fields in enumerate(UNKNOWN_FIELDS):
        value = plain.replace(b'"@"', b'"field-%d"' % number)
        yield b"odd", value[:-1] + b"," + fields.encode() + b"}"
    for number, amount in enumerate(ODD_AMOUNTS):
        value = plain.replace(b'"@"', b'"amount-%d"' % number)
        yield b"odd", value.replace(b"12.5", amount.encode())
    yield b"odd", plain.replace(b'"@"', b'"twice"')[:-1] + b',"amount":7}'
    yield b"odd", plain[:-1] + b',"note":"' + b"x" * (LARGEST - len(plain) - 20) + b'"}'
    for name, headers in _HEADERS.items():
        yield b"odd", _order("odd", name, ts_ms), headers
    # The same again, with another amount, of another customer.
    for user, amount in (("same", 12.5), ("same", 12.5), ("same", 99.0), ("other", 12.5)):
        yield user.encode(), _order(user, "same-id", ts_ms, amount=amount)
    for kind in ("cancellation", "refund"):
        for type_ in (kind, "order"):
            yield b"before", _order("before", f"{kind}-first", ts_ms, type=type_)
    for late_ms in (0, 1_000, MS_PER_DAY, 365 * MS_PER_DAY):
        yield b"late", _order("late", f"late-{late_ms}", ts_ms - late_ms)


def _order(user_id: str, order_id: str, ts_ms: int, **fields: object) -> bytes:
    order = {"order_id": order_id, "user_id": user_id, "ts": ts_ms, "amount": 12.5, **fields}
    return json.dumps(order).encode()
