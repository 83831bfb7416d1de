"""What is asked of `POST /predict`, read and checked: every fault of a request at once.

A record is a customer's orders, in the very form of the orders topic and folded by the very fold of
the stream, or ready features by their names; and what the shop knows of the customer besides.

JSON is cut into pieces before any becomes values; one too large to be what it should is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import BaseModel, ValidationError

from features.columns.vector import FEATURE_NAMES, FEATURE_VERSION
from features.events.orders import Order, OrderRules, Reason, Rejected, parse
from features.facts.ledger import IdMemory
from features.facts.state import EMPTY, CustomerState, apply
from features.times import UTC, Calendar, rfc3339
from model.data.attributes import Attributes
from streamer.http.schema import (
    MAX_RECORDS,
    FeaturesRecord,
    OrdersRecord,
    PredictRequest,
    least_of,
)

MAX_BODY_BYTES: Final = 4 << 20
# More would tell nobody more.
MAX_FAULTS: Final = 50
# A body full of orders has fewer commas; each costs time and memory to read.
_MAX_COMMAS: Final = 300_000
# What is not a list of records or orders is small.
_MAX_VALUE_BYTES: Final = 1 << 16
_SHOWN_CHARS: Final = 80

_FIELD_OF: Final[Mapping[Reason, str]] = {
    Reason.BAD_ORDER_ID: "order_id",
    Reason.BAD_USER_ID: "user_id",
    Reason.KEY_MISMATCH: "user_id",
    Reason.BAD_TS: "ts",
    Reason.NAIVE_TS: "ts",
    Reason.FUTURE_TS: "ts",
    Reason.BEYOND_ID_MEMORY: "ts",
    Reason.PLACEHOLDER_USER: "user_id",
    Reason.PAST_TS: "ts",
    Reason.BAD_UPDATED_AT: "updated_at",
    Reason.BAD_AMOUNT: "amount",
    Reason.AMBIGUOUS_AMOUNT: "amount",
    Reason.BAD_REFUND_ID: "refund_id",
    Reason.BAD_TYPE: "type",
    Reason.WRONG_CURRENCY: "currency",
}
_REMEDIES: Final = {
    "records": f"send a list of 1 to {MAX_RECORDS:,} records",
    "contributions": "send true or false",
    "orders": "send a list of the customer's orders, at least one",
    "features": "send an object of numbers by their names",
    "feature_version": f'send "{FEATURE_VERSION}", the version that this model was trained on',
    "attributes": "send an object of values by their names",
}
_WRONG: Final = {
    "missing": "is missing",
    "list_type": "is not a list",
    "dict_type": "is not an object",
    "model_type": "is not an object",
    "bool_type": "is not true or false",
    "literal_error": f'is not "{FEATURE_VERSION}"',
}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    records: Raw | UnsetType = UNSET
    as_of: Raw | UnsetType = UNSET
    contributions: Raw | UnsetType = UNSET


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    orders: Raw | UnsetType = UNSET
    as_of: Raw | UnsetType = UNSET
    features: Raw | UnsetType = UNSET
    feature_version: Raw | UnsetType = UNSET
    attributes: Raw | UnsetType = UNSET


_Pieces = TypeVar("_Pieces", _Body, _Record)
_Model = TypeVar("_Model", bound=BaseModel)

_body = msgspec.json.Decoder(_Body)
_record = msgspec.json.Decoder(_Record)
_items = msgspec.json.Decoder(list[Raw])
_fields = msgspec.json.Decoder(dict[str, Raw])
_vector = attrgetter(*FEATURE_NAMES)
_undecodable = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def _float(text: str) -> float | str:
    """A number of JSON; as it is written where no float is so large."""
    value = float(text)
    return value if abs(value) != float("inf") else text


_value = msgspec.json.Decoder(float_hook=_float)


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


def field_of(rejected: Rejected) -> str | None:
    """The field of an order that a rejection is about; None where it is about all of it."""
    missing = rejected.reason is Reason.MISSING_FIELD
    return rejected.detail.split()[0] if missing else _FIELD_OF.get(rejected.reason)


class BodyRefused(Exception):
    """The request cannot be answered: correct what `faults` name, and send it again.

    `status` is 400 for what is not JSON, 422 for JSON that asks for nothing we know."""

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
    a model with attributes knows of users (None: the model has none); and the shop's days."""

    rules: OrderRules
    memory: IdMemory
    now_ms: int
    attributes: Attributes | None = None
    calendar: Calendar = UTC


def read(body: bytes, terms: Terms, between: Callable[[], None] = lambda: None) -> Asked:
    """What a body asks for, its records in their order; `between` is called often meanwhile.

    Raises BodyRefused with what is wrong with any of them.
    """
    return _Reader(terms, between).read(body)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the body something stands."""

    pointer: str = "#"
    record: int | None = None
    order: int | None = None


class _Full(Exception):
    """There are as many faults as anybody reads."""


@dataclass(slots=True)
class _Reader:
    """Reads one body; whatever is wrong becomes a fault, and None instead of a value."""

    terms: Terms
    between: Callable[[], None]
    faults: list[Fault] = field(default_factory=list)

    def read(self, body: bytes) -> Asked:
        rows: list[Row] = []
        full, contributions = False, True
        try:
            records, as_of_ms, contributions = self._envelope(body)
            for number, raw in enumerate(records):
                row = self._row(raw, _Place(f"#/records/{number}", number), as_of_ms)
                rows += [] if row is None else [row]
                self.between()
        except _Full:
            full = True
        if self.faults:
            raise BodyRefused(422, self.faults, complete=not full)
        return Asked(rows, contributions)

    def _envelope(self, body: bytes) -> tuple[Sequence[Raw], int | None, bool]:
        top = _Place()
        if body.count(b",") > _MAX_COMMAS:
            self._add(top, None, "the body has too many values; send fewer records at a time")
            return (), None, True
        try:
            given = _body.decode(body)
        except msgspec.ValidationError as error:
            self._unknown(top, error, "the body", "records", _Body)
            return (), None, True
        except _undecodable as error:
            detail = f"the body is not valid JSON in UTF-8 ({str(error)[:120]}); send an object"
            raise BodyRefused(400, [Fault(f"{detail} with records", "#")]) from None
        values = self._values(given, "records", top)
        if values is None:
            return (), None, True
        asked = self._checked(PredictRequest, values, top)
        if asked is not None:
            return values["records"], asked.as_of, asked.contributions
        # Whatever else is wrong, the faults of its records are told too.
        records = values.get("records")
        return (
            records if isinstance(records, list) and len(records) <= MAX_RECORDS else (),
            None,
            True,
        )

    def _row(self, raw: Raw, place: _Place, as_of_ms: int | None) -> Row | None:
        try:
            given = _record.decode(raw)
        except _undecodable as error:
            self._unknown(place, error, "the record", "orders, or features", _Record)
            return None
        if (given.orders is UNSET) == (given.features is UNSET):
            which = "neither orders nor" if given.orders is UNSET else "both orders and"
            self._add(place, None, f"the record has {which} features; send one of the two")
            return None
        found = len(self.faults)
        values = self._values(given, "orders", place)
        if values is None:
            return None
        ready = given.features is not UNSET
        asked = self._checked(FeaturesRecord if ready else OrdersRecord, values, place)
        orders = self._orders(values.get("orders"), place)
        user_id = orders[0].user_id if orders else None
        attributes = self._attributes(values.get("attributes"), user_id, place)
        if len(self.faults) > found:
            return None
        if isinstance(asked, FeaturesRecord):
            return FromFeatures(list(_vector(asked.features)), attributes)
        own_ms = asked.as_of if isinstance(asked, OrdersRecord) else None
        folded = self._folded(orders, place, as_of_ms if own_ms is None else own_ms)
        return None if folded is None else FromOrders(*folded, attributes)

    # --- pieces -----------------------------------------------------------------------------

    def _values(self, given: _Pieces, items: str, place: _Place) -> dict[str, Any] | None:
        """The fields that were sent: `items` as a list of pieces, others as values; None where one
        is too large to be what it should be."""
        values: dict[str, Any] = {}
        for name in given.__struct_fields__:
            raw = getattr(given, name)
            if raw is UNSET:
                continue
            if name != items and len(memoryview(raw)) > _MAX_VALUE_BYTES:
                self._add(place, name, f"{name} has over {_MAX_VALUE_BYTES:,} bytes; send less")
                return None
            try:
                values[name] = (_items if name == items else _value).decode(raw)
            except _undecodable:
                values[name] = raw  # of no type that a field has
            self.between()
        return values

    def _checked(self, kind: type[_Model], values: Mapping[str, Any], at: _Place) -> _Model | None:
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                name = str(one["loc"][-1])
                place = at
                if len(one["loc"]) > 1:
                    place = _Place(f"{at.pointer}/{one['loc'][0]}", at.record)
                missing = one["type"] in ("missing", "extra_forbidden", "too_long", "too_short")
                value = "" if missing else _shown(one["input"])
                self._add(place, name, _detail(kind, name, one), value or None)
            return None

    def _unknown(
        self, place: _Place, error: Exception, what: str, wanted: str, pieces: type[msgspec.Struct]
    ) -> None:
        """Tells of a field that there is not, or of what is not an object."""
        name = str(error).partition("unknown field `")[2].rpartition("`")[0]
        if name:
            known = ", ".join(pieces.__struct_fields__)
            self._add(place, name, f"no such field; there are {known}")
        else:
            self._add(place, None, f"{what} is not a JSON object; send one with {wanted}")

    def _add(self, place: _Place, name: str | None, detail: str, value: str | None = None) -> None:
        at = place.pointer if name is None else f"{place.pointer}/{_escaped(name)}"
        self.faults.append(Fault(detail, at, place.record, place.order, name, value))
        if len(self.faults) >= MAX_FAULTS:
            raise _Full

    # --- orders -----------------------------------------------------------------------------

    def _orders(self, given: object, place: _Place) -> list[Order]:
        orders: list[Order] = []
        rules, now_ms = self.terms.rules, self.terms.now_ms
        for number, raw in enumerate(given if isinstance(given, list) else ()):
            if len(memoryview(raw)) > _MAX_VALUE_BYTES:
                at = _Place(f"{place.pointer}/orders/{number}", place.record, number)
                self._add(at, None, f"the order has over {_MAX_VALUE_BYTES:,} bytes; send less")
                continue
            if isinstance(outcome := parse(bytes(raw), None, now_ms, rules), Rejected):
                self._rejected(outcome, raw, place, number)
                continue
            orders.append(outcome)
            if outcome.user_id != orders[0].user_id:
                detail = "user_id is not that of the record's first order; send one record a"
                at = _Place(f"{place.pointer}/orders/{number}", place.record, number)
                self._add(at, "user_id", f"{detail} customer", _shown(outcome.user_id))
            if not number % 64:
                self.between()
        # As though each had come in its time: facts do not depend on the order, memory does.
        orders.sort(key=attrgetter("ts_ms"))
        return orders

    def _rejected(self, rejected: Rejected, raw: Raw, place: _Place, number: int) -> None:
        name = field_of(rejected)
        value = None
        if name is not None and rejected.reason is not Reason.MISSING_FIELD:
            with suppress(UnicodeDecodeError):  # in a name that is none of ours
                value = _shown(_fields.decode(raw).get(name, "null"))
        at = _Place(f"{place.pointer}/orders/{number}", place.record, number)
        self._add(at, name, rejected.detail, value)

    def _folded(
        self, orders: Sequence[Order], place: _Place, as_of_ms: int | None
    ) -> tuple[CustomerState, int] | None:
        facts = EMPTY
        for number, order in enumerate(orders):
            # Sorted, and fewer than are remembered of any instant: none comes too late.
            facts = apply(facts, order, self.terms.memory, self.terms.calendar).state
            if not number % 64:
                self.between()
        newest_ms = orders[-1].ts_ms
        if as_of_ms is None:
            # Clocks differ: as the stream does, never score before what is known.
            return facts, max(self.terms.now_ms, newest_ms)
        if newest_ms > as_of_ms:
            newest = rfc3339(newest_ms, milliseconds=True)
            detail = f"as_of is before the newest order, {newest}; leave that out or choose a later"
            self._add(place, "as_of", f"{detail} one", rfc3339(as_of_ms, milliseconds=True))
            return None
        return facts, as_of_ms

    # --- attributes -------------------------------------------------------------------------

    def _attributes(self, given: object, user_id: str | None, place: _Place) -> tuple[float, ...]:
        """The values of the attributes that the model knows: what the record says, else what the
        worker knows of the user, else NaN."""
        known = self.terms.attributes
        values = [] if known is None else known.row(user_id)
        columns = () if known is None else known.columns
        names = [column.name for column in columns]
        at = _Place(f"{place.pointer}/attributes", place.record)
        for name, value in given.items() if isinstance(given, dict) else ():
            if name not in names:
                there = f"there are {', '.join(names)}" if names else "leave attributes out"
                detail = f"the model knows no such attribute; {there}"
                self._add(at, name, detail, _shown(value))
                continue
            number = names.index(name)
            try:
                values[number] = columns[number].code_of(value)
            except ValueError as error:
                self._add(at, name, str(error), _shown(value))
        return tuple(values)


def _detail(kind: type[BaseModel], name: str, error: Mapping[str, Any]) -> str:
    """What is wrong with a field, and what to send."""
    what = error["type"]
    if what == "value_error":
        return str(error["ctx"]["error"])
    if what == "extra_forbidden":
        if name == "as_of":
            return "as_of goes with orders; features are as of an instant already"
        if name == "feature_version":
            return "feature_version goes with features, not with orders"
        return "no such feature; docs/api.md says where the names are"
    if what in ("too_short", "too_long"):
        return f"{name} has {error['ctx']['actual_length']:,} elements; {_REMEDIES[name]}"
    if name in _REMEDIES:
        return f"{name} {_WRONG[what]}; {_REMEDIES[name]}"
    number = f"a number from {'-1e15' if least_of(name) else '0'} to 1e15"
    if what == "missing":
        return f"{name} is missing; send {number} for it, as for all {len(FEATURE_NAMES)} features"
    return f"{name} cannot be that; send {number}"


def _escaped(name: str) -> str:
    """A name as a part of a JSON Pointer."""
    return re.sub("[~/]", lambda found: "~0" if found[0] == "~" else "~1", name[:_SHOWN_CHARS])


def _shown(value: object) -> str:
    if isinstance(value, Raw):
        piece = bytes(memoryview(value)[: 4 * _SHOWN_CHARS]).decode(errors="replace")
        value = piece[1:-1] if piece[:1] == '"' == piece[-1:] else piece
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:  # nested just less deep than could be decoded
        text = "nested too deep"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
