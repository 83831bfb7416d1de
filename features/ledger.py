"""Which events of a customer have been counted: the memory that makes a repeat change nothing.

A ledger is a bytes value of fixed records, oldest first. The encoded form is the working form:
finding an order is a bytes search, adding the newest one a concatenation. Records are big-endian
and begin with the time, so that comparing their bytes compares time, type, order, amount.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from features.errors import FactsError
from features.orders import Order, OrderType

# Time and type in one number, then the order id's hash (8 bytes), then the amount.
_RECORD: Final = struct.Struct(">q8sq")
RECORD_BYTES: Final = _RECORD.size
_STAMP_BYTES: Final = 8
_TYPE_BITS: Final = 2
_TYPE_OF: Final = (OrderType.ORDER, OrderType.REFUND, OrderType.CANCELLATION)

# Day buckets are kept for as long; an event that can still come in must find its day there.
MAX_MEMORY_DAYS: Final = 1_095


@dataclass(frozen=True, slots=True)
class IdMemory:
    """How long and how many order events of one customer are remembered, to recognise repeats.

    An event older than `days` behind the customer's newest, or older than the oldest of the
    `size` remembered ones, can no longer be told from a repeat: it is set aside, not counted.
    Raises FactsError for days outside 1 to MAX_MEMORY_DAYS and for a size below 1.
    """

    days: int = MAX_MEMORY_DAYS
    size: int = 1_000

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MAX_MEMORY_DAYS:
            raise FactsError(f"days {self.days} must lie between 1 and {MAX_MEMORY_DAYS}")
        if self.size < 1:
            raise FactsError(f"size {self.size} must be at least 1")


class Entry(msgspec.Struct, frozen=True):
    """One remembered event."""

    id_hash: bytes
    ts_ms: int
    type: OrderType
    amount_minor: int


def id_hash(order_id: str) -> bytes:
    """Eight bytes for an order id. Two ids of one customer with 1,000 orders share them with
    probability 3e-14 (birthday bound n²/2⁶⁵)."""
    return blake2b(order_id.encode(), digest_size=8).digest()


def entry_of(order: Order) -> Entry:
    """The ledger's view of an order event."""
    return Entry(id_hash(order.order_id), order.ts_ms, order.type, order.amount_minor)


def find(ledger: bytes, wanted: bytes) -> list[Entry]:
    """All remembered events of one order: the order itself, its refund, its cancellation."""
    found = []
    at = ledger.find(wanted)
    while at >= 0:
        # The same bytes may also turn up across the fields of a record.
        if at % RECORD_BYTES == _STAMP_BYTES:
            found.append(_read(ledger, at - _STAMP_BYTES))
        at = ledger.find(wanted, at + 1)
    return found


def add(ledger: bytes, entry: Entry) -> bytes:
    """The ledger with one more event, in its place."""
    record = _record(entry)
    if ledger[-RECORD_BYTES:] <= record:
        return ledger + record
    at = len(ledger) - RECORD_BYTES
    while at and ledger[at - RECORD_BYTES : at] > record:
        at -= RECORD_BYTES
    return ledger[:at] + record + ledger[at:]


def remove(ledger: bytes, entry: Entry) -> bytes:
    """The ledger without one event that it holds."""
    record = _record(entry)
    at = ledger.index(record)
    while at % RECORD_BYTES:
        at = ledger.index(record, at + 1)
    return ledger[:at] + ledger[at + RECORD_BYTES :]


def newest_ms(ledger: bytes) -> int:
    """Event time of the newest remembered event; -1 for an empty ledger."""
    return _ts_ms(ledger, len(ledger) - RECORD_BYTES) if ledger else -1


def oldest_ms(ledger: bytes) -> int:
    """Event time of the oldest remembered event; -1 for an empty ledger."""
    return _ts_ms(ledger, 0) if ledger else -1


def entries_newest_first(ledger: bytes) -> Iterator[Entry]:
    """The remembered events, newest first."""
    for at in range(len(ledger) - RECORD_BYTES, -1, -RECORD_BYTES):
        yield _read(ledger, at)


def _ts_ms(ledger: bytes, at: int) -> int:
    return int.from_bytes(ledger[at : at + _STAMP_BYTES], "big") >> _TYPE_BITS


def _record(entry: Entry) -> bytes:
    return _RECORD.pack(entry.ts_ms << _TYPE_BITS | entry.type, entry.id_hash, entry.amount_minor)


def _read(ledger: bytes, at: int) -> Entry:
    stamp, hashed, amount = _RECORD.unpack_from(ledger, at)
    return Entry(hashed, stamp >> _TYPE_BITS, _TYPE_OF[stamp & 3], amount)
