"""Which events of a customer have been counted: the memory that makes a repeat change nothing.

A ledger is a bytes value of fixed records, sorted by (time, type, order). The encoded form is the
working form: finding an order is a bytes search, adding the newest one a concatenation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from features.orders import Order, OrderType

# Order id hash (8 bytes), then time and type in one sortable number, then the amount.
_RECORD: Final = struct.Struct("<8sqq")
RECORD_BYTES: Final = _RECORD.size
_STAMP: Final = struct.Struct("<q")
_STAMP_AT: Final = 8
_TYPE_BITS: Final = 2
_TYPE_OF: Final = (OrderType.ORDER, OrderType.REFUND, OrderType.CANCELLATION)


@dataclass(frozen=True, slots=True)
class IdMemory:
    """How long and how many order events of one customer are remembered, to recognise repeats.

    An event older than `days` behind the customer's newest, or older than the oldest of the
    `size` remembered ones, can no longer be told from a repeat: it is set aside, not counted.
    """

    days: int = 1_095
    size: int = 1_000


class Entry(NamedTuple):
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
        if at % RECORD_BYTES == 0:
            found.append(_read(ledger, at))
            at += RECORD_BYTES - 1
        at = ledger.find(wanted, at + 1)
    return found


def add(ledger: bytes, entry: Entry) -> bytes:
    """The ledger with one more event, in its place."""
    stamp = _stamp(entry)
    record = _RECORD.pack(entry.id_hash, stamp, entry.amount_minor)
    at = len(ledger)
    while at and _sort_key(ledger, at - RECORD_BYTES) > (stamp, entry.id_hash):
        at -= RECORD_BYTES
    return ledger + record if at == len(ledger) else ledger[:at] + record + ledger[at:]


def remove(ledger: bytes, entry: Entry) -> bytes:
    """The ledger without one event that it holds."""
    record = _RECORD.pack(entry.id_hash, _stamp(entry), entry.amount_minor)
    at = ledger.find(record)
    while at % RECORD_BYTES:
        at = ledger.find(record, at + 1)
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
    stamp: int = _STAMP.unpack_from(ledger, at + _STAMP_AT)[0]
    return stamp >> _TYPE_BITS


def _stamp(entry: Entry) -> int:
    return entry.ts_ms << _TYPE_BITS | entry.type


def _sort_key(ledger: bytes, at: int) -> tuple[int, bytes]:
    hashed, stamp, _ = _RECORD.unpack_from(ledger, at)
    return stamp, hashed


def _read(ledger: bytes, at: int) -> Entry:
    hashed, stamp, amount = _RECORD.unpack_from(ledger, at)
    return Entry(hashed, stamp >> _TYPE_BITS, _TYPE_OF[stamp & 3], amount)
