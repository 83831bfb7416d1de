"""Which events of a customer have been counted: the memory that makes a repeat change nothing.

A ledger is a bytes value of fixed records, oldest first. The encoded form is the working form:
finding an order is a bytes search, adding the newest one a concatenation. Records are big-endian
and begin with the time, so that comparing their bytes compares time, type, order, amount.

Records are of 24 bytes, and of 40 in the ledger of a customer of whom an event came with a
`refund_id` or an `updated_at`: those shops alone pay for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from features.errors import FactsError
from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY

# Time and type in one number, then the order id's hash (8 bytes), then the amount.
_NARROW: Final = struct.Struct(">q8sq")
# The same, then the refund id's hash (zeros: none), then `updated_at` (-1: none).
_WIDE: Final = struct.Struct(">q8sq8sq")
RECORD_BYTES: Final = _NARROW.size
WIDE_BYTES: Final = _WIDE.size
_STAMP_BYTES: Final = 8
_TYPE_BITS: Final = 2
_TYPE_OF: Final = tuple(OrderType)
NO_REFUND_ID: Final = bytes(8)
_NO_MARKS: Final = NO_REFUND_ID + (-1).to_bytes(8, "big", signed=True)

# Day buckets are kept for as long; an event that can still come in must find its day there.
MAX_MEMORY_DAYS: Final = 1_095


# However many there are, events this close to the newest are remembered: a marketplace account has
# thousands of orders a day, and a log with days alone has them all at one instant.
RECENT_DAYS: Final = 7
# What one customer's state may take: 2.4 MB of narrow records.
MAX_EVENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class IdMemory:
    """How long and how many order events of one customer are remembered, to recognise repeats.

    Remembered are the events of the last `days` before the customer's newest, at most `size` of
    them; and those of the last RECENT_DAYS in any case, up to MAX_EVENTS. An event older than the
    newest that was forgotten can no longer be told from a repeat: it is set aside, not counted.
    Raises FactsError for days outside 1 to MAX_MEMORY_DAYS and for a size outside 1 to MAX_EVENTS.
    """

    days: int = MAX_MEMORY_DAYS
    size: int = 1_000

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MAX_MEMORY_DAYS:
            raise FactsError(f"days {self.days} must lie between 1 and {MAX_MEMORY_DAYS}")
        if not 1 <= self.size <= MAX_EVENTS:
            raise FactsError(f"size {self.size} must lie between 1 and {MAX_EVENTS}")


class Entry(msgspec.Struct, frozen=True):
    """One remembered event; NO_REFUND_ID and -1 where it has no `refund_id` and `updated_at`."""

    id_hash: bytes
    ts_ms: int
    type: OrderType
    amount_minor: int
    refund_hash: bytes = NO_REFUND_ID
    updated_ms: int = -1

    @property
    def version(self) -> tuple[int, int, int]:
        """What orders the versions of one event: the greatest counts, whichever came first."""
        return self.updated_ms, self.ts_ms, self.amount_minor

    @property
    def is_wide(self) -> bool:
        """Whether it has more to it than a narrow record holds."""
        return self.updated_ms >= 0 or self.refund_hash != NO_REFUND_ID

    def is_same(self, other: Entry) -> bool:
        """Whether two events of one order are the same one, in whatever version: an order has one
        order event and one cancellation, and a refund for each `refund_id`; refunds without one are
        the same if time and amount are."""
        if self.type is not OrderType.REFUND or other.type is not OrderType.REFUND:
            return self.type is other.type or (self.type.of_order and other.type.of_order)
        if self.refund_hash != other.refund_hash:
            return False
        return self.refund_hash != NO_REFUND_ID or (
            (self.ts_ms, self.amount_minor) == (other.ts_ms, other.amount_minor)
        )


def id_hash(order_id: str) -> bytes:
    """Eight bytes for an order id. Two ids of one customer with 1,000 orders share them with
    probability 3e-14 (birthday bound n²/2⁶⁵)."""
    return blake2b(order_id.encode(), digest_size=8).digest()


def entry_of(order: Order) -> Entry:
    """The ledger's view of an order event."""
    refund_hash = id_hash(order.refund_id) if order.refund_id else NO_REFUND_ID
    return Entry(
        id_hash(order.order_id),
        order.ts_ms,
        order.type,
        order.amount_minor,
        refund_hash,
        order.updated_ms,
    )


def widened(ledger: bytes) -> bytes:
    """A ledger of narrow records as one of wide ones."""
    return b"".join(
        ledger[at : at + RECORD_BYTES] + _NO_MARKS for at in range(0, len(ledger), RECORD_BYTES)
    )


def find(ledger: bytes, wanted: bytes, width: int = RECORD_BYTES) -> list[Entry]:
    """All remembered events of one order: the order itself, its refunds, its cancellation."""
    found = []
    at = ledger.find(wanted)
    while at >= 0:
        # The same bytes may also turn up across the fields of a record.
        if at % width == _STAMP_BYTES:
            found.append(_read(ledger, at - _STAMP_BYTES, width))
        at = ledger.find(wanted, at + 1)
    return found


def add(ledger: bytes, entry: Entry, width: int = RECORD_BYTES) -> bytes:
    """The ledger with one more event, in its place."""
    new = record(entry, width != RECORD_BYTES)
    if ledger[-width:] <= new:
        return ledger + new
    low, high = 0, len(ledger) // width
    while low < high:  # the place after all that are not greater
        middle = (low + high) // 2
        if ledger[middle * width : (middle + 1) * width] <= new:
            low = middle + 1
        else:
            high = middle
    return ledger[: low * width] + new + ledger[low * width :]


def appended(ledger: bytes, order: Order, order_hash: bytes, memory: IdMemory) -> bytes | None:
    """A narrow ledger with an order that is in it in no version: what `add` and `forgetting` make
    of one that is newer than all others and makes nothing be forgotten, as nearly every one is;
    None for any other."""
    ts_ms = order.ts_ms
    record = _NARROW.pack(ts_ms << _TYPE_BITS | order.type, order_hash, order.amount_minor)
    if ledger and (
        ledger[-RECORD_BYTES:] > record
        or len(ledger) >= memory.size * RECORD_BYTES
        or _ts_ms(ledger, 0) <= ts_ms - memory.days * MS_PER_DAY
    ):
        return None
    return ledger + record


def remove(ledger: bytes, entry: Entry, width: int = RECORD_BYTES) -> bytes:
    """The ledger without one event that it holds."""
    new = record(entry, width != RECORD_BYTES)
    at = ledger.index(new)
    while at % width:
        at = ledger.index(new, at + 1)
    return ledger[:at] + ledger[at + width :]


def newest_ms(ledger: bytes, width: int = RECORD_BYTES) -> int:
    """Event time of the newest remembered event; -1 for an empty ledger."""
    return _ts_ms(ledger, len(ledger) - width) if ledger else -1


def newest_id(ledger: bytes, width: int = RECORD_BYTES) -> bytes:
    """Hash of the order id of the newest remembered event; b"" for an empty ledger."""
    at = len(ledger) - width + _STAMP_BYTES
    return ledger[at : at + _STAMP_BYTES] if ledger else b""


def newest_order_alone(ledger: bytes, width: int = RECORD_BYTES) -> int | None:
    """Event time of the newest event, where that is an order of which no other event is remembered;
    else None."""
    at = len(ledger) - width
    if at < 0:
        return None
    stamp = int.from_bytes(ledger[at : at + _STAMP_BYTES], "big")
    hash_at = at + _STAMP_BYTES
    alone = ledger.find(ledger[hash_at : hash_at + _STAMP_BYTES]) == hash_at
    return stamp >> _TYPE_BITS if alone and _TYPE_OF[stamp & 3] is OrderType.ORDER else None


def forgetting(ledger: bytes, width: int, memory: IdMemory) -> tuple[bytes, int]:
    """The ledger within the bounds of its memory, and the time of the newest event that is
    forgotten for it (-1: none is)."""
    newest = newest_ms(ledger, width)
    gone_ms = newest - memory.days * MS_PER_DAY
    # Of events of one instant all are remembered, or none, whatever the order they came in.
    if (over := len(ledger) // width - memory.size) > 0:
        by_size = _ts_ms(ledger, (over - 1) * width)
        gone_ms = max(gone_ms, min(by_size, newest - RECENT_DAYS * MS_PER_DAY))
    at = max(0, len(ledger) - MAX_EVENTS * width)
    while at < len(ledger) and _ts_ms(ledger, at) <= gone_ms:
        at += width
    return (ledger[at:], _ts_ms(ledger, at - width)) if at else (ledger, -1)


def fields(ledger: bytes, wide: bool) -> list[tuple[int, bytes, int, bytes, int]]:
    """The remembered events, oldest first: time and type in one number, then as in an Entry."""
    if wide:
        return list(_WIDE.iter_unpack(ledger))
    return [(*one, NO_REFUND_ID, -1) for one in _NARROW.iter_unpack(ledger)]


def entries_newest_first(ledger: bytes, width: int = RECORD_BYTES) -> Iterator[Entry]:
    """The remembered events, newest first."""
    for at in range(len(ledger) - width, -1, -width):
        yield _read(ledger, at, width)


def _ts_ms(ledger: bytes, at: int) -> int:
    return int.from_bytes(ledger[at : at + _STAMP_BYTES], "big") >> _TYPE_BITS


def record(entry: Entry, wide: bool = False) -> bytes:
    """The event as a record of a narrow or wide ledger."""
    stamp = entry.ts_ms << _TYPE_BITS | entry.type
    if not wide:
        return _NARROW.pack(stamp, entry.id_hash, entry.amount_minor)
    return _WIDE.pack(stamp, entry.id_hash, entry.amount_minor, entry.refund_hash, entry.updated_ms)


def _read(ledger: bytes, at: int, width: int) -> Entry:
    if width == RECORD_BYTES:
        stamp, hashed, amount = _NARROW.unpack_from(ledger, at)
        return Entry(hashed, stamp >> _TYPE_BITS, _TYPE_OF[stamp & 3], amount)
    stamp, hashed, amount, refund, updated = _WIDE.unpack_from(ledger, at)
    return Entry(hashed, stamp >> _TYPE_BITS, _TYPE_OF[stamp & 3], amount, refund, updated)
