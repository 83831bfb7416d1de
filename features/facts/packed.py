"""Customers' facts as few bytes, as they are stored.

What a ledger says of a day is not said again: where the sums of the day buckets are those of the
events, as of nearly every customer who is not older than the id memory, a bucket is its day and how
many events it is of. Whole numbers are LEB128: seven bits a byte, the lowest first. Times and days
are differences; times are counted in days, minutes or seconds where all of a customer's are whole
ones.

    version, flags; then as LEB128: events n; the newest forgotten instant and the summary of old
    days if there are any; n stamps (time and type), n amounts, and of a wide ledger n `updated_at`;
    days d, d days; and d numbers of events, or else d orders, d gross and d refunded sums
    n id hashes of 8 bytes, and of a wide ledger n of refund ids

Facts with a negative number in them are stored as `features.facts.state.encode` has them. What is
here for one customer `features.facts.packed_many` does for many, as arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from features.events.orders import OrderType
from features.facts import buckets as day_buckets
from features.facts import ledger as order_ledger
from features.facts import state as facts
from features.facts.state import NOTHING_BEFORE, Before, CustomerState, StateError, StateNewer
from features.times import MS_PER_DAY

VERSION: Final = 3
HAS_BEFORE, IS_WIDE, FORGOT, SUMS, ONE_EACH = 1, 2, 4, 8, 16
UNIT_BIT: Final = 5
UNITS_MS: Final = (1, 1_000, 60_000, MS_PER_DAY)
HASH_BYTES: Final = 8
# Below it sums of a batch stay exact.
MOST: Final = 2**40
_ORDER, _REFUND = int(OrderType.ORDER), int(OrderType.REFUND)
BEFORE_FIELDS: Final = len(Before.__struct_fields__)


def pack(state: CustomerState) -> bytes:
    """The facts as bytes; equal facts give equal bytes."""
    events = order_ledger.fields(state.ledger, state.wide)
    stamps = [event[0] for event in events]
    size = day_buckets.RECORD_BYTES
    days = [day_buckets.read(state.buckets, at) for at in range(0, len(state.buckets), size)]
    unit = len(UNITS_MS) - 1
    while any((stamp >> 2) % UNITS_MS[unit] for stamp in stamps):
        unit -= 1
    counts = _events_of_days(events, days)
    flags = unit << UNIT_BIT
    numbers = [len(events)]
    if state.forgotten_ms != -1:
        flags |= FORGOT
        numbers.append(state.forgotten_ms)
    if state.before != NOTHING_BEFORE:
        flags |= HAS_BEFORE
        numbers += msgspec.structs.astuple(state.before)
    unit_ms = UNITS_MS[unit]
    numbers += _steps([(stamp >> 2) // unit_ms << 2 | stamp & 3 for stamp in stamps])
    numbers += [event[2] for event in events]
    if state.wide:
        flags |= IS_WIDE
        numbers += [event[4] + 1 for event in events]
    numbers.append(len(days))
    numbers += _steps([one.day for one in days])
    if counts is None:
        flags |= SUMS
        numbers += [one.orders for one in days]
        numbers += [one.gross for one in days]
        numbers += [one.refunded for one in days]
    elif all(count == 1 for count in counts):
        flags |= ONE_EACH
    else:
        numbers += counts
    if min(numbers) < 0:
        return facts.encode(state)
    hashes = [event[1] for event in events]
    if state.wide:
        hashes += [event[3] for event in events]
    return bytes((VERSION, flags)) + _lebs(numbers) + b"".join(hashes)


def unpack(data: bytes) -> CustomerState:
    """The facts that `pack`, or the version before, wrote. Raises StateNewer, and StateError for
    anything else."""
    if data[:1] != bytes([VERSION]):
        if data[:1] > bytes([VERSION]):
            raise StateNewer("state", data[0], VERSION)
        return facts.decode(data)
    try:
        return _unpacked(data)
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise StateError(f"the state cannot be read: {error}") from None


def _unpacked(data: bytes) -> CustomerState:
    flags = data[1]
    numbers, end = numbers_of(data, 2, 1)
    n, wide = numbers[0], bool(flags & IS_WIDE)
    hashed = n * HASH_BYTES * (1 + wide)
    heads = bool(flags & FORGOT) + BEFORE_FIELDS * bool(flags & HAS_BEFORE)
    numbers, end = numbers_of(data, end, heads + n * (2 + wide) + 1)
    forgotten_ms = numbers.pop(0) if flags & FORGOT else -1
    before = NOTHING_BEFORE
    if flags & HAS_BEFORE:
        before = Before(*numbers[:BEFORE_FIELDS])
        del numbers[:BEFORE_FIELDS]
    stamps, amounts = _summed(numbers[:n]), numbers[n : 2 * n]
    updated = numbers[2 * n : 3 * n] if wide else [0] * n
    d = numbers[-1]
    each = 3 if flags & SUMS else not flags & ONE_EACH
    numbers, end = numbers_of(data, end, d * (1 + each))
    if end + hashed != len(data):
        raise StateError(f"the state has {len(data)} bytes, and {end + hashed} by its numbers")
    days, more = _summed(numbers[:d]), numbers[d:]
    unit_ms = UNITS_MS[flags >> UNIT_BIT & 3]
    hashes = [data[at : at + HASH_BYTES] for at in range(end, len(data), HASH_BYTES)]
    entries = [
        order_ledger.Entry(
            hashes[i],
            (stamps[i] >> 2) * unit_ms,
            OrderType(stamps[i] & 3),
            amounts[i],
            hashes[n + i] if wide else order_ledger.NO_REFUND_ID,
            updated[i] - 1,
        )
        for i in range(n)
    ]
    if not flags & SUMS and sum(more or [1] * d) != n:
        raise StateError(f"the state has {n} events, and days of {sum(more) or d}")
    if flags & SUMS:
        records = list(zip(days, more[:d], more[d : 2 * d], more[2 * d :], strict=True))
    else:
        records = _sums_of_days(days, more or [1] * d, entries)
    return CustomerState(
        b"".join(day_buckets.record(*one) for one in records),
        b"".join(order_ledger.record(entry, wide) for entry in entries),
        before,
        forgotten_ms,
        wide,
    )


def _events_of_days(
    events: Sequence[tuple[int, bytes, int, bytes, int]], days: Sequence[day_buckets.Bucket]
) -> list[int] | None:
    """How many events each day's sums are of, where they are the sums of all events in their
    order; else None."""
    counts, at = [], 0
    for day in days:
        orders = gross = refunded = 0
        begin = at
        while at < len(events) and (orders < day.orders or refunded < day.refunded):
            stamp, _, amount, _, _ = events[at]
            kind = stamp & 3
            if not 0 <= amount < MOST or kind not in (_ORDER, _REFUND):
                return None
            if kind == _ORDER:
                orders += 1
                gross += amount
            elif not amount:
                return None
            else:
                refunded += amount
            at += 1
        if (orders, gross, refunded) != (day.orders, day.gross, day.refunded):
            return None
        counts.append(at - begin)
    return counts if at == len(events) else None


def _with(sums: tuple[int, int, int], entry: order_ledger.Entry) -> tuple[int, int, int]:
    orders, gross, refunded = sums
    if entry.type is OrderType.ORDER:
        return orders + 1, gross + entry.amount_minor, refunded
    return orders, gross, refunded + entry.amount_minor


def _sums_of_days(
    days: Sequence[int], counts: Sequence[int], entries: Sequence[order_ledger.Entry]
) -> list[tuple[int, int, int, int]]:
    """What `_events_of_days` left out."""
    found: list[tuple[int, int, int, int]] = []
    at = 0
    for day, count in zip(days, counts, strict=True):
        sums = (0, 0, 0)
        for entry in entries[at : at + count]:
            sums = _with(sums, entry)
        found.append((day, *sums))
        at += count
    return found


def _steps(values: Sequence[int]) -> list[int]:
    return [value - before for value, before in zip(values, [0, *values], strict=False)]


def _summed(steps: Iterable[int]) -> list[int]:
    found: list[int] = []
    value = 0
    for step in steps:
        value += step
        found.append(value)
    return found


def _lebs(numbers: Sequence[int]) -> bytes:
    found = bytearray()
    for number in numbers:
        while number > 127:
            found.append(number & 127 | 128)
            number >>= 7
        found.append(number)
    return bytes(found)


def numbers_of(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """So many numbers from a place on, and where they end. Raises StateError."""
    found: list[int] = []
    while len(found) < count:
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise StateError(f"the state is cut off after {len(data)} bytes")
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        found.append(value)
    return found, at
