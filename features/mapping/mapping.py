"""Records of any shape as order events: what a mapping says, applied to one record after another.

A mapping is a TOML file whose values are JMESPath expressions; docs/your-orders.md has its keys,
and `features/mapping/toml` those of known exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from features.events.money import AmountError
from features.events.orders import OrderType, Reason
from features.mapping.document import (
    Document,
    MappingError,
    Money,
    Place,
    Template,
    Text,
    Time,
    TypeOf,
    read,
)
from features.mapping.numbers import major, number_of, plain, product, total
from features.mapping.paths import Get, PathError, is_true
from features.mapping.unwrap import Nothing, unwrapped
from features.times import InstantError, NaiveInstant, rfc3339

__all__ = ["Canonical", "MappingError", "OrderMapping", "Skipped", "Unfit", "wire"]

Canonical: TypeAlias = dict[str, str]
"""An order event as the contract has it, all values texts: `ts` and `updated_at` RFC 3339 in UTC,
`amount` the digits of a JSON number in major units, 0 or more."""
Users: TypeAlias = Callable[[str], str | None]

_SHOWN: Final = 80
_NOT_SO: Final = "the mapping says otherwise than the records are"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is no order, as the mapping has it: counted, and nothing else."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A record that the mapping does not fit: the code for dead letters, and for a person the line
    of the mapping, the path, the value and the remedy."""

    reason: Reason
    detail: str


OF_UNKNOWN_ORDER: Final = Skipped("a refund that names no customer, of an unknown order")


class _Broken(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.unfit = Unfit(reason, detail)


class OrderMapping:
    """How records become order events; several documents are several shapes of record, told apart
    by what each one needs."""

    def __init__(self, documents: Sequence[Document], name: str) -> None:
        self.documents, self.name = tuple(documents), name

    @classmethod
    def from_toml(
        cls, text: str, *, name: str = "mapping.toml", timezone: str | None = None
    ) -> OrderMapping:
        """The mapping of a TOML text; `timezone`, an IANA name, is that of times without an offset
        for which the text says none. Raises MappingError, which names the line."""
        return cls([read(text, name, timezone)], name)

    @property
    def rows(self) -> str | None:
        """What several rows of one order id are in a file: `orders`, `line-items` or `corrections`;
        None where no mapping says so."""
        return next((one.rows for one in self.documents if one.rows), None)

    @property
    def zones(self) -> frozenset[str]:
        """The zones of times without an offset, as the mapping says or was told."""
        fields = [
            field
            for document in self.documents
            for template in document.templates
            for field in (template.ts, template.updated_at)
        ]
        zones = [field.format.zone for field in fields if field is not None]
        return frozenset(str(zone) for zone in zones if zone is not None)

    def document_of(self, record: Mapping[str, Any]) -> Document | None:
        """The first shape that a record is of; None if it is of none."""
        for document in self.documents:
            if all(_found(get, record) is not None for get, _ in document.needs):
                return document
        return None

    def orders(
        self, record: object, users: Users | None = None
    ) -> list[Canonical] | Skipped | Unfit:
        """The order events of a record, at least one, or why there are none. Never raises.

        `users` finds the customer of an order id for refunds that name none; without it, or where
        it finds nobody, such a refund is skipped.
        """
        if not isinstance(record, Mapping):
            kind = type(record).__name__
            return Unfit(Reason.NOT_AN_OBJECT, f"the record is a {kind}, not an object")
        try:
            inner = unwrapped(record)
            document = self.document_of(inner)
            if document is None:
                return self._of_no_shape(inner)
            for skip in document.skips:
                if is_true(_value(skip.when, inner, skip.place, document)):
                    return Skipped(skip.reason)
            return _Reading(document, users).events(inner)
        except Nothing as nothing:
            return Skipped(str(nothing))
        except _Broken as broken:
            return broken.unfit

    def order_ids(self, record: Mapping[str, Any]) -> frozenset[str]:
        """The order ids that a record names, whether its customer is known or not."""
        asked: list[str] = []
        self.orders(record, asked.append)
        return frozenset(asked)

    def _of_no_shape(self, record: Mapping[str, Any]) -> Unfit:
        there = ", ".join(repr(name)[:40] for name in list(record)[:12]) or "nothing"
        needs = "; ".join(
            f"{one.name} needs {', '.join(path for _, path in one.needs)}" for one in self.documents
        )
        detail = f"mapping {self.name} does not know such a record: {needs}; there is {there}"
        return Unfit(Reason.MISSING_FIELD, detail)


def wire(order: Canonical) -> bytes:
    """The event as JSON for the orders topic.

    >>> wire({"order_id": "7", "user_id": "kim", "ts": "2026-03-01T00:00:00Z", "amount": "12.50"})
    b'{"order_id":"7","user_id":"kim","ts":"2026-03-01T00:00:00Z","amount":12.50}'
    """
    amount = msgspec.Raw(order["amount"].encode())
    return msgspec.json.encode({**order, "amount": amount})


def _found(get: Get, record: Any) -> Any:
    try:
        return get(record)
    except PathError:
        return None


def _value(get: Get, record: Any, place: Place, document: Document) -> Any:
    try:
        return get(record)
    except PathError as error:
        raise _Broken(
            Reason.MISSING_FIELD,
            f"mapping {document.name}, line {place.line}: {place.path}: {error}",
        ) from None


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One record read by one document."""

    document: Document
    users: Users | None

    def events(self, record: Mapping[str, Any]) -> list[Canonical] | Skipped | Unfit:
        found: list[Canonical] = []
        why: Skipped | None = None
        applied = False
        for template in self.document.templates:
            if template.when is not None and not is_true(
                self._get(template.when, record, Place(template.line, "when"))
            ):
                continue
            applied = True
            for context in self._contexts(template, record):
                event = self._event(template, context)
                if isinstance(event, Skipped):
                    why = event
                else:
                    found.append(event)
        if found:
            return found
        if not applied:
            return Skipped("of none of the mapping's events")
        return why or Skipped("nothing in its list")

    def _contexts(self, template: Template, record: Mapping[str, Any]) -> Sequence[Any]:
        """What the event's paths are looked up in: the record, or each thing of a list in it with
        the record beside it."""
        if template.each is None:
            return (record,)
        listed = self._get(template.each, record, Place(template.line, "each"))
        if listed is None:
            return ()
        if not isinstance(listed, list):
            self._broken(
                Reason.MISSING_FIELD, Place(template.line, "each"), f"is no list; {_NOT_SO}"
            )
        return [{**one, "record": record} for one in listed if isinstance(one, dict)]

    def _event(self, template: Template, context: Any) -> Canonical | Skipped:
        kind = self._kind(template.kind, context)
        if isinstance(kind, Skipped):
            return kind
        currency = self._currency(template, context)
        amount = "0"
        if template.amount is not None:
            number = self._amount(template.amount, context, currency)
            if number < 0 and kind is OrderType.ORDER:
                if template.amount.negative == "skip":
                    return Skipped("an amount below 0")
                if template.amount.negative == "error":
                    self._broken(
                        Reason.BAD_AMOUNT,
                        template.amount.place,
                        f'{number} is negative; say negative = "refund" or "skip"',
                    )
                kind = OrderType.REFUND
            if not number and kind is OrderType.REFUND:
                return Skipped("a refund of nothing")
            computed = bool(template.amount.times or template.amount.minus)
            amount = plain(abs(number), computed=computed)
        order_id = self._id(template.order_id, context, "order_id", Reason.BAD_ORDER_ID)
        user_id = self._user(template, context, order_id)
        if isinstance(user_id, Skipped):
            return user_id
        event = {
            "order_id": order_id,
            "user_id": user_id,
            "ts": self._time(template.ts, context, "ts"),
            "amount": amount,
            "type": kind.wire,
        }
        if currency:
            event["currency"] = currency
        if kind is OrderType.REFUND and template.refund_id is not None:
            event["refund_id"] = self._id(
                template.refund_id, context, "refund_id", Reason.BAD_REFUND_ID
            )
        if template.updated_at is not None and not _is_blank(
            self._get(template.updated_at.get, context, template.updated_at.place)
        ):
            event["updated_at"] = self._time(template.updated_at, context, "updated_at")
        return event

    def _kind(self, kind: TypeOf, context: Any) -> OrderType | Skipped:
        if kind.get is None:
            return kind.constant
        value = self._get(kind.get, context, kind.place)
        said = "" if value is None else str(value).strip().casefold()
        if said in kind.values:
            return kind.values[said]
        if said in kind.skipped or kind.otherwise == "skip":
            return Skipped(f"type {said[:40]!r}")
        if not kind.otherwise:
            self._broken(
                Reason.BAD_TYPE,
                kind.place,
                f"{_shown(value)} is none of the values that type names; add it to order, refund,"
                " cancellation or skip",
            )
        return OrderType[kind.otherwise.upper()]

    def _user(self, template: Template, context: Any, order_id: str) -> str | Skipped:
        value = self._get(template.user_id.get, context, template.user_id.place)
        if _is_blank(value):
            if template.user_of_order:
                known = self.users(order_id) if self.users is not None else None
                return known or OF_UNKNOWN_ORDER
            self._broken(
                Reason.PLACEHOLDER_USER, template.user_id.place, "names no customer: a guest"
            )
        return self._id(template.user_id, context, "user_id", Reason.BAD_USER_ID)

    def _id(self, text: Text, context: Any, field: str, reason: Reason) -> str:
        value = self._get(text.get, context, text.place)
        if _is_blank(value):
            self._broken(Reason.MISSING_FIELD, text.place, f"is missing, so there is no {field}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            # Without the value: an id is a person's.
            self._broken(reason, text.place, f"is a {type(value).__name__}, no {field}; {_NOT_SO}")
        said = str(value)
        return said.removesuffix(text.drop_suffix) if text.drop_suffix else said

    def _currency(self, template: Template, context: Any) -> str:
        if template.currency is None:
            return ""
        value = self._get(template.currency.get, context, template.currency.place)
        if _is_blank(value):
            return ""
        if not isinstance(value, str):
            self._broken(Reason.WRONG_CURRENCY, template.currency.place, f"{_shown(value)} is none")
        return value.strip().upper()

    def _amount(self, money: Money, context: Any, currency: str) -> Decimal:
        value = self._get(money.get, context, money.place)
        listed = value if isinstance(value, list) else [value]
        try:
            number = total([self._number(money, one) for one in listed])
            for get in money.times:
                number = product(
                    [number, self._number(money, self._get(get, context, money.place))]
                )
            for get in money.minus:
                less = self._get(get, context, money.place)
                number -= 0 if _is_blank(less) else self._number(money, less)
        except AmountError as error:
            self._broken(Reason.BAD_AMOUNT, money.place, f"{_shown(value)} {error}")
        if money.minor and not currency:
            self._broken(
                Reason.WRONG_CURRENCY,
                money.place,
                "is in minor units, and their size depends on the currency; give currency",
            )
        return major(number, currency, money.decimals) if money.minor else number

    def _number(self, money: Money, value: Any) -> Decimal:
        if _is_blank(value):
            self._broken(Reason.BAD_AMOUNT, money.place, "is missing, so there is no amount")
        return number_of(value, money.decimal)

    def _time(self, at: Time, context: Any, field: str) -> str:
        value = self._get(at.get, context, at.place)
        reason = Reason.BAD_TS if field == "ts" else Reason.BAD_UPDATED_AT
        if _is_blank(value):
            self._broken(reason, at.place, f"is missing, so there is no {field}")
        try:
            return rfc3339(at.format.ms(value))
        except NaiveInstant:
            self._broken(
                Reason.NAIVE_TS if field == "ts" else reason,
                at.place,
                f"{_shown(value)} has no zone; say --timezone Europe/Berlin, or zone = there",
            )
        except InstantError as error:
            self._broken(reason, at.place, f"{_shown(value)} {error}")

    def _get(self, get: Get, context: Any, place: Place) -> Any:
        return _value(get, context, place, self.document)

    def _broken(self, reason: Reason, place: Place, says: str) -> NoReturn:
        where = f"mapping {self.document.name}, line {place.line}"
        raise _Broken(reason, f"{where}: {place.path} {says}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
