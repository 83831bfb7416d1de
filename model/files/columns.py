"""A whole order log in memory, in columns: a tenth of what a list of orders takes.

What trains or is judged on a log reads it in event time, several times over, so it has to be kept;
ten million orders are three quarters of a gigabyte.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, Final, TypeAlias, overload
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from features.events.orders import Order, OrderType
from model.files.pages import PlainOrders

_CHUNK: Final = 8_192
_TYPES: Final = tuple(OrderType(value) for value in range(len(OrderType)))
_NOTHING_MORE: Final = ("", -1, False)

Mask: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]


class _Numbers(dict[str, int]):
    """Numbers of names, given out as they are asked for; the names are written down."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self._names)
        self._names.append(name)
        return number


class OrderRows:
    """Orders as they were read, in columns, in the order of their rows.

    `key` stands for a row's customer and order id: 64 bits, so that two of a log with ten million
    orders meet with a chance of 1 in 10^5. `users`: the customers' ids, by their number.
    """

    def __init__(self, orders: Iterable[Order] = ()) -> None:
        self._ts, self._amount, self._type = array("q"), array("q"), array("b")
        self._user, self._key, self._more = array("i"), array("q"), array("i")
        self._ids, self._id_ends = bytearray(), array("q")
        self.users: list[str] = []
        self._users = _Numbers(self.users)
        # Refund id, updated_ms and rounded, of the few rows that have such.
        self._extras: list[tuple[str, int, bool]] = []
        for order in orders:
            self.add(order)

    def add(self, order: Order) -> None:
        """Takes one more row."""
        self._ts.append(order.ts_ms)
        self._amount.append(order.amount_minor)
        self._type.append(order.type)
        self._user.append(self._users[order.user_id])
        self._key.append(hash((order.user_id, order.order_id)))
        self._ids += order.order_id.encode()
        self._id_ends.append(len(self._ids))
        more = (order.refund_id, order.updated_ms, order.rounded)
        self._more.append(-1 if more == _NOTHING_MORE else len(self._extras))
        if more != _NOTHING_MORE:
            self._extras.append(more)

    def extend(self, orders: PlainOrders) -> None:
        """Takes the rows that orders are of."""
        self._ts.frombytes(orders.ts_ms.tobytes())
        self._amount.frombytes(orders.amount_minor.tobytes())
        self._type.frombytes(orders.type.tobytes())
        ids, users = orders.order_ids, orders.user_ids
        self._user.extend(map(self._users.__getitem__, users))
        self._key.extend(map(hash, zip(users, ids, strict=True)))
        text = "".join(ids)
        sizes = map(len, ids if text.isascii() else map(str.encode, ids))
        self._id_ends.extend(islice(accumulate(sizes, initial=len(self._ids)), 1, None))
        self._ids += text.encode()
        self._more.frombytes(np.full(len(ids), -1, np.int32).tobytes())

    def __len__(self) -> int:
        return len(self._ts)

    def column(self, name: str) -> Ints:
        """`ts`, `amount`, `type`, `user` (its number) or `key` of every row."""
        kind: Any = {"ts": np.int64, "amount": np.int64, "type": np.int8, "user": np.int32}
        values = np.frombuffer(getattr(self, f"_{name}"), kind.get(name, np.int64))
        return values.astype(np.int64, copy=False)

    def updated(self) -> Ints:
        """`updated_ms` of every row, -1 where the shop does not say it."""
        return self._extra(1, -1)

    def rounded(self) -> Mask:
        """Which amounts had more decimals than their currency."""
        return self._extra(2, 0).astype(bool)

    def refunds(self) -> Ints:
        """What stands for the `refund_id` of every row; 0 where it has none."""
        return self._extra(0, 0)

    def _extra(self, at: int, absent: int) -> Ints:
        found = np.full(len(self), absent, np.int64)
        which = np.frombuffer(self._more, np.int32)
        has = which >= 0
        values = [hash(extra[at]) if at == 0 and extra[at] else extra[at] for extra in self._extras]
        numbers = np.array([value or 0 for value in values], np.int64)
        found[has] = numbers[which[has]] if len(numbers) else absent
        return found

    def id_hashes(self) -> Ints:
        """What stands for the order id of every row, whoever its customer is."""
        starts = [0, *self._id_ends[:-1]]
        ids = bytes(self._ids)
        spans = zip(starts, self._id_ends, strict=True)
        return np.array([hash(ids[start:end]) for start, end in spans], np.int64)

    def order(self, row: int) -> Order:
        """One row, counted from 0."""
        start = self._id_ends[row - 1] if row else 0
        extra = _NOTHING_MORE if self._more[row] < 0 else self._extras[self._more[row]]
        return Order(
            self._ids[start : self._id_ends[row]].decode(),
            self.users[self._user[row]],
            self._ts[row],
            self._amount[row],
            _TYPES[self._type[row]],
            *extra,
        )


def drawn(users: Sequence[str]) -> Ints:
    """A number for each customer, the same wherever they are met: to choose a part of them by."""
    return np.fromiter((crc32(user.encode()) for user in users), np.int64, len(users))


class OrderColumns(Sequence[Order]):
    """Orders in event time; those of one instant stay as they came. A slice shares its columns."""

    __slots__ = (
        "_amount",
        "_extras",
        "_id_bytes",
        "_id_ends",
        "_id_starts",
        "_last",
        "_more",
        "_ts",
        "_type",
        "_user",
        "_users",
    )

    def __init__(
        self,
        orders: Iterable[Order] | OrderRows,
        *,
        kept: Mask | None = None,
        changed: Mapping[int, Order] | None = None,
    ) -> None:
        """`kept`: which rows count (None: all); `changed`: other orders in place of some rows."""
        rows = orders if isinstance(orders, OrderRows) else OrderRows(orders)
        if changed:
            rows = OrderRows(changed.get(row, rows.order(row)) for row in range(len(rows)))
        ts = rows.column("ts")
        in_time = np.argsort(ts, kind="stable")
        if kept is not None:
            in_time = in_time[kept[in_time]]
        ends = np.frombuffer(rows._id_ends, np.int64)
        starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]])
        self._id_bytes = bytes(rows._ids)
        self._users = rows.users
        self._extras = rows._extras
        self._ts: NDArray[Any] = ts[in_time]
        self._amount: NDArray[Any] = np.frombuffer(rows._amount, np.int64)[in_time]
        self._type: NDArray[Any] = np.frombuffer(rows._type, np.int8)[in_time]
        self._user: NDArray[Any] = np.frombuffer(rows._user, np.int32)[in_time]
        self._more: NDArray[Any] = np.frombuffer(rows._more, np.int32)[in_time]
        self._id_starts: NDArray[Any] = starts[in_time]
        self._id_ends: NDArray[Any] = ends[in_time]
        self._last: tuple[int, list[Order]] = (-1, [])

    @classmethod
    def of(cls, orders: Iterable[Order]) -> OrderColumns:
        """The orders, which may be columns already."""
        return orders if isinstance(orders, OrderColumns) else cls(orders)

    def __len__(self) -> int:
        return len(self._ts)

    @property
    def users(self) -> list[str]:
        """The customers' ids, each once."""
        return self._users

    @property
    def ts_ms(self) -> Ints:
        """The instant of each order, shape (n,)."""
        return self._ts

    @property
    def user(self) -> Ints:
        """The place of each order's customer in `users`, shape (n,)."""
        return self._user

    def kept_orders(self) -> Ints:
        """The places of the orders, which nobody took back, among all events."""
        cancelled = np.flatnonzero(self._type == OrderType.CANCELLATION)
        found = self._type == OrderType.ORDER
        if len(cancelled):
            gone = {(order.user_id, order.order_id) for order in self._part(cancelled)}
            asked = np.flatnonzero(found & np.isin(self._user, self._user[cancelled]))
            for at, order in zip(asked.tolist(), self._part(asked), strict=True):
                found[at] = (order.user_id, order.order_id) not in gone
        return np.flatnonzero(found)

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
        ids, users, extras = self._id_bytes, self._users, self._extras
        columns = (self._ts, self._amount, self._type, self._user, self._id_starts, self._id_ends)
        orders = [
            Order(ids[start:end].decode(), users[user], ts, amount, _TYPES[kind])
            for ts, amount, kind, user, start, end in zip(
                *(column[rows].tolist() for column in columns), strict=True
            )
        ]
        more = self._more[rows]
        for at in np.flatnonzero(more >= 0).tolist():
            one = orders[at]
            orders[at] = Order(
                one.order_id, one.user_id, one.ts_ms, one.amount_minor, one.type, *extras[more[at]]
            )
        return orders

    def drawn(self) -> Ints:
        """`drawn` of each of `users`."""
        return drawn(self.users)

    def of_users(self, chosen: Mask) -> OrderColumns:
        """The orders of some customers: `chosen` is of the places in `users`."""
        return self._part(np.flatnonzero(chosen[self._user]))

    def _part(self, rows: slice | Ints) -> OrderColumns:
        part = object.__new__(OrderColumns)
        part._id_bytes, part._users, part._extras = self._id_bytes, self._users, self._extras
        part._ts, part._amount, part._type = self._ts[rows], self._amount[rows], self._type[rows]
        part._user, part._more = self._user[rows], self._more[rows]
        part._id_starts, part._id_ends = self._id_starts[rows], self._id_ends[rows]
        part._last = (-1, [])
        return part
