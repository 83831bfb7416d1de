"""Buckets by day of the shop's zone: what a customer ordered and got back, in integer minor units.

Buckets are a bytes value of fixed records in day order. NumPy reads many customers' buckets at
once without decoding any (`windows.py`), and adding an order to the newest day copies bytes.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import numpy as np

# Day since the epoch, orders, gross revenue, refunded: orders and money of that day.
_RECORD: Final = struct.Struct("<iIqq")
RECORD_BYTES: Final = _RECORD.size
_DAY: Final = struct.Struct("<i")
_DAY_ORDERS: Final = struct.Struct("<iI")
DTYPE: Final = np.dtype([("day", "<i4"), ("orders", "<u4"), ("gross", "<i8"), ("refunded", "<i8")])


class Bucket(msgspec.Struct, frozen=True):
    """One day of one customer; money in minor units."""

    day: int
    orders: int
    gross: int
    refunded: int


def add(buckets: bytes, change: Bucket) -> bytes:
    """The buckets with orders and money added to (or, negative, taken from) one day.

    A day on which nothing is left vanishes, so the bytes depend on the events alone.
    """
    orders, gross, refunded = change.orders, change.gross, change.refunded
    at, found = _position(buckets, change.day)
    after = at
    if found:
        _, old_orders, old_gross, old_refunded = _RECORD.unpack_from(buckets, at)
        orders, gross, refunded = orders + old_orders, gross + old_gross, refunded + old_refunded
        after += RECORD_BYTES
    if not (orders or gross or refunded):
        return buckets[:at] + buckets[after:]
    record = _RECORD.pack(change.day, orders, gross, refunded)
    return buckets + record if at == len(buckets) else buckets[:at] + record + buckets[after:]


def with_order(buckets: bytes, day: int, gross: int, oldest_day: int) -> bytes | None:
    """The buckets with one more order on their newest day or a later one, as `add` has them; None
    where the day is an earlier one, or a bucket is older than `oldest_day`."""
    if not buckets:
        return _RECORD.pack(day, 1, gross, 0)
    if _DAY.unpack_from(buckets)[0] < oldest_day:
        return None
    at = len(buckets) - RECORD_BYTES
    newest, orders, old_gross, refunded = _RECORD.unpack_from(buckets, at)
    if newest < day:
        return buckets + _RECORD.pack(day, 1, gross, 0)
    if newest > day:
        return None
    return buckets[:at] + _RECORD.pack(day, orders + 1, old_gross + gross, refunded)


def record(day: int, orders: int, gross: int, refunded: int) -> bytes:
    """The bucket of one day."""
    return _RECORD.pack(day, orders, gross, refunded)


def read(buckets: bytes, at: int) -> Bucket:
    """The bucket that starts at a byte offset."""
    return Bucket(*_RECORD.unpack_from(buckets, at))


def day_and_orders(buckets: bytes, at: int) -> tuple[int, int]:
    """The day, and how many orders it has, of the bucket that starts at a byte offset."""
    day, orders = _DAY_ORDERS.unpack_from(buckets, at)
    return day, orders


def first_day(buckets: bytes) -> int:
    """The oldest day of buckets that are not empty."""
    day: int = _DAY.unpack_from(buckets)[0]
    return day


def last_purchase_day(buckets: bytes) -> int | None:
    """The newest day with an order, or None."""
    for at in range(len(buckets) - RECORD_BYTES, -1, -RECORD_BYTES):
        day, orders = day_and_orders(buckets, at)
        if orders:
            return day
    return None


def net(buckets: bytes, from_day: int, until_day: int) -> int:
    """Net revenue of the days from `from_day` to before `until_day`, in minor units; less than 0
    where more was refunded than ordered."""
    days = np.frombuffer(buckets, DTYPE)
    those = days[(days["day"] >= from_day) & (days["day"] < until_day)]
    return int(those["gross"].sum()) - int(those["refunded"].sum())


def _position(buckets: bytes, day: int) -> tuple[int, bool]:
    """Byte offset of the day's bucket, or where it belongs; searched from the newest end, where
    nearly every order belongs."""
    at = len(buckets)
    while at:
        here = _DAY.unpack_from(buckets, at - RECORD_BYTES)[0]
        if here < day:
            break
        at -= RECORD_BYTES
        if here == day:
            return at, True
    return at, False
