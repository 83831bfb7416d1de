"""One order event: read, checked, or set aside with a reason."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec

from features.money import AmountError, minor_exponent, to_minor
from features.times import MS_PER_DAY, InstantError, NaiveInstant, text_ms, wire_ms

MAX_ID_CHARS: Final = 128
_SHOWN_CHARS: Final = 80


class OrderType(enum.IntEnum):
    """What the event does: an order, a refund of (part of) one, or a cancellation of all of it."""

    ORDER = 0
    REFUND = 1
    CANCELLATION = 2


class Order(msgspec.Struct, frozen=True, gc=False):
    """An accepted order event.

    `ts_ms` is event time in epoch milliseconds; `amount_minor` is in minor currency units, never
    negative. `order_id` of a refund or cancellation names the order that it takes back.
    """

    order_id: str
    user_id: str
    ts_ms: int
    amount_minor: int
    type: OrderType = OrderType.ORDER


class Reason(enum.StrEnum):
    """Why a record was set aside: the codes of the dead-letter topic's `reason` header."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    BAD_ORDER_ID = "bad_order_id"
    BAD_USER_ID = "bad_user_id"
    KEY_MISMATCH = "key_mismatch"
    BAD_TS = "bad_ts"
    NAIVE_TS = "naive_ts"
    FUTURE_TS = "future_ts"
    BAD_AMOUNT = "bad_amount"
    BAD_TYPE = "bad_type"
    WRONG_CURRENCY = "wrong_currency"
    BEYOND_ID_MEMORY = "beyond_id_memory"
    NOT_SCORED = "not_scored"
    WRONG_PARTITION = "wrong_partition"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that breaks a rule: the rule's code, and field, value and remedy for a person."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class OrderRules:
    """What an order must satisfy beyond its own form.

    `max_future_ms`: how far event time may lie ahead of the broker's record timestamp.
    """

    currency: str = "USD"
    max_future_ms: int = MS_PER_DAY

    @property
    def exponent(self) -> int:
        """Decimals of the currency's minor unit."""
        return minor_exponent(self.currency)


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
_TYPES: Final = {
    "order": OrderType.ORDER,
    "refund": OrderType.REFUND,
    "cancellation": OrderType.CANCELLATION,
}


class _Wire(msgspec.Struct):
    """The JSON form on the way in; `amount` stays raw so that no float ever touches money."""

    order_id: _Id
    user_id: _Id
    ts: int | Annotated[datetime, msgspec.Meta(tz=True)]
    amount: msgspec.Raw
    type: Literal["order", "refund", "cancellation"] = "order"
    currency: str | None = None


class _Broken(Exception):
    """Carries a Rejected out of nested checks."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejected = Rejected(reason, detail)


_wire = msgspec.json.Decoder(_Wire)
_undecodable = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def parse(
    value: bytes | None, key: bytes | None, record_ts_ms: int | None, rules: OrderRules
) -> Order | Rejected:
    """The order in a record of the orders topic, or why it was set aside. Never raises.

    `key` is the record's key (None where it has none), `record_ts_ms` the broker's timestamp of
    the record (None: no check against the future).
    """
    if not value:
        return Rejected(Reason.EMPTY, "value is empty; send an order as a JSON object")
    try:
        wire = _wire.decode(value)
    except _undecodable:
        return _diagnose(value)
    try:
        return _accept(wire, key, record_ts_ms, rules)
    except _Broken as broken:
        return broken.rejected


def from_fields(fields: Mapping[str, str | None], rules: OrderRules) -> Order | Rejected:
    """The order in one row of a file, or why it was set aside. Never raises.

    A negative amount is a refund of that size (UCI Online Retail II writes them so). Empty `type`
    and `currency` count as absent. `ts` as on the wire: RFC 3339 with offset, or epoch ms.
    """
    try:
        order_id = _id(fields.get("order_id"), "order_id", Reason.BAD_ORDER_ID)
        user_id = _id(fields.get("user_id"), "user_id", Reason.BAD_USER_ID)
        ts_ms = _ts(fields.get("ts") or "", text_ms)
        kind = _TYPES.get(fields.get("type") or "order")
        if kind is None:
            raise _bad_type(fields.get("type"))
        _check_currency(fields.get("currency") or None, rules)
        text = (fields.get("amount") or "").strip()
        amount = _minor(text, rules)
        # Rounded to 0 it would be an order, and end a silence.
        if not amount and text.startswith("-") and Decimal(text):
            raise _bad_amount(text, f"is a refund that rounds to 0 {rules.currency}")
    except _Broken as broken:
        return broken.rejected
    if amount < 0:
        kind = OrderType.REFUND
    return Order(order_id, user_id, ts_ms, abs(amount), kind)


def _accept(wire: _Wire, key: bytes | None, record_ts_ms: int | None, rules: OrderRules) -> Order:
    if key is not None and key != wire.user_id.encode():
        raise _Broken(
            Reason.KEY_MISMATCH,
            "the record's key is not its user_id; key every order by its user_id",
        )
    ts = wire.ts
    ts_ms = _ts(ts, wire_ms)
    if record_ts_ms is not None and ts_ms > record_ts_ms + rules.max_future_ms:
        raise _Broken(
            Reason.FUTURE_TS,
            f"ts {_shown(ts)} is more than {rules.max_future_ms // 3_600_000} h ahead of the"
            " record's own timestamp; check the shop's clock and units (milliseconds)",
        )
    if wire.currency is not None:
        _check_currency(wire.currency, rules)
    raw = bytes(wire.amount)
    if raw[:1] not in b"-0123456789":
        raise _bad_amount(raw.decode(errors="replace"), "is not a JSON number")
    amount = _minor(raw.decode(), rules)
    # As written: -0.001 is negative though it rounds to 0; -0.0 is not.
    if raw[:1] == b"-" and float(raw) < 0:
        raise _bad_amount(raw.decode(), 'is negative; send what goes back as type "refund"')
    return Order(wire.order_id, wire.user_id, ts_ms, amount, _TYPES[wire.type])


def _minor(text: str, rules: OrderRules) -> int:
    try:
        return to_minor(text.strip(), rules.exponent)
    except AmountError as error:
        raise _bad_amount(text, str(error)) from None


def _bad_amount(text: str, fault: str) -> _Broken:
    remedy = "send major currency units between 0 and 1e9 as a JSON number"
    return _Broken(Reason.BAD_AMOUNT, f"amount {_shown(text)} {fault}; {remedy}")


def _bad_type(value: object) -> _Broken:
    return _Broken(
        Reason.BAD_TYPE, f'type {_shown(value)} is none of "order", "refund", "cancellation"'
    )


def _check_currency(currency: str | None, rules: OrderRules) -> None:
    if currency is not None and currency != rules.currency:
        raise _Broken(
            Reason.WRONG_CURRENCY,
            f"currency {_shown(currency)} is not {rules.currency}; convert before sending,"
            " or run one worker a currency",
        )


def _ts(value: Any, read: Callable[[Any], int]) -> int:
    try:
        return read(value)
    except NaiveInstant as error:
        raise _Broken(Reason.NAIVE_TS, f"ts {_shown(value)} {error}; append Z or +hh:mm") from None
    except InstantError as error:
        shown = value.isoformat() if isinstance(value, datetime) else value
        raise _Broken(
            Reason.BAD_TS,
            f"ts {_shown(shown)} {error}; send RFC 3339 with offset (2026-03-01T12:00:00Z)"
            " or integer epoch milliseconds",
        ) from None


def _id(value: object, field: str, reason: Reason) -> str:
    if isinstance(value, str) and 1 <= len(value) <= MAX_ID_CHARS and is_unicode(value):
        return value
    # Without the value: details travel further than records, and an id is a person's.
    kind = "is not a string"
    if isinstance(value, str):
        kind = f"has {len(value):,} characters" if is_unicode(value) else "has half a character"
    raise _Broken(reason, f"{field} {kind}; send a string of 1 to 128 characters")


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: a file read leniently may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _diagnose(value: bytes) -> Rejected:
    """Why a record did not decode, found field by field: the slow way, for bad records only."""
    try:
        document: Any = msgspec.json.decode(value)
    except _undecodable as error:
        fault = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        return Rejected(Reason.NOT_JSON, f"value is not JSON in UTF-8: {fault[:120]}")
    if not isinstance(document, dict):
        name = type(document).__name__
        return Rejected(Reason.NOT_AN_OBJECT, f"value is a JSON {name}; send an object")
    try:
        _find_fault(document)
    except _Broken as broken:
        return broken.rejected
    return Rejected(Reason.NOT_JSON, "value cannot be read as an order")


def _find_fault(document: Mapping[str, Any]) -> None:
    for field in ("order_id", "user_id", "ts", "amount"):
        if field not in document:
            raise _Broken(Reason.MISSING_FIELD, f"{field} is missing; it is required")
    _id(document["order_id"], "order_id", Reason.BAD_ORDER_ID)
    _id(document["user_id"], "user_id", Reason.BAD_USER_ID)
    _ts(document["ts"], wire_ms)
    kind = document.get("type", "order")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise _bad_type(kind)
    if not isinstance(document.get("currency"), str | None):
        raise _Broken(
            Reason.WRONG_CURRENCY, f"currency {_shown(document['currency'])} is no ISO 4217 code"
        )


def _shown(value: object) -> str:
    try:
        text = repr(value) if not isinstance(value, bytes) else repr(value)[1:]
    except RecursionError:  # nested just less deep than could be decoded
        text = "nested too deep"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
