"""One order event: read, checked, or set aside with a reason."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec

from features.events.envelopes import around, field_otherwise, header_of, key_fault
from features.events.ids import PLACEHOLDERS, is_placeholder, is_unicode, plain_id
from features.events.money import AmbiguousAmount, AmountError, read_amount
from features.times import (
    MS_PER_HOUR,
    Calendar,
    InstantError,
    NaiveInstant,
    rfc3339,
    text_ms,
    unit,
    wire_ms,
)

MAX_ID_CHARS: Final = 128
_SHOWN_CHARS: Final = 80


class OrderType(enum.IntEnum):
    """What the event does: an order, a refund of (part of) one, or a cancellation of all of it.

    A free order is one of amount 0 where `CLV_FREE_ORDERS=ignore`: it is known by its id, so that a
    correction finds it, and is no purchase.
    """

    ORDER = 0
    REFUND = 1
    CANCELLATION = 2
    FREE = 3

    @property
    def of_order(self) -> bool:
        """Whether it is an order, free or not: what a shop calls one."""
        return self in (OrderType.ORDER, OrderType.FREE)

    @property
    def wire(self) -> str:
        """What the contract calls it: `order`, `refund` or `cancellation`."""
        return "order" if self.of_order else self.name.lower()


class FreeOrders(enum.StrEnum):
    """Whether an order of amount 0 is a purchase (`count`) or only known by its id (`ignore`)."""

    COUNT = "count"
    IGNORE = "ignore"


class Order(msgspec.Struct, frozen=True, gc=False):
    """An accepted order event.

    `ts_ms` is event time in epoch milliseconds; `amount_minor` is in minor currency units, never
    negative. `order_id` of a refund or cancellation names the order that it takes back.

    `refund_id` tells the refunds of one order apart; without one (empty) a refund of another time
    or amount is another refund. `updated_ms`, of the shop's `updated_at`, says which of several
    versions of an event is the newest (-1: not said). `rounded`: the amount had more decimals than
    its currency.
    """

    order_id: str
    user_id: str
    ts_ms: int
    amount_minor: int
    type: OrderType = OrderType.ORDER
    refund_id: str = ""
    updated_ms: int = -1
    rounded: bool = False


class Reason(enum.StrEnum):
    """Why a record was set aside: the codes of the dead-letter topic's `reason` header."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    BAD_ORDER_ID = "bad_order_id"
    BAD_USER_ID = "bad_user_id"
    PLACEHOLDER_USER = "placeholder_user"
    NO_KEY = "no_key"
    KEY_MISMATCH = "key_mismatch"
    BAD_TS = "bad_ts"
    NAIVE_TS = "naive_ts"
    FUTURE_TS = "future_ts"
    PAST_TS = "past_ts"
    BAD_UPDATED_AT = "bad_updated_at"
    BAD_AMOUNT = "bad_amount"
    AMBIGUOUS_AMOUNT = "ambiguous_amount"
    BAD_REFUND_ID = "bad_refund_id"
    BAD_TYPE = "bad_type"
    WRONG_CURRENCY = "wrong_currency"
    BEYOND_ID_MEMORY = "beyond_id_memory"
    NOT_SCORED = "not_scored"
    WRONG_PARTITION = "wrong_partition"
    UNKNOWN_SCHEMA = "unknown_schema"
    NOT_DECODED = "not_decoded"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that breaks a rule: the rule's code, and field, value and remedy for a person."""

    reason: Reason
    detail: str


EMPTY: Final = Rejected(Reason.EMPTY, "value is empty; send an order as a JSON object")

# 1990-01-01: no shop that sends JSON has older orders, and null dates are older.
DEFAULT_EARLIEST_MS: Final = 631_152_000_000


@dataclass(frozen=True, slots=True)
class OrderRules:
    """What an order must satisfy beyond its own form.

    `max_future_ms`: how far event time may lie ahead of the clock, and of the record's timestamp.
    `earliest_ms`: the first instant that an order may be of. `free_orders`: what an order of amount
    0 is. `placeholders`: customer ids that name nobody (`features.events.ids`); `merge_ids`: those
    that differ only in case, blanks at the ends or a trailing `.0` are one, and `same_as` has the
    id under which others count, as accounts were merged.
    """

    currency: str = "USD"
    max_future_ms: int = MS_PER_HOUR
    earliest_ms: int = DEFAULT_EARLIEST_MS
    free_orders: FreeOrders = FreeOrders.COUNT
    placeholders: frozenset[str] = PLACEHOLDERS
    merge_ids: bool = False
    same_as: Mapping[str, str] = field(default_factory=dict)

    def customer(self, user_id: str) -> str:
        """The id under which a customer counts."""
        plain = plain_id(user_id) if self.merge_ids else user_id
        return self.same_as.get(plain, plain)


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
TYPES: Final = {one.wire: one for one in OrderType if one is not OrderType.FREE}


class Wire(msgspec.Struct, gc=False):
    """The JSON form on the way in; `amount` stays raw so that no float ever touches money."""

    order_id: _Id
    user_id: _Id
    ts: int | str
    amount: msgspec.Raw
    type: Literal["order", "refund", "cancellation"] = "order"
    currency: str | None = None
    refund_id: _Id | None = None
    updated_at: int | str | None = None


class _Broken(Exception):
    """Carries a Rejected out of nested checks."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejected = Rejected(reason, detail)


_wire = msgspec.json.Decoder(Wire)
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def parse(
    value: bytes | None,
    key: bytes | None,
    record_ts_ms: int | None,
    rules: OrderRules,
    now_ms: int | None = None,
) -> Order | Rejected:
    """The order in a record of the orders topic, or why it was set aside. Never raises.

    `key` is the record's key (None where it has none), `record_ts_ms` its timestamp, which most
    producers write by their own clock (None, 0 and -1: it has none), `now_ms` the clock of whoever
    reads it. An order may be ahead of neither (None: of the other one).
    """
    if not value:
        return EMPTY
    try:
        wire = _wire.decode(value)
    except UNDECODABLE:
        return _diagnose(value)
    try:
        _check_names(value)
        return _accept(wire, key, record_ts_ms, rules, now_ms)
    except _Broken as broken:
        return broken.rejected
    except UnicodeDecodeError:  # in a name that is none of ours: the decoder passes over it unread
        return Rejected(Reason.NOT_JSON, "value is not valid JSON in UTF-8; send a JSON object")


def from_fields(
    fields: Mapping[str, Any],
    rules: OrderRules,
    now_ms: int | None = None,
    zone: Calendar | None = None,
) -> Order | Rejected:
    """The order in one row of a file, or why it was set aside. Never raises.

    A negative amount is a refund of that size (UCI Online Retail II writes them so), or the
    cancellation that its type says. Empty optional fields count as absent. Times as `text_ms` has
    them. `now_ms`: as of `parse`; `zone`: that of times without an offset.
    """
    read_ms = text_ms if zone is None else partial(text_ms, zone=zone)
    try:
        order_id = _id(fields.get("order_id"), "order_id", Reason.BAD_ORDER_ID)
        user_id = rules.customer(_id(fields.get("user_id"), "user_id", Reason.BAD_USER_ID))
        _check_user(user_id, rules)
        ts = fields.get("ts")
        ts_ms = _ts("" if ts is None else ts, read_ms, _NAIVE_IN_FILE)
        _check_bounds(ts_ms, ts, None, rules, now_ms)
        kind = TYPES.get(fields.get("type") or "order")
        if kind is None:
            raise _bad_type(fields.get("type"))
        _check_currency(fields.get("currency") or None, rules)
        text = (fields.get("amount") or "").strip()
        amount, rounded = _minor(text, kind, rules)
        refund_id = fields.get("refund_id") or ""
        if refund_id:
            refund_id = _id(refund_id, "refund_id", Reason.BAD_REFUND_ID)
        updated = fields.get("updated_at")
        updated_ms = _updated_ms(updated, read_ms) if updated else -1
    except _Broken as broken:
        return broken.rejected
    if amount < 0 and kind is OrderType.ORDER:
        kind = OrderType.REFUND
    order = Order(order_id, user_id, ts_ms, abs(amount), kind, refund_id, updated_ms, rounded)
    return _counted(order, rules)


def _counted(order: Order, rules: OrderRules) -> Order:
    """The order as it counts: free where it is of nothing and such are ignored, and told apart by a
    refund id only where it refunds."""
    kind = order.type
    if not order.amount_minor and kind is OrderType.ORDER:
        kind = OrderType.FREE if rules.free_orders is FreeOrders.IGNORE else kind
    refund_id = order.refund_id if kind is OrderType.REFUND else ""
    if kind is order.type and refund_id == order.refund_id:
        return order
    return msgspec.structs.replace(order, type=kind, refund_id=refund_id)


def _accept(
    wire: Wire,
    key: bytes | None,
    record_ts_ms: int | None,
    rules: OrderRules,
    now_ms: int | None,
) -> Order:
    user_id = rules.customer(wire.user_id)
    if key is not None and key != wire.user_id.encode() and key != user_id.encode():
        raise _Broken(
            Reason.KEY_MISMATCH,
            "the record's key is not its user_id; key every order by its user_id"
            + key_fault(key, wire.user_id),
        )
    _check_user(user_id, rules)
    ts_ms = _ts(wire.ts, wire_ms)
    _check_bounds(ts_ms, wire.ts, record_ts_ms, rules, now_ms)
    if wire.currency is not None:
        _check_currency(wire.currency, rules)
    raw = bytes(wire.amount)
    if raw[:1] not in b"-0123456789":
        raise _bad_amount(raw.decode(errors="replace"), "is not a JSON number")
    kind = TYPES[wire.type]
    amount, rounded = _minor(raw.decode(), kind, rules)
    if amount < 0 and kind is OrderType.ORDER:
        raise _bad_amount(raw.decode(), 'is negative; send what goes back as type "refund"')
    updated_ms = -1 if wire.updated_at is None else _updated_ms(wire.updated_at, wire_ms)
    facts = (ts_ms, abs(amount), kind, wire.refund_id or "", updated_ms, rounded)
    return _counted(Order(wire.order_id, user_id, *facts), rules)


def _check_names(value: bytes) -> None:
    """Raises _Broken for an optional field in other letters, which would be passed over."""
    if found := field_otherwise(value):
        plain, written = found
        reasons = {"type": Reason.BAD_TYPE, "currency": Reason.WRONG_CURRENCY}
        reasons["refund_id"] = Reason.BAD_REFUND_ID
        reason = reasons.get(plain, Reason.BAD_UPDATED_AT)
        raise _Broken(reason, f"field {written} is not read as {plain}; name it {plain}")


def _check_user(user_id: str, rules: OrderRules) -> None:
    """Raises _Broken for an id that names nobody: all guests would be one customer."""
    if is_placeholder(user_id, rules.placeholders):
        fault = f"user_id {_shown(user_id)} names no customer; leave such orders out, or take the"
        raise _Broken(Reason.PLACEHOLDER_USER, f"{fault} word off the list (CLV_PLACEHOLDERS)")


def _check_bounds(
    ts_ms: int, shown: object, record_ts_ms: int | None, rules: OrderRules, now_ms: int | None
) -> None:
    """Raises _Broken for an event time that cannot be."""
    if ts_ms < rules.earliest_ms:
        digits = str(shown)
        hint = unit(int(digits)) if digits.isdecimal() else ""
        raise _Broken(
            Reason.PAST_TS,
            f"ts {_shown(shown)} lies before {rfc3339(rules.earliest_ms)[:10]} (CLV_EARLIEST)"
            f"{hint}; leave out what has no date",
        )
    for clock_ms, clock in ((now_ms, "the clock"), (record_ts_ms, "the record's own timestamp")):
        if clock_ms is not None and clock_ms > 0 and ts_ms > clock_ms + rules.max_future_ms:
            raise _Broken(
                Reason.FUTURE_TS,
                f"ts {_shown(shown)}, {rfc3339(ts_ms)}, is over"
                f" {rules.max_future_ms / MS_PER_HOUR:g} h ahead of {clock}; check the"
                " clock of the device, and units (milliseconds)",
            )


def _updated_ms(value: Any, read: Callable[[Any], int]) -> int:
    try:
        return read(value)
    except InstantError as error:
        raise _Broken(
            Reason.BAD_UPDATED_AT,
            f"updated_at {_shown(value)} {error}; send it as ts is sent, or leave it out",
        ) from None


def _minor(text: str, kind: OrderType, rules: OrderRules) -> tuple[int, bool]:
    try:
        amount, rounded = read_amount(text.strip(), rules.currency)
    except AmbiguousAmount as error:
        raise _Broken(Reason.AMBIGUOUS_AMOUNT, f"amount {_shown(text)} {error}") from None
    except AmountError as error:
        raise _bad_amount(text, str(error)) from None
    # As written: -0.001 is negative though it rounds to 0, and no order, which would end a silence.
    if not amount and kind is OrderType.ORDER and text.lstrip().startswith("-") and Decimal(text):
        raise _bad_amount(text, f"is a refund that rounds to 0 {rules.currency}")
    return amount, rounded


def _bad_amount(text: str, fault: str) -> _Broken:
    return _Broken(
        Reason.BAD_AMOUNT,
        f"amount {_shown(text)} {fault}; send major currency units, 0 or more, as a JSON number",
    )


def _bad_type(value: object) -> _Broken:
    return _Broken(
        Reason.BAD_TYPE, f'type {_shown(value)} is none of "order", "refund", "cancellation"'
    )


def _check_currency(currency: str | None, rules: OrderRules) -> None:
    if currency is not None and currency.strip().upper() != rules.currency:
        raise _Broken(
            Reason.WRONG_CURRENCY,
            f"currency {_shown(currency)} is not {rules.currency}; convert before sending,"
            " or run one worker a currency",
        )


_NAIVE: Final = "append Z or +hh:mm"
_NAIVE_IN_FILE: Final = f"{_NAIVE}, or name the zone of such times (--timezone)"


def _ts(value: Any, read: Callable[[Any], int], naive: str = _NAIVE) -> int:
    try:
        return read(value)
    except NaiveInstant as error:
        raise _Broken(Reason.NAIVE_TS, f"ts {_shown(value)} {error}; {naive}") from None
    except InstantError as error:
        raise _Broken(
            Reason.BAD_TS,
            f"ts {_shown(value)} {error}; send RFC 3339 with offset (2026-03-01T12:00:00Z)"
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


def _diagnose(value: bytes) -> Rejected:
    """Why a record did not decode, found field by field: the slow way, for bad records only."""
    try:
        document: Any = msgspec.json.decode(value)
    except UNDECODABLE as error:
        fault = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        return Rejected(
            Reason.NOT_JSON, f"value is not JSON in UTF-8: {header_of(value) or fault[:120]}"
        )
    if not isinstance(document, dict):
        name = type(document).__name__
        return Rejected(Reason.NOT_AN_OBJECT, f"value is a JSON {name}; send an object")
    try:
        _find_fault(document)
    except _Broken as broken:
        return broken.rejected
    return Rejected(Reason.NOT_JSON, "value cannot be read as an order")


def _find_fault(document: Mapping[str, Any]) -> None:
    for name in ("order_id", "user_id", "ts", "amount"):
        if name not in document:
            what = around(document)
            hint = f"the record is {what}" if what else "it is required"
            raise _Broken(Reason.MISSING_FIELD, f"{name} is missing; {hint}")
    _id(document["order_id"], "order_id", Reason.BAD_ORDER_ID)
    _id(document["user_id"], "user_id", Reason.BAD_USER_ID)
    _ts(document["ts"], wire_ms)
    if document.get("refund_id") is not None:
        _id(document["refund_id"], "refund_id", Reason.BAD_REFUND_ID)
    if document.get("updated_at") is not None:
        _updated_ms(document["updated_at"], wire_ms)
    kind = document.get("type", "order")
    if not isinstance(kind, str) or kind not in TYPES:
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
