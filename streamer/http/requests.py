"""What is asked of `POST /predict`, read and checked: every fault of a request at once.

A record is a customer's orders, in the very form of the orders topic and folded by the very fold of
the stream, or ready features by their names; and what the shop knows of the customer besides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from features.ledger import IdMemory
from features.orders import Order, OrderRules, Reason, Rejected, parse
from features.state import EMPTY, BeyondMemory, CustomerState, apply
from features.times import InstantError, rfc3339, wire_ms
from features.vector import FEATURE_NAMES, FEATURE_VERSION
from model.data.attributes import Attributes

MAX_RECORDS: Final = 1_000
MAX_BODY_BYTES: Final = 4 << 20
# More would tell nobody more.
MAX_FAULTS: Final = 50
# Far above any money or count, and far from where sums of them overflow.
MAX_FEATURE: Final = 1e15
_SHOWN_CHARS: Final = 80
_MIN_EPOCH_MS: Final = 100_000_000_000
_YEAR_10000_MS: Final = 253_402_300_800_000

_BODY_FIELDS: Final = ("records", "as_of", "contributions")
_RECORD_FIELDS: Final = ("orders", "as_of", "features", "feature_version", "attributes")
_FIELD_OF: Final[Mapping[Reason, str]] = {
    Reason.BAD_ORDER_ID: "order_id",
    Reason.BAD_USER_ID: "user_id",
    Reason.KEY_MISMATCH: "user_id",
    Reason.BAD_TS: "ts",
    Reason.NAIVE_TS: "ts",
    Reason.FUTURE_TS: "ts",
    Reason.BEYOND_ID_MEMORY: "ts",
    Reason.BAD_AMOUNT: "amount",
    Reason.BAD_TYPE: "type",
    Reason.WRONG_CURRENCY: "currency",
}

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_numbers = msgspec.json.Decoder(dict[str, float])
_anything = msgspec.json.Decoder()
_undecodable = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong at one place of a request, and what to send instead.

    `pointer` is a JSON Pointer (RFC 6901) into the body; `record` and `order` count from 0.
    """

    detail: str
    pointer: str
    record: int | None = None
    order: int | None = None
    field: str | None = None
    value: str | None = None


class BodyRefused(Exception):
    """The request cannot be answered: correct what `faults` name, and send it again.

    `status` is 400 for what is no JSON, 422 for JSON that asks for nothing we know."""

    def __init__(self, status: int, faults: Sequence[Fault], complete: bool = True) -> None:
        count = len(faults)
        whole = f"{count} faults" if count > 1 else faults[0].detail
        super().__init__(whole if complete else f"the first {count} faults")
        self.status = status
        self.faults = list(faults)


@dataclass(frozen=True, slots=True)
class FromOrders:
    """A customer's facts, the instant to score them as of, and the values of the attributes that
    the model knows, NaN where one is missing."""

    facts: CustomerState
    as_of_ms: int
    attributes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class FromFeatures:
    """A feature vector, in the order of FEATURE_NAMES, and attributes as in FromOrders."""

    vector: list[float]
    attributes: tuple[float, ...] = ()


Row = FromOrders | FromFeatures


@dataclass(frozen=True, slots=True)
class Asked:
    """Records to be scored, and whether their CLVs are to be explained."""

    rows: list[Row]
    contributions: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What an order has to satisfy, how much is remembered of orders, the present instant, and what
    a model with attributes knows of users (None: the model has none)."""

    rules: OrderRules
    memory: IdMemory
    now_ms: int
    attributes: Attributes | None = None


@dataclass(slots=True)
class _Faults:
    """Faults as they are found; full from MAX_FAULTS on."""

    found: list[Fault] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.found) >= MAX_FAULTS

    def add(self, place: _Place, field: str | None, detail: str, value: object = None) -> None:
        if self.full:
            return
        at = place.pointer if field is None else f"{place.pointer}/{_escaped(field)}"
        shown = None if value is None else _shown(value)
        self.found.append(Fault(detail, at, place.record, place.order, field, shown))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the body something stands."""

    pointer: str = "#"
    record: int | None = None
    order: int | None = None


def read(body: bytes, terms: Terms, between: Callable[[], None] = lambda: None) -> Asked:
    """What a body asks for, its records in their order; `between` is called after each.

    Raises BodyRefused with what is wrong with any of them.
    """
    faults, top = _Faults(), _Place()
    given = _object(body, top, _BODY_FIELDS, "records", faults)
    if given is None:
        raise BodyRefused(_status_of(body), faults.found)
    as_of_ms = _instant(given.get("as_of"), top, faults)
    contributions = _switch(given, "contributions", top, faults)
    rows = []
    for number, raw in enumerate(_records(given, top, faults)):
        place = _Place(f"#/records/{number}", number)
        row = _record(raw, place, as_of_ms, terms, faults)
        if faults.full:
            break
        if row is not None:
            rows.append(row)
        between()
    if faults.found:
        raise BodyRefused(422, faults.found, complete=not faults.full)
    return Asked(rows, contributions)


def _status_of(body: bytes) -> int:
    """400 for what is no JSON at all; 422 for JSON of another shape."""
    try:
        _anything.decode(body)
    except _undecodable:
        return 400
    return 422


def _records(
    given: Mapping[str, msgspec.Raw], place: _Place, faults: _Faults
) -> Sequence[msgspec.Raw]:
    if "records" not in given:
        faults.add(place, "records", "records is missing; send a list of 1 to 1,000 records")
        return ()
    found = _list(given["records"])
    if found is None:
        faults.add(
            place, "records", "records is no list; send 1 to 1,000 records", given["records"]
        )
        return ()
    if not 1 <= len(found) <= MAX_RECORDS:
        wanted = f"send 1 to {MAX_RECORDS:,} in a request"
        faults.add(place, "records", f"records has {len(found):,} elements; {wanted}")
        return ()
    return found


def _record(
    raw: msgspec.Raw, place: _Place, as_of_ms: int | None, terms: Terms, faults: _Faults
) -> Row | None:
    before = len(faults.found)
    given = _object(bytes(raw), place, _RECORD_FIELDS, "orders, or features", faults)
    if given is None:
        return None
    if ("orders" in given) == ("features" in given):
        which = "both orders and features" if "orders" in given else "neither orders nor features"
        faults.add(place, None, f"the record has {which}; send one of the two")
        return None
    if "features" in given:
        return _from_features(given, place, terms, faults)
    if "feature_version" in given:
        faults.add(place, "feature_version", "feature_version goes with features, not with orders")
    own_ms = _instant(given.get("as_of"), place, faults)
    as_of_ms = as_of_ms if own_ms is None else own_ms
    orders = _orders(given["orders"], place, terms, faults)
    user_id = orders[0].user_id if orders else None
    attributes = _attributes(given.get("attributes"), user_id, place, terms, faults)
    if len(faults.found) > before:
        return None
    folded = _folded(orders, place, as_of_ms, terms, faults)
    return None if folded is None else FromOrders(*folded, attributes)


# --- orders ---------------------------------------------------------------------------------------


def _orders(raw: msgspec.Raw, place: _Place, terms: Terms, faults: _Faults) -> list[Order]:
    found = _list(raw)
    if not found:
        what = "is no list" if found is None else "is empty"
        faults.add(place, "orders", f"orders {what}; send the customer's orders, one at least", raw)
        return []
    orders: list[Order] = []
    for number, one in enumerate(found):
        outcome = parse(bytes(one), None, terms.now_ms, terms.rules)
        at = _Place(f"{place.pointer}/orders/{number}", place.record, number)
        if isinstance(outcome, Rejected):
            _add_rejected(outcome, one, at, faults)
            if faults.full:
                return []
            continue
        orders.append(outcome)
        if outcome.user_id != orders[0].user_id:
            faults.add(
                at,
                "user_id",
                "user_id is not that of the record's first order; send one record a customer",
                outcome.user_id,
            )
    # As though each had come in its time: facts do not depend on the order, memory does.
    orders.sort(key=_event_time)
    return orders


def _event_time(order: Order) -> int:
    return order.ts_ms


def _add_rejected(rejected: Rejected, raw: msgspec.Raw, at: _Place, faults: _Faults) -> None:
    name = _FIELD_OF.get(rejected.reason)
    if rejected.reason is Reason.MISSING_FIELD:
        name = rejected.detail.split()[0]
    value: Any = None
    if name is not None and rejected.reason is not Reason.MISSING_FIELD:
        value = _value(_fields.decode(raw).get(name))
    faults.add(at, name, rejected.detail, value)


def _folded(
    orders: Sequence[Order], place: _Place, as_of_ms: int | None, terms: Terms, faults: _Faults
) -> tuple[CustomerState, int] | None:
    facts = EMPTY
    for order in orders:
        after = apply(facts, order, terms.memory)
        if isinstance(after, BeyondMemory):
            faults.add(place, "orders", "more orders than are remembered; leave out the oldest")
            return None
        facts = after
    newest_ms = orders[-1].ts_ms
    if as_of_ms is None:
        # Clocks differ: as the stream does, never score before what is known.
        return facts, max(terms.now_ms, newest_ms)
    if newest_ms > as_of_ms:
        newest = rfc3339(newest_ms, milliseconds=True)
        detail = f"as_of is before the newest order, {newest}; leave that out or choose a later one"
        faults.add(place, "as_of", detail, rfc3339(as_of_ms, milliseconds=True))
        return None
    return facts, as_of_ms


# --- features -------------------------------------------------------------------------------------


def _from_features(
    given: Mapping[str, msgspec.Raw], place: _Place, terms: Terms, faults: _Faults
) -> FromFeatures | None:
    before = len(faults.found)
    if "as_of" in given:
        faults.add(place, "as_of", "as_of goes with orders; features are as of an instant already")
    version = _value(given.get("feature_version"))
    if version != FEATURE_VERSION:
        detail = f'feature_version is not "{FEATURE_VERSION}", which this model was trained on'
        faults.add(place, "feature_version", f"{detail}; send it as a string", version)
    vector = _vector(given["features"], place, faults)
    attributes = _attributes(given.get("attributes"), None, place, terms, faults)
    return FromFeatures(vector, attributes) if len(faults.found) == before else None


def _vector(raw: msgspec.Raw, place: _Place, faults: _Faults) -> list[float]:
    try:
        numbers = _numbers.decode(raw)
        vector = [numbers[name] for name in FEATURE_NAMES]
        if len(numbers) == len(vector) and all(map(_allowed, FEATURE_NAMES, vector)):
            return vector
    except (*_undecodable, KeyError):
        pass
    _find_feature_faults(raw, place, faults)
    return []


def _allowed(name: str, value: object) -> bool:
    """Whether a feature can have the value; only net revenue falls below 0, by refunds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    least = -MAX_FEATURE if "net_minor" in name else 0.0
    return math.isfinite(value) and least <= value <= MAX_FEATURE


def _find_feature_faults(raw: msgspec.Raw, place: _Place, faults: _Faults) -> None:
    """Every feature that is missing, unknown or no number: the slow way, for bad records only."""
    try:
        features = {name: _value(number) for name, number in _fields.decode(raw).items()}
    except _undecodable:
        faults.add(place, "features", "features is no object; send numbers by their names", raw)
        return
    at = _Place(f"{place.pointer}/features", place.record)
    for name in FEATURE_NAMES:
        if name not in features:
            faults.add(at, name, f"{name} is missing; send all {len(FEATURE_NAMES)} features")
        elif not _allowed(name, features[name]):
            least = "-1e15" if "net_minor" in name else "0"
            detail = f"{name} cannot be that; send a number from {least} to 1e15"
            faults.add(at, name, detail, _null_shown(features[name]))
    for name in features.keys() - set(FEATURE_NAMES):
        faults.add(at, name, "no such feature; docs/api.md says where the names are")


# --- attributes -----------------------------------------------------------------------------------


def _attributes(
    raw: msgspec.Raw | None, user_id: str | None, place: _Place, terms: Terms, faults: _Faults
) -> tuple[float, ...]:
    """The values of the attributes that the model knows: what the record says, else what the
    worker knows of the user, else NaN."""
    known = terms.attributes
    values = [] if known is None else known.row(user_id)
    if raw is None or _value(raw) is None:
        return tuple(values)
    try:
        given = _fields.decode(raw)
    except _undecodable:
        faults.add(place, "attributes", "attributes is no object; send values by their names", raw)
        return ()
    columns = () if known is None else known.columns
    names = [column.name for column in columns]
    at = _Place(f"{place.pointer}/attributes", place.record)
    for name, one in given.items():
        value = _value(one)
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "leave attributes out"
            faults.add(at, name, f"the model knows no such attribute; {there}", _null_shown(value))
            continue
        number = names.index(name)
        try:
            values[number] = columns[number].code_of(value)
        except ValueError as error:
            faults.add(at, name, str(error), value)
    return tuple(values)


# --- pieces ---------------------------------------------------------------------------------------


def instant_of(value: object) -> int:
    """Epoch ms of an RFC 3339 time with offset, or of integer epoch ms. Raises ValueError with the
    remedy."""
    try:
        return wire_ms(value)
    except InstantError as error:
        remedy = "send RFC 3339 with offset (2026-03-01T12:00:00Z) or integer epoch milliseconds"
        raise ValueError(f"as_of {error}; {remedy}") from None


def _instant(raw: msgspec.Raw | None, place: _Place, faults: _Faults) -> int | None:
    """The as_of at a place; None where there is none, or null, or no time, which is a fault."""
    value = _value(raw)
    if value is None:
        return None
    try:
        return instant_of(value)
    except ValueError as error:
        faults.add(place, "as_of", str(error), value)
        return None


def _switch(given: Mapping[str, msgspec.Raw], name: str, place: _Place, faults: _Faults) -> bool:
    """A field that is true unless it says otherwise."""
    value = _value(given[name]) if name in given else True
    if not isinstance(value, bool):
        faults.add(place, name, f"{name} is no switch; send true or false", _null_shown(value))
        return True
    return value


def _object(
    data: bytes, place: _Place, known: Sequence[str], wanted: str, faults: _Faults
) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object, unknown ones left out and told; None where it is none."""
    try:
        given = _fields.decode(data)
    except _undecodable as error:
        kind = "no JSON in UTF-8" if _status_of(data) == 400 else "no JSON object"
        why = f" ({str(error)[:120]})" if _status_of(data) == 400 else ""
        faults.add(place, None, f"this is {kind}{why}; send an object with {wanted}")
        return None
    for name in given.keys() - set(known):
        faults.add(place, name, f"no such field; there are {', '.join(known)}")
        del given[name]
    return given


def _value(raw: msgspec.Raw | None) -> object:
    """What a piece of JSON says; a number beyond any float stays as it is written."""
    try:
        return None if raw is None else _anything.decode(raw)
    except _undecodable:
        return raw


def _list(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    try:
        return _items.decode(raw)
    except _undecodable:
        return None


def _escaped(name: str) -> str:
    """A name as a part of a JSON Pointer."""
    return re.sub("[~/]", lambda found: "~0" if found[0] == "~" else "~1", name[:_SHOWN_CHARS])


def _null_shown(value: object) -> object:
    return "null" if value is None else value


def _shown(value: object) -> str:
    if isinstance(value, msgspec.Raw):
        value = bytes(value).decode(errors="replace")
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
