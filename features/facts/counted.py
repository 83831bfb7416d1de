"""Which day buckets the events of a ledger make: those need not be stored.

Nearly every customer's buckets are the sums of the ledger's orders and refunds by day. Where they
are not, since an event was cancelled or forgotten, that ends with an `uneven_day`: of all later
days they are. A new order that is newer than all others leaves it where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from features.arrays import Ints
from features.events.orders import OrderType
from features.facts import buckets as day_buckets
from features.facts import ledger as order_ledger
from features.facts.buckets import Bucket
from features.facts.ledger import (
    AMOUNT_AT,
    ERA_BITS,
    HEAD_BYTES,
    IS_WIDE,
    KIND_BITS,
    KINDS,
    Entry,
)
from features.times import MS_PER_DAY

NO_DAY: Final = -(2**40)
"""Before all days: every bucket is what the events make."""

_ORDERS: Final = sum(kind is OrderType.ORDER for kind, _ in KINDS)
_DATED: Final = sum(kind in (OrderType.ORDER, OrderType.REFUND) for kind, _ in KINDS)


def counted(events: Iterable[Entry], after_day: int = NO_DAY) -> list[Bucket]:
    """The buckets that events, oldest first, make on later days. One after the other with events of
    the same day make one bucket, in which something must be left."""
    found: list[Bucket] = []
    for event in events:
        if event.type not in (OrderType.ORDER, OrderType.REFUND) or event.day <= after_day:
            continue
        if not found or found[-1].day != event.day:
            found.append(Bucket(event.day, 0, 0, 0))
        day, orders, gross, refunded = found[-1].day, *_sums(found[-1])
        if event.type is OrderType.ORDER:
            found[-1] = Bucket(day, orders + 1, gross + event.amount_minor, refunded)
        else:
            found[-1] = Bucket(day, orders, gross, refunded + event.amount_minor)
    return [bucket for bucket in found if any(_sums(bucket))]


def uneven_day(buckets: bytes, ledger: bytes) -> int:
    """The newest day of which the buckets are not what the ledger's events make; NO_DAY: none."""
    size = day_buckets.RECORD_BYTES
    are = [day_buckets.read(buckets, at) for at in range(0, len(buckets), size)]
    made = counted(order_ledger.entries(ledger))
    days = [bucket.day for bucket in made]
    if any(later <= day for day, later in pairwise(days)):
        # Days that went back, as with another zone.
        return max(days + [bucket.day for bucket in are])
    while are and made and are[-1] == made[-1]:
        are.pop()
        made.pop()
    return max([bucket.day for bucket in are[-1:] + made[-1:]], default=NO_DAY)


def counted_all(ledgers: Sequence[bytes], after_day: Ints) -> tuple[Ints, np.ndarray]:
    """`counted` of many ledgers, each after a day: whose each bucket is, by place, and the buckets
    of all, one ledger after the other."""
    layouts = np.frombuffer(bytes([ledger[0] if ledger else 0 for ledger in ledgers]), np.uint8)
    parts = [
        _events(ledgers, np.flatnonzero(layouts == layout), int(layout))
        for layout in np.unique(layouts).tolist()
        if layout
    ]
    if not parts:
        return np.zeros(0, np.int64), np.empty(0, day_buckets.DTYPE)
    row, stamp, amount = parts[0]
    if len(parts) > 1:
        row, stamp, amount = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(row, kind="stable")
        row, stamp, amount = row[order], stamp[order], amount[order]
    kind = stamp & 2**KIND_BITS - 1
    day = (stamp >> KIND_BITS) // MS_PER_DAY + kind % 3 - 1
    dated = (kind < _DATED) & (day > after_day[row])
    if not dated.all():
        row, day, kind, amount = row[dated], day[dated], kind[dated], amount[dated]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (day[1:] != day[:-1])
    first = np.flatnonzero(new)
    found = np.empty(len(first), day_buckets.DTYPE)
    if not len(first):
        return row, found
    is_order = kind < _ORDERS
    gross = is_order * amount
    found["day"] = day[first]
    found["orders"] = np.add.reduceat(is_order * 1, first)
    found["gross"] = np.add.reduceat(gross, first)
    found["refunded"] = np.add.reduceat(amount - gross, first)
    row = row[first]
    left = (found["orders"] > 0) | (found["refunded"] > 0)
    return (row, found) if left.all() else (row[left], found[left])


def _events(ledgers: Sequence[bytes], rows: Ints, layout: int) -> tuple[Ints, Ints, Ints]:
    """Of all events of ledgers of one layout: whose, when and of what kind, and how much."""
    some = [ledgers[row] for row in rows.tolist()] if len(rows) < len(ledgers) else ledgers
    width = order_ledger.WIDTHS[layout]
    amount_bytes = layout & ~IS_WIDE
    shape = np.dtype(
        {
            "names": ["stamp", "amount"],
            "formats": [">u8", ">u8"],
            # Eight bytes that end with the amount.
            "offsets": [0, AMOUNT_AT + amount_bytes - 8],
            "itemsize": width,
        }
    )
    events = np.frombuffer(b"".join([ledger[HEAD_BYTES:] for ledger in some]), shape)
    sizes = np.array([len(ledger) for ledger in some], np.int64)
    count = (sizes - HEAD_BYTES) // width
    eras = np.frombuffer(b"".join([ledger[1:HEAD_BYTES] for ledger in some]), ">i2")
    stamp = (events["stamp"] >> 24).astype(np.int64)
    stamp += np.repeat(eras.astype(np.int64) << ERA_BITS + KIND_BITS, count)
    amount = events["amount"].astype(np.uint64)
    if amount_bytes < 8:
        amount &= (1 << 8 * amount_bytes) - 1
    return np.repeat(rows, count), stamp, amount.astype(np.int64)


def _sums(bucket: Bucket) -> tuple[int, int, int]:
    return bucket.orders, bucket.gross, bucket.refunded
