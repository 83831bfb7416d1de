"""A whole order log in memory, in columns: a tenth of what a list of orders takes.

What trains or is judged on a log reads it in event time, several times over, so it has to be kept;
ten million orders are half a gigabyte.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.orders import Order, OrderType

_CHUNK: Final = 8_192
_TYPES: Final = tuple(OrderType(value) for value in range(len(OrderType)))


class OrderColumns(Sequence[Order]):
    """Orders in event time; those of one instant stay as they came. A slice shares its columns."""

    __slots__ = (
        "_amount",
        "_id_bytes",
        "_id_ends",
        "_id_starts",
        "_last",
        "_marks",
        "_row",
        "_ts",
        "_type",
        "_user",
        "_users",
    )

    def __init__(self, orders: Iterable[Order]) -> None:
        ts, amount, kind, user = array("q"), array("q"), array("b"), array("i")
        ids, id_ends = bytearray(), array("q")
        numbers: dict[str, int] = {}
        # What few shops send, of the rows that have it, by their place in what was read.
        marks: dict[int, tuple[str, int]] = {}
        for order in orders:
            if order.refund_id or order.updated_ms >= 0:
                marks[len(ts)] = (order.refund_id, order.updated_ms)
            ts.append(order.ts_ms)
            amount.append(order.amount_minor)
            kind.append(order.type)
            user.append(numbers.setdefault(order.user_id, len(numbers)))
            ids += order.order_id.encode()
            id_ends.append(len(ids))
        in_time = np.argsort(np.frombuffer(ts, np.int64), kind="stable")
        ends = np.frombuffer(id_ends, np.int64)
        starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]])
        self._id_bytes = bytes(ids)
        self._users = list(numbers)
        self._ts: NDArray[Any] = np.frombuffer(ts, np.int64)[in_time]
        self._amount: NDArray[Any] = np.frombuffer(amount, np.int64)[in_time]
        self._type: NDArray[Any] = np.frombuffer(kind, np.int8)[in_time]
        self._user: NDArray[Any] = np.frombuffer(user, np.int32)[in_time]
        self._id_starts: NDArray[Any] = starts[in_time]
        self._id_ends: NDArray[Any] = ends[in_time]
        self._marks = marks
        self._row: NDArray[Any] = in_time if marks else in_time[:0]
        self._last: tuple[int, list[Order]] = (-1, [])

    def __len__(self) -> int:
        return len(self._ts)

    @overload
    def __getitem__(self, at: int) -> Order: ...
    @overload
    def __getitem__(self, at: slice) -> OrderColumns: ...
    def __getitem__(self, at: int | slice) -> Order | OrderColumns:
        if isinstance(at, slice):
            return self._part(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"order {at} of {len(self)}")
        chunk, place = divmod(at % len(self), _CHUNK)
        number, orders = self._last
        if number != chunk:
            orders = self._orders(chunk)
            self._last = (chunk, orders)  # who reads one by one reads the next one next
        return orders[place]

    def __iter__(self) -> Iterator[Order]:
        for chunk in range(-(-len(self) // _CHUNK)):
            yield from self._orders(chunk)

    def _orders(self, chunk: int) -> list[Order]:
        rows = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        ids, users = self._id_bytes, self._users
        columns = (self._ts, self._amount, self._type, self._user, self._id_starts, self._id_ends)
        orders = [
            Order(ids[start:end].decode(), users[user], ts, amount, _TYPES[kind])
            for ts, amount, kind, user, start, end in zip(
                *(column[rows].tolist() for column in columns), strict=True
            )
        ]
        for place, row in enumerate(self._row[rows].tolist()):
            if row in self._marks:
                refund_id, updated_ms = self._marks[row]
                orders[place] = msgspec.structs.replace(
                    orders[place], refund_id=refund_id, updated_ms=updated_ms
                )
        return orders

    def _part(self, rows: slice) -> OrderColumns:
        part = object.__new__(OrderColumns)
        part._id_bytes, part._users = self._id_bytes, self._users
        part._ts, part._amount, part._type = self._ts[rows], self._amount[rows], self._type[rows]
        part._user = self._user[rows]
        part._id_starts, part._id_ends = self._id_starts[rows], self._id_ends[rows]
        part._marks, part._row = self._marks, self._row[rows]
        part._last = (-1, [])
        return part
