"""Rows of a file taken many at once: what is plainly an order in columns, the rest row by row.

Which rows are plain is `features.events.plain`'s to say, and what is not goes the way of a single
row (`from_fields`), so that what counts, and what is told of the rest, is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.arrays import Bools, Ints
from features.events.ids import is_placeholder, is_unicode
from features.events.orders import MAX_ID_CHARS, FreeOrders, Order, OrderRules, OrderType
from features.events.plain import amounts_minor, instants_ms
from features.times import Calendar

_TYPES: Final = tuple(OrderType)
_KINDS: Final = {kind.wire: kind for kind in reversed(OrderType)} | {"": OrderType.ORDER}
_OPTIONAL: Final = frozenset(("type", "currency", "refund_id", "updated_at"))
# Customers whose ids were looked at, a hundred bytes each.
_MOST_KNOWN: Final = 100_000

Column: TypeAlias = Sequence[Any]
ByRow: TypeAlias = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class PlainOrders:
    """Orders in columns, none of which has a refund id or an `updated_at`, or was rounded."""

    order_ids: Sequence[str]
    user_ids: Sequence[str]
    ts_ms: Ints
    amount_minor: Ints
    type: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.order_ids)

    def __iter__(self) -> Iterator[Order]:
        types = [_TYPES[kind] for kind in self.type.tolist()]
        columns = (self.ts_ms.tolist(), self.amount_minor.tolist(), types)
        return starmap(Order, zip(self.order_ids, self.user_ids, *columns, strict=True))

    def part(self, start: int, end: int) -> PlainOrders:
        """Those from one place to before another."""
        rows = slice(start, end)
        return PlainOrders(
            self.order_ids[rows],
            self.user_ids[rows],
            self.ts_ms[rows],
            self.amount_minor[rows],
            self.type[rows],
        )


class PlainReader:
    """Tells which rows are plainly orders, under some rules (`model.files.order_log.FileRules`)."""

    def __init__(self, rules: OrderRules, now_ms: int | None, zone: Calendar | None) -> None:
        self._rules, self._zone = rules, zone
        self._latest_ms = now_ms + rules.max_future_ms if now_ms and now_ms > 0 else None
        self._customers: dict[str, str] = {}

    def read(self, columns: Mapping[str, Column], count: int, by_row: ByRow) -> Iterator[Any]:
        """The orders of rows, in their order: those that are plain in columns, and of every other
        what `by_row` makes of its place. `columns`: the values of each of our fields that there is.
        """
        found, plain = self._found(columns, count)
        if plain.all():
            yield found
            return
        start = 0
        for at in np.flatnonzero(~plain).tolist():
            if at > start:
                yield found.part(start, at)
            yield by_row(at)
            start = at + 1
        if start < count:
            yield found.part(start, count)

    def _found(self, columns: Mapping[str, Column], count: int) -> tuple[PlainOrders, Bools]:
        """The rows as if all were plain orders, and which are."""
        plain = np.ones(count, bool)
        texts = {}
        for name, column in columns.items():
            texts[name], known = _texts(column, absent=name in _OPTIONAL)
            plain &= known
        for name in ("refund_id", "updated_at"):
            if any(texts.get(name, ())):
                plain &= ~np.array(list(map(bool, texts[name])), bool)
        ids, users = texts["order_id"], list(map(self._customer, texts["user_id"]))
        plain &= _are_ids(ids) & np.array(list(map(bool, users)), bool)
        ts = instants_ms(texts["ts"], self._zone)
        amount = amounts_minor(texts["amount"], self._rules.currency)
        plain &= ts.plain & amount.plain & (ts.values >= self._rules.earliest_ms)
        if self._latest_ms is not None:
            plain &= ts.values <= self._latest_ms
        if set(currencies := texts.get("currency", ())) - {"", self._rules.currency}:
            own = ("", self._rules.currency)
            plain &= np.array([currency in own for currency in currencies], bool)
        kind = np.zeros(count, np.int8)
        if any(kinds := texts.get("type", ())):
            kind = np.array([_KINDS.get(name, -1) for name in kinds], np.int8)
            plain &= kind >= 0
        order = kind == OrderType.ORDER
        kind[order & (amount.values < 0)] = OrderType.REFUND
        if self._rules.free_orders is FreeOrders.IGNORE:
            kind[order & (amount.values == 0)] = OrderType.FREE
        return PlainOrders(ids, users, ts.values, np.abs(amount.values), kind), plain

    def _customer(self, user_id: str) -> str:
        """The id under which a customer counts; empty where it is no plain one."""
        known = self._customers
        if user_id in known:
            return known[user_id]
        if len(known) >= _MOST_KNOWN:
            known.clear()
        found = ""
        if 1 <= len(user_id) <= MAX_ID_CHARS and is_unicode(user_id):
            found = self._rules.customer(user_id)
            if is_placeholder(found, self._rules.placeholders):
                found = ""
        known[user_id] = found
        return found


def _texts(column: Column, *, absent: bool) -> tuple[Sequence[str], Bools]:
    """A column as texts, and which of its values may be plain: texts, and nothing at all where it
    may be `absent`."""
    if set(map(type, column)) == {str}:
        return column, np.ones(len(column), bool)
    known = [isinstance(value, str) or (absent and value is None) for value in column]
    return [v if isinstance(v, str) else "" for v in column], np.array(known, bool)


def _are_ids(texts: Sequence[str]) -> Bools:
    """Which texts can be ids of orders."""
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    found: Bools = (length >= 1) & (length <= MAX_ID_CHARS)
    return found if "".join(texts).isascii() else found & np.array(list(map(is_unicode, texts)))
