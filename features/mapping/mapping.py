"""Records of any shape as order events: what a mapping says, applied to one record after another.

A mapping is a TOML file whose values are JMESPath expressions; docs/your-orders.md has its keys,
and `features/mapping/toml` those of known exports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeAlias

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
from features.mapping.paths import PathError, is_true
from features.mapping.unwrap import Nothing, unwrapped
from features.times import InstantError, NaiveInstant

__all__ = ["Canonical", "MappingError", "OrderMapping", "Skipped", "Unfit"]

Canonical: TypeAlias = dict[str, Any]
"""An order event as the contract has it, with `ts` and `updated_at` as epoch milliseconds; all else
are texts, `amount` the digits of a JSON number in major units, 0 or more."""
Users: TypeAlias = Callable[[str], str | None]

_SHOWN: Final = 80
# What needs no arithmetic on its way.
_DIGITS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
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
        self._readings = {one.name: _Reading(one) for one in documents}

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
            try:
                for get, _ in document.needs:
                    if get(record) is None:
                        break
                else:
                    return document
            except PathError:
                continue
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
        except Nothing as nothing:
            return Skipped(str(nothing))
        document = self.document_of(inner)
        if document is None:
            return self._of_no_shape(inner)
        try:
            for skip in document.skips:
                if is_true(skip.when(inner)):
                    return Skipped(skip.reason)
            return self._readings[document.name].events(inner, users)
        except PathError as error:
            return Unfit(Reason.MISSING_FIELD, f"mapping {document.name}, {error}")
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


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


@dataclass(frozen=True, slots=True)
class _Reading:
    """Records read by one document."""

    document: Document

    def events(
        self, record: Mapping[str, Any], users: Users | None
    ) -> list[Canonical] | Skipped | Unfit:
        found: list[Canonical] = []
        why: Skipped | None = None
        applied = False
        for template in self.document.templates:
            if template.when is not None and not is_true(template.when(record)):
                continue
            applied = True
            for context in self._contexts(template, record):
                event = self._event(template, context, users)
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
        listed = template.each(record)
        if not listed:
            return ()
        if not isinstance(listed, list):
            self._broken(
                Reason.MISSING_FIELD, Place(template.line, "each"), f"is no list; {_NOT_SO}"
            )
        return [{**one, "record": record} for one in listed if isinstance(one, dict)]

    def _event(self, template: Template, context: Any, users: Users | None) -> Canonical | Skipped:
        kind = self._kind(template.kind, context)
        if isinstance(kind, Skipped):
            return kind
        currency = self._currency(template, context)
        amount = "0"
        if template.amount is not None:
            found = self._amount(template.amount, context, currency, kind)
            if isinstance(found, Skipped):
                return found
            amount, kind = found
        order_id = self._id(template.order_id, context, "order_id", Reason.BAD_ORDER_ID)
        user_id = self._user(template, context, order_id, users)
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
        if template.updated_at is not None and not _is_blank(template.updated_at.get(context)):
            event["updated_at"] = self._time(template.updated_at, context, "updated_at")
        return event

    def _kind(self, kind: TypeOf, context: Any) -> OrderType | Skipped:
        if kind.get is None:
            return kind.constant
        value = kind.get(context)
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

    def _user(
        self, template: Template, context: Any, order_id: str, users: Users | None
    ) -> str | Skipped:
        if _is_blank(template.user_id.get(context)):
            if template.user_of_order:
                known = users(order_id) if users is not None else None
                return known or OF_UNKNOWN_ORDER
            self._broken(
                Reason.PLACEHOLDER_USER, template.user_id.place, "names no customer: a guest"
            )
        return self._id(template.user_id, context, "user_id", Reason.BAD_USER_ID)

    def _id(self, text: Text, context: Any, field: str, reason: Reason) -> str:
        value = text.get(context)
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
        value = template.currency.get(context)
        if _is_blank(value):
            return ""
        if not isinstance(value, str):
            self._broken(Reason.WRONG_CURRENCY, template.currency.place, f"{_shown(value)} is none")
        return value.strip().upper()

    def _amount(
        self, money: Money, context: Any, currency: str, kind: OrderType
    ) -> tuple[str, OrderType] | Skipped:
        """Digits of the amount, and what the event is by its sign."""
        value = money.get(context)
        as_it_is = money.is_plain and kind is not OrderType.REFUND
        if as_it_is and isinstance(value, str) and _DIGITS.fullmatch(value):
            return value, kind  # as nearly all of them are
        number = self._number_of(money, value, context, currency)
        if number < 0 and kind is OrderType.ORDER:
            if money.negative == "skip":
                return Skipped("an amount below 0")
            if money.negative == "error":
                self._broken(
                    Reason.BAD_AMOUNT,
                    money.place,
                    f'{number} is negative; say negative = "refund" or "skip"',
                )
            kind = OrderType.REFUND
        if not number and kind is OrderType.REFUND:
            return Skipped("a refund of nothing")
        return plain(abs(number), computed=bool(money.times or money.minus)), kind

    def _number_of(self, money: Money, value: Any, context: Any, currency: str) -> Decimal:
        listed = value if isinstance(value, list) else [value]
        try:
            number = total([self._number(money, one) for one in listed])
            for get in money.times:
                number = product([number, self._number(money, get(context))])
            for get in money.minus:
                less = get(context)
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

    def _time(self, at: Time, context: Any, field: str) -> int:
        value = at.get(context)
        reason = Reason.BAD_TS if field == "ts" else Reason.BAD_UPDATED_AT
        if _is_blank(value):
            self._broken(reason, at.place, f"is missing, so there is no {field}")
        try:
            return at.format.ms(value)
        except NaiveInstant:
            self._broken(
                Reason.NAIVE_TS if field == "ts" else reason,
                at.place,
                f"{_shown(value)} has no zone; say --timezone Europe/Berlin, or zone = there",
            )
        except InstantError as error:
            self._broken(reason, at.place, f"{_shown(value)} {error}")

    def _broken(self, reason: Reason, place: Place, says: str) -> NoReturn:
        where = f"mapping {self.document.name}, line {place.line}"
        raise _Broken(reason, f"{where}: {place.path} {says}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
