"""Order logs of more rows than memory is given for, brought into event time through files.

Rows are dealt out to temporary files by their order id, so that all rows of an order lie in one;
each file is arranged and sorted by itself, and all are merged as they are read. What counts, and in
which order, is what `model.files.loading` makes of a log that fits.
"""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, islice
from operator import add
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias
from zlib import crc32

import msgspec
import numpy as np

from features.events.orders import Order, OrderType
from model.files.columns import OrderRows
from model.files.rows import Arranged, RowsAre, Several, arranged, several
from model.files.summary import Summary, added, odd_customers, orders_of, summary_of_part
from model.files.text_files import OrderLogError

_FILES: Final = 64
_FRAME_ROWS: Final = 100
_TYPES: Final = tuple(OrderType)
_LENGTH: Final = struct.Struct("<I")

# Time, row, order id, customer, amount, type, refund id, updated_ms, rounded.
_Fields: TypeAlias = tuple[int, int, str, str, int, int, str, int, bool]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[_Fields]).decode


class Dealt:
    """Rows dealt out to files of a directory; `rows` of them so far. Memory grows with the
    customers alone, whose orders are counted."""

    def __init__(self, directory: Path) -> None:
        self.rows = 0
        self._directory = directory
        self._files = [self._path(number).open("wb") for number in range(_FILES)]
        self._held: list[list[_Fields]] = [[] for _ in self._files]
        self._newest_ms = -1
        self._out_of_order = 0

    def add(self, order: Order) -> None:
        """Takes one more row."""
        number = crc32(order.order_id.encode()) % _FILES
        held = self._held[number]
        held.append(_fields(self.rows, order))
        if len(held) == _FRAME_ROWS:
            _put(self._files[number], held)
            held.clear()
        self.rows += 1
        self._out_of_order += order.ts_ms < self._newest_ms
        self._newest_ms = max(self._newest_ms, order.ts_ms)

    def sort(self, rows_are: RowsAre | None, where: str, currency: str, most_rows: int) -> Summary:
        """Arranges and sorts every file by itself; the summary of all. Raises OrderLogError as
        `arranged` does, and where a file has more rows than are sorted at once."""
        for file, held in zip(self._files, self._held, strict=True):
            _put(file, held)
            file.close()
        if rows_are is None and (found := self._several(currency)) is not None:
            raise OrderLogError(found.question(where, self.rows))
        # Asked of all of it, so that no part asks again.
        rows_are = rows_are or RowsAre.CORRECTIONS
        parts: list[Summary] = []
        orders: Counter[str] = Counter()
        for number in range(_FILES):
            numbers, rows = self._read(number)
            if len(rows) > most_rows:
                raise OrderLogError(
                    f"order log {where}: {len(rows):,} of its rows have few order ids between them,"
                    " more than are sorted at once; is order_id an id of the order?"
                )
            how = arranged(rows, rows_are, where, currency)
            parts.append(summary_of_part(rows, how, {}, currency))
            for user, count in zip(rows.users, orders_of(rows, how.kept).tolist(), strict=True):
                orders[user] += count
            with self._path(number).open("wb") as file:
                _put_all(file, _in_time(rows, how, numbers))
        users = list(orders)
        odd = list(odd_customers(users, np.array(list(orders.values()), np.int64)))
        return added(parts, odd, customers=len(users), out_of_order=self._out_of_order)

    def merged(self) -> Iterator[Order]:
        """The orders that count, in event time; those of one instant as they came."""
        parts = (_frames(self._path(number)) for number in range(_FILES))
        return map(_order, heapq.merge(*(chain.from_iterable(part) for part in parts)))

    def close(self) -> None:
        """Closes the files, where that was not done."""
        for file in self._files:
            file.close()

    def _several(self, currency: str) -> Several | None:
        found = [several(self._read(number)[1], currency) for number in range(_FILES)]
        asked = [one for one in found if one is not None]
        return reduce(add, asked) if asked else None

    def _read(self, number: int) -> tuple[list[int], OrderRows]:
        """The rows of a file, and which rows of the log they are."""
        numbers, rows = [], OrderRows()
        for frame in _frames(self._path(number)):
            for fields in frame:
                numbers.append(fields[1])
                rows.add(_order(fields))
        return numbers, rows

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.rows"


def _in_time(rows: OrderRows, how: Arranged, numbers: Sequence[int]) -> Iterator[_Fields]:
    """The rows that count, by time and row."""
    ts = rows.column("ts").copy()
    for row, one in how.changed.items():
        ts[row] = one.ts_ms
    kept = np.arange(len(rows)) if how.kept is None else np.flatnonzero(how.kept)
    for row in kept[np.argsort(ts[kept], kind="stable")].tolist():
        yield _fields(numbers[row], how.changed[row] if row in how.changed else rows.order(row))


def _fields(row: int, one: Order) -> _Fields:
    return (
        one.ts_ms,
        row,
        one.order_id,
        one.user_id,
        one.amount_minor,
        int(one.type),
        one.refund_id,
        one.updated_ms,
        one.rounded,
    )


def _order(fields: _Fields) -> Order:
    ts_ms, _, order_id, user_id, amount, kind, refund_id, updated_ms, rounded = fields
    return Order(order_id, user_id, ts_ms, amount, _TYPES[kind], refund_id, updated_ms, rounded)


def _put(file: BinaryIO, frame: Sequence[_Fields]) -> None:
    if frame:
        data = _encode(frame)
        file.write(_LENGTH.pack(len(data)) + data)


def _put_all(file: BinaryIO, rows: Iterator[_Fields]) -> None:
    while frame := list(islice(rows, _FRAME_ROWS)):
        _put(file, frame)


def _frames(path: Path) -> Iterator[list[_Fields]]:
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            yield _decode(file.read(*_LENGTH.unpack(head)))
