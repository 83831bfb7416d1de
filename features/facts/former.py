"""Facts as former versions stored them, to be read.

Versions 1 and 2 wrote a header, day buckets and records of 24 or 40 bytes as they are. Version 3
wrote numbers as LEB128 (seven bits a byte, the lowest first), times and days as differences, times
in the largest unit of which all of a customer's are whole:

    version, flags; then as LEB128: events n; the newest forgotten instant and the summary of old
    days if there are any; n stamps (time and type), n amounts, and of a wide ledger n `updated_at`;
    days d, d days; and d numbers of events, or else d orders, d gross and d refunded sums
    n id hashes of 8 bytes, and of a wide ledger n of refund ids
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from features.events.orders import OrderType
from features.facts import buckets as day_buckets
from features.facts import ledger as order_ledger
from features.facts.ledger import KINDS, NO_REFUND_ID, Entry
from features.facts.state import NOTHING_BEFORE, Before, CustomerState, StateError, StateNewer
from features.times import MS_PER_DAY

NEWEST: Final = 3
_UNPACKED_HAS_BEFORE, _UNPACKED_IS_WIDE = 1, 2
_HEADER: Final = struct.Struct("<BBIIq")
_BEFORE: Final = struct.Struct("<qqqqiiqqq")
_NARROW: Final = struct.Struct(">q8sq")
_WIDE: Final = struct.Struct(">q8sq8sq")
_HAS_BEFORE, _IS_WIDE, _FORGOT, _SUMS, _ONE_EACH = 1, 2, 4, 8, 16
_UNIT_BIT: Final = 5
_UNITS_MS: Final = (1, 1_000, 60_000, MS_PER_DAY)
_HASH_BYTES: Final = 8
_BEFORE_FIELDS: Final = len(Before.__struct_fields__)


def read(data: bytes) -> CustomerState:
    """The facts that a former version wrote. Raises StateNewer, and StateError for anything
    else."""
    if not data:
        raise StateError("the state is empty")
    if data[0] > NEWEST:
        raise StateNewer("state", data[0], NEWEST)
    try:
        return _packed(data) if data[0] == NEWEST else _unpacked(data)
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise StateError(f"the state cannot be read: {error}") from None


def _unpacked(data: bytes) -> CustomerState:
    # Version 1 had no wide ledgers, and is otherwise the same.
    known = _UNPACKED_HAS_BEFORE | (_UNPACKED_IS_WIDE if data[0] > 1 else 0)
    if not data[0] or data[1:2] > bytes([known]):
        raise StateError(f"the state begins with {data[:2]!r}, which no version wrote")
    _, flags, bucket_bytes, ledger_bytes, forgotten_ms = _HEADER.unpack_from(data)
    at, before = _HEADER.size, NOTHING_BEFORE
    if flags & _UNPACKED_HAS_BEFORE:
        before = Before(*_BEFORE.unpack_from(data, at))
        at += _BEFORE.size
    end, wide = at + bucket_bytes + ledger_bytes, bool(flags & _UNPACKED_IS_WIDE)
    if end != len(data) or bucket_bytes % day_buckets.RECORD_BYTES:
        raise StateError(f"the state has {len(data)} bytes where its header says {end}")
    records = (_WIDE if wide else _NARROW).iter_unpack(data[at + bucket_bytes :])
    return _state(data[at : at + bucket_bytes], list(records), before, forgotten_ms, wide=wide)


def _packed(data: bytes) -> CustomerState:
    flags = data[1]
    numbers, end = _numbers(data, 2, 1)
    n, wide = numbers[0], bool(flags & _IS_WIDE)
    hashed = n * _HASH_BYTES * (1 + wide)
    heads = bool(flags & _FORGOT) + _BEFORE_FIELDS * bool(flags & _HAS_BEFORE)
    numbers, end = _numbers(data, end, heads + n * (2 + wide) + 1)
    forgotten_ms = numbers.pop(0) if flags & _FORGOT else -1
    before = NOTHING_BEFORE
    if flags & _HAS_BEFORE:
        before = Before(*numbers[:_BEFORE_FIELDS])
        del numbers[:_BEFORE_FIELDS]
    unit_ms = _UNITS_MS[flags >> _UNIT_BIT & 3]
    stamps = [(at >> 2) * unit_ms << 2 | at & 3 for at in accumulate(numbers[:n])]
    amounts = numbers[n : 2 * n]
    updated = [at - 1 for at in numbers[2 * n : 3 * n]] if wide else [-1] * n
    d = numbers[-1]
    each = 3 if flags & _SUMS else not flags & _ONE_EACH
    numbers, end = _numbers(data, end, d * (1 + each))
    if end + hashed != len(data):
        raise StateError(f"the state has {len(data)} bytes, and {end + hashed} by its numbers")
    days, more = list(accumulate(numbers[:d])), numbers[d:]
    hashes = [data[at : at + _HASH_BYTES] for at in range(end, len(data), _HASH_BYTES)]
    refunds = hashes[n:] if wide else [NO_REFUND_ID] * n
    records = list(zip(stamps, hashes[:n], amounts, refunds, updated, strict=True))
    if flags & _SUMS:
        sums = list(zip(more[:d], more[d : 2 * d], more[2 * d :], strict=True))
    else:
        sums = _sums_of_days(more or [1] * d, records)
    buckets = [day_buckets.record(day, *of_day) for day, of_day in zip(days, sums, strict=True)]
    return _state(b"".join(buckets), records, before, forgotten_ms, wide=wide)


def _sums_of_days(
    counts: Sequence[int], records: Sequence[tuple[int, bytes, int, bytes, int]]
) -> list[tuple[int, int, int]]:
    """What the events make of days that have so many of them each."""
    if sum(counts) != len(records):
        raise StateError(f"the state has {len(records)} events, and days of {sum(counts)}")
    found, at = [], 0
    for count in counts:
        of_day = [(stamp & 3, amount) for stamp, _, amount, _, _ in records[at : at + count]]
        gross = [amount for kind, amount in of_day if kind == OrderType.ORDER]
        found.append((len(gross), sum(gross), sum(amount for _, amount in of_day) - sum(gross)))
        at += count
    return found


def _state(
    buckets: bytes,
    records: Sequence[Sequence[object]],
    before: Before,
    forgotten_ms: int,
    *,
    wide: bool,
) -> CustomerState:
    """The facts of these buckets and of records of time and type, hash, amount, and of a wide
    ledger refund hash and `updated_at`."""
    size = day_buckets.RECORD_BYTES
    days = {day_buckets.read(buckets, at).day for at in range(0, len(buckets), size)}
    entries = [_entry(days, *record) for record in records]  # type: ignore[arg-type]
    return CustomerState(buckets, order_ledger.of(entries, wide=wide), before, forgotten_ms)


def _entry(
    days: set[int],
    stamp: int,
    id_hash: bytes,
    amount: int,
    refund: bytes = NO_REFUND_ID,
    at: int = -1,
) -> Entry:
    ts_ms, kind = stamp >> 2, OrderType(stamp & 3)
    # Which day of the shop an event was counted on is not written, but nearly always seen.
    shifts = [shift for shift in (0, 1, -1) if (kind, shift) in KINDS]
    shift = next((one for one in shifts if ts_ms // MS_PER_DAY + one in days), 0)
    return Entry(id_hash, ts_ms, kind, amount, refund, at, shift)


def _numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
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
