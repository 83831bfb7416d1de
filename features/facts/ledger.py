"""Which events of a customer have been counted: the memory that makes a repeat change nothing.

A ledger is a bytes value of records of one width, oldest first, and the same at work and stored:
finding an order is a bytes search, adding the newest one a concatenation. Bytes, big-endian:

    1  of an amount (2 to 8); and 16 where the ledger is wide
    2  the era: the oldest event's time in units of 2^35 ms (397 days)
    and of each event:
    5  time since the era began and kind, in 37 and 3 bits
    8  hash of the order id
    2 to 8  amount
    8, 6    in a wide ledger: hash of the refund id (zeros: none), `updated_at` + 1 (0: none)

So records compare as time, type, order, amount. Wide is the ledger of a customer of whom an event
came with a `refund_id` or an `updated_at`: those shops alone pay for them. The kind is the type, of
orders and refunds with how many days after UTC's the shop's day is, so that
`features.facts.counted` finds the day buckets that the events make.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from features.errors import FactsError
from features.events.orders import Order, OrderType
from features.times import MS_PER_DAY, UTC, Calendar

ERA_BITS: Final = 35
HEAD_BYTES: Final = 3
KIND_BITS: Final = 3
# An order or a refund on the day before UTC's, on the same, or on the day after; then the others.
KINDS: Final = (
    *((kind, shift) for kind in (OrderType.ORDER, OrderType.REFUND) for shift in (-1, 0, 1)),
    (OrderType.CANCELLATION, 0),
    (OrderType.FREE, 0),
)
IS_WIDE: Final = 16
_HEAD: Final = struct.Struct(">Bh")
_BEGIN: Final = struct.Struct(">IB8s")
STAMP_BYTES, HASH_BYTES = 5, 8
AMOUNT_AT: Final = STAMP_BYTES + HASH_BYTES
_LEAST_AMOUNT: Final = 2
_MARK_BYTES: Final = 14
# Bytes of a record, by how the ledger begins.
WIDTHS: Final = {
    amount_bytes | wide: AMOUNT_AT + amount_bytes + (_MARK_BYTES if wide else 0)
    for amount_bytes in range(_LEAST_AMOUNT, 9)
    for wide in (0, IS_WIDE)
}
_KIND_OF: Final = {kind: number for number, kind in enumerate(KINDS)}
NO_REFUND_ID: Final = bytes(8)
_FOREVER_AGO_MS: Final = -(2**60)

# Day buckets are kept for as long; an event that can still come in must find its day there.
MAX_MEMORY_DAYS: Final = 1_095


# However many there are, events this close to the newest are remembered: a marketplace account has
# thousands of orders a day, and a log with days alone has them all at one instant.
RECENT_DAYS: Final = 7
# What one customer's state may take: 1.5 MB of narrow records.
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
    """One remembered event; NO_REFUND_ID and -1 where it has no `refund_id` and `updated_at`.
    `shift`: the shop's day of an order or a refund, less UTC's."""

    id_hash: bytes
    ts_ms: int
    type: OrderType
    amount_minor: int
    refund_hash: bytes = NO_REFUND_ID
    updated_ms: int = -1
    shift: int = 0

    @property
    def version(self) -> tuple[int, int, int]:
        """What orders the versions of one event: the greatest counts, whichever came first."""
        return self.updated_ms, self.ts_ms, self.amount_minor

    @property
    def is_wide(self) -> bool:
        """Whether it has more to it than a narrow record holds."""
        return self.updated_ms >= 0 or self.refund_hash != NO_REFUND_ID

    @property
    def day(self) -> int:
        """The shop's day of an order or a refund."""
        return self.ts_ms // MS_PER_DAY + self.shift

    @property
    def order(self) -> tuple[int, OrderType, bytes, int, bytes, int]:
        """What events are kept in the order of."""
        return (
            self.ts_ms,
            self.type,
            self.id_hash,
            self.amount_minor,
            self.refund_hash,
            self.updated_ms,
        )

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


def entry_of(order: Order, calendar: Calendar = UTC) -> Entry:
    """The ledger's view of an order event."""
    dated = order.type in (OrderType.ORDER, OrderType.REFUND)
    return Entry(
        id_hash(order.order_id),
        order.ts_ms,
        order.type,
        order.amount_minor,
        id_hash(order.refund_id) if order.refund_id else NO_REFUND_ID,
        order.updated_ms,
        calendar.day_of(order.ts_ms) - order.ts_ms // MS_PER_DAY if dated else 0,
    )


def of(entries: Iterable[Entry], *, wide: bool = False) -> bytes:
    """The ledger of some events of fewer than 1,193 days."""
    found = sorted(entries, key=lambda entry: entry.order)
    if not found:
        return b""
    most = max(entry.amount_minor for entry in found)
    amount_bytes = max(_LEAST_AMOUNT, -(-most.bit_length() // 8))
    wide = wide or any(entry.is_wide for entry in found)
    head = _HEAD.pack(amount_bytes | (IS_WIDE if wide else 0), found[0].ts_ms >> ERA_BITS)
    return head + b"".join([_record(entry, head) for entry in found])


def size_of(ledger: bytes) -> int:
    """How many events are remembered."""
    return (len(ledger) - HEAD_BYTES) // WIDTHS[ledger[0]] if ledger else 0


def is_wide(ledger: bytes) -> bool:
    """Whether its records have place for a refund id and an `updated_at`."""
    return bool(ledger) and bool(ledger[0] & IS_WIDE)


def is_whole(ledger: bytes) -> bool:
    """Whether bytes from outside can be a ledger."""
    if not ledger:
        return True
    width = WIDTHS.get(ledger[0])
    return width is not None and len(ledger) > HEAD_BYTES and not (len(ledger) - HEAD_BYTES) % width


def find(ledger: bytes, wanted: bytes) -> list[Entry]:
    """All remembered events of one order: the order itself, its refunds, its cancellation."""
    found: list[Entry] = []
    at = ledger.find(wanted)
    while at >= 0:
        # The same bytes may also turn up across the fields of a record.
        if (at - HEAD_BYTES - STAMP_BYTES) % WIDTHS[ledger[0]] == 0:
            found.append(_read(ledger, at - STAMP_BYTES))
        at = ledger.find(wanted, at + 1)
    return found


def add(ledger: bytes, entry: Entry) -> bytes:
    """The ledger with one more event, in its place."""
    if not ledger:
        return of([entry])
    fits = is_wide(ledger) or not entry.is_wide
    if not fits or entry.ts_ms < _ts_ms(ledger, HEAD_BYTES):
        return of([*entries_newest_first(ledger), entry], wide=is_wide(ledger))
    try:
        new = _record(entry, ledger)
    except OverflowError:
        return of([*entries_newest_first(ledger), entry], wide=is_wide(ledger))
    width = WIDTHS[ledger[0]]
    low, high = 0, size_of(ledger)
    while low < high:  # the place after all that are not greater
        middle = (low + high) // 2
        at = HEAD_BYTES + middle * width
        if ledger[at : at + width] <= new:
            low = middle + 1
        else:
            high = middle
    at = HEAD_BYTES + low * width
    return ledger[:at] + new + ledger[at:]


def appended(
    ledger: bytes, order: Order, order_hash: bytes, day: int, memory: IdMemory
) -> bytes | None:
    """A narrow ledger with an order that is in it in no version: what `add` and `forgetting` make
    of one that is newer than all others and makes nothing be forgotten, as nearly every one is;
    None for any other. `day`: the shop's, of the order."""
    ts_ms, amount = order.ts_ms, order.amount_minor
    shift = day - ts_ms // MS_PER_DAY
    if not ledger:
        return of([Entry(order_hash, ts_ms, OrderType.ORDER, amount, shift=shift)])
    amount_bytes, era = ledger[0], int.from_bytes(ledger[1:3], "big", signed=True)
    width, since_ms = AMOUNT_AT + amount_bytes, ts_ms - (era << ERA_BITS)
    first_ms = int.from_bytes(ledger[3:8], "big") >> KIND_BITS
    if (
        amount_bytes >= IS_WIDE
        or len(ledger) - HEAD_BYTES >= memory.size * width
        or not since_ms - memory.days * MS_PER_DAY < first_ms <= since_ms
    ):
        return None
    begin = (since_ms << KIND_BITS | shift + 1).to_bytes(STAMP_BYTES, "big") + order_hash
    if ledger[-width:-amount_bytes] >= begin:
        return None
    if amount >> 8 * amount_bytes:
        return add(ledger, Entry(order_hash, ts_ms, OrderType.ORDER, amount, shift=shift))
    return ledger + begin + amount.to_bytes(amount_bytes, "big")


def remove(ledger: bytes, entry: Entry) -> bytes:
    """The ledger without one event that it holds."""
    new, width = _record(entry, ledger), WIDTHS[ledger[0]]
    at = ledger.index(new, HEAD_BYTES)
    while (at - HEAD_BYTES) % width:
        at = ledger.index(new, at + 1)
    return _tight(ledger[:at] + ledger[at + width :])


def newest(ledger: bytes) -> tuple[int, bytes]:
    """Event time of the newest remembered event, and the hash of its order id; -1 and b"" for an
    empty ledger."""
    if not ledger:
        return -1, b""
    layout, era = _HEAD.unpack_from(ledger)
    high, low, id_hash = _BEGIN.unpack_from(ledger, len(ledger) - WIDTHS[layout])
    return (era << ERA_BITS) + (high << 8 - KIND_BITS | low >> KIND_BITS), id_hash


def newest_ms(ledger: bytes) -> int:
    """Event time of the newest remembered event; -1 for an empty ledger."""
    return _ts_ms(ledger, len(ledger) - WIDTHS[ledger[0]]) if ledger else -1


def older(ledger: bytes, count: int) -> bytes:
    """The ledger without so many of its newest events."""
    return _tight(ledger[: len(ledger) - count * WIDTHS[ledger[0]]]) if count else ledger


def newest_order_alone(ledger: bytes) -> int | None:
    """Event time of the newest event, where that is an order of which no other event is remembered;
    else None."""
    if not ledger:
        return None
    at = len(ledger) - WIDTHS[ledger[0]]
    last = _read(ledger, at)
    alone = ledger.find(last.id_hash) == at + STAMP_BYTES
    return last.ts_ms if alone and last.type is OrderType.ORDER else None


def remembered(ledger: bytes, newest_ms: int, memory: IdMemory) -> tuple[bytes, int]:
    """The ledger without what is too old when its newest event is of this time, and the time of
    the newest event that is forgotten for it (-1: none is)."""
    return _without(ledger, 0, newest_ms - memory.days * MS_PER_DAY)


def bounded(ledger: bytes, memory: IdMemory) -> tuple[bytes, int]:
    """The ledger without events that are too many, and the time of the newest of those."""
    size, gone_ms = size_of(ledger), _FOREVER_AGO_MS
    if size > memory.size:
        # Of events of one instant all are remembered, or none, whatever the order they came in.
        last = HEAD_BYTES + (size - memory.size - 1) * WIDTHS[ledger[0]]
        gone_ms = min(_ts_ms(ledger, last), newest_ms(ledger) - RECENT_DAYS * MS_PER_DAY)
    return _without(ledger, max(0, size - MAX_EVENTS), gone_ms)


def _without(ledger: bytes, count: int, gone_ms: int) -> tuple[bytes, int]:
    """A ledger without so many of its oldest events, and without those up to a time."""
    if not ledger:
        return ledger, -1
    width = WIDTHS[ledger[0]]
    at = first = HEAD_BYTES + count * width
    while at < len(ledger) and _ts_ms(ledger, at) <= gone_ms:
        at += width
    if first == at == HEAD_BYTES:
        return ledger, -1
    return _tight(ledger[:HEAD_BYTES] + ledger[at:]), _ts_ms(ledger, at - width)


def entries_newest_first(ledger: bytes) -> Iterator[Entry]:
    """The remembered events, newest first."""
    if ledger:
        width = WIDTHS[ledger[0]]
        for at in range(len(ledger) - width, 0, -width):
            yield _read(ledger, at)


def entries(ledger: bytes) -> Sequence[Entry]:
    """The remembered events, oldest first."""
    return [*entries_newest_first(ledger)][::-1]


def _tight(ledger: bytes) -> bytes:
    """A ledger of which something was taken, as `of` has it."""
    if len(ledger) == HEAD_BYTES:
        return b""
    layout, era = _HEAD.unpack_from(ledger)
    most = ledger[HEAD_BYTES + AMOUNT_AT :: WIDTHS[ledger[0]]]
    loose = layout & ~IS_WIDE > _LEAST_AMOUNT and not most.strip(b"\0")
    if loose or _ts_ms(ledger, HEAD_BYTES) >> ERA_BITS != era:
        return of(entries_newest_first(ledger), wide=is_wide(ledger))
    return ledger


def _ts_ms(ledger: bytes, at: int) -> int:
    since = int.from_bytes(ledger[at : at + STAMP_BYTES], "big") >> KIND_BITS
    era = int.from_bytes(ledger[1:HEAD_BYTES], "big", signed=True)
    return (era << ERA_BITS) + since


def _record(entry: Entry, ledger: bytes) -> bytes:
    """The event as a record of a ledger that begins with these bytes. Raises OverflowError where
    it does not fit."""
    layout: int
    layout, era = _HEAD.unpack_from(ledger)
    stamp = entry.ts_ms - (era << ERA_BITS) << KIND_BITS | _KIND_OF[entry.type, entry.shift]
    narrow: bytes = (
        stamp.to_bytes(STAMP_BYTES, "big")
        + entry.id_hash
        + entry.amount_minor.to_bytes(layout & ~IS_WIDE, "big")
    )
    if not layout & IS_WIDE:
        return narrow
    return narrow + entry.refund_hash + (entry.updated_ms + 1).to_bytes(6, "big")


def _read(ledger: bytes, at: int) -> Entry:
    stamp = int.from_bytes(ledger[at : at + STAMP_BYTES], "big")
    kind, shift = KINDS[stamp & 7]
    amount_at = at + AMOUNT_AT
    end = amount_at + (ledger[0] & ~IS_WIDE)
    refund_hash, updated_ms = NO_REFUND_ID, -1
    if ledger[0] & IS_WIDE:
        refund_hash = ledger[end : end + HASH_BYTES]
        updated_ms = int.from_bytes(ledger[end + HASH_BYTES : end + _MARK_BYTES], "big") - 1
    return Entry(
        ledger[at + STAMP_BYTES : amount_at],
        _ts_ms(ledger, at),
        kind,
        int.from_bytes(ledger[amount_at:end], "big"),
        refund_hash,
        updated_ms,
        shift,
    )
