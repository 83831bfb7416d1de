"""Many customers' facts packed and unpacked as arrays: `features.facts.packed` has the format."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import numpy as np

from features.arrays import Bools, Ints
from features.events.orders import OrderType
from features.facts import buckets as day_buckets
from features.facts import packed
from features.facts.packed import (
    BEFORE_FIELDS,
    FORGOT,
    HAS_BEFORE,
    HASH_BYTES,
    IS_WIDE,
    MOST,
    ONE_EACH,
    SUMS,
    UNIT_BIT,
    UNITS_MS,
    VERSION,
    pack,
    unpack,
)
from features.facts.state import NOTHING_BEFORE, Before, CustomerState, StateError

_FIRST: Final = bytes([VERSION])
# Arrays cost more than they save below.
_FEW: Final = 24
_ENTRY: Final = np.dtype([("stamp", ">i8"), ("hash", "V8"), ("amount", ">i8")])


def pack_all(states: Sequence[CustomerState]) -> list[bytes]:
    """`pack` of each."""
    narrow = [state for state in states if not state.wide]
    if len(narrow) < _FEW:
        return [pack(state) for state in states]
    packed = iter(_pack_narrow(narrow))
    return [pack(state) if state.wide else next(packed) for state in states]


def _pack_narrow(states: Sequence[CustomerState]) -> list[bytes]:
    entries = np.frombuffer(b"".join([s.ledger for s in states]), _ENTRY)
    days = np.frombuffer(b"".join([s.buckets for s in states]), day_buckets.DTYPE)
    n = np.array([len(s.ledger) for s in states], np.int64) // _ENTRY.itemsize
    d = np.array([len(s.buckets) for s in states], np.int64) // day_buckets.RECORD_BYTES
    stamps, amounts = entries["stamp"].astype(np.int64), entries["amount"].astype(np.int64)
    unit = _units(stamps >> 2, n)
    counts, derived = _all_events_of_days(stamps, amounts, days, n, d)
    each = np.ones(len(states), bool)
    each[np.repeat(np.arange(len(states)), d)[counts != 1]] = False
    scale = np.repeat(np.array(UNITS_MS)[unit], n)
    pieces = [
        *_heads(states, n),
        (n, _all_steps((stamps >> 2) // scale << 2 | stamps & 3, n)),
        (n, amounts),
        (np.ones_like(d), d),
        (d, _all_steps(days["day"].astype(np.int64), d)),
        ((derived & ~each) * d, counts[np.repeat(derived & ~each, d)]),
    ]
    left = np.repeat(~derived, d)
    sums = ("orders", "gross", "refunded")
    pieces += [(~derived * d, days[name].astype(np.int64)[left]) for name in sums]
    numbers, sizes = _interleaved(pieces)
    negative = np.zeros(len(states), bool)
    negative[np.repeat(np.arange(len(states)), sizes)[numbers < 0]] = True
    data, ends = _all_lebs(np.abs(numbers), sizes)
    flags = unit << UNIT_BIT | HAS_BEFORE * (pieces[2][0] > 0) | FORGOT * pieces[1][0]
    flags |= np.where(derived, ONE_EACH * each, SUMS)
    hashes, found, at, of_hash = entries["hash"].tobytes(), [], 0, 0
    for state, end, flag, count, bad in zip(
        states, ends.tolist(), flags.tolist(), n.tolist(), negative.tolist(), strict=True
    ):
        end_hash = of_hash + count * HASH_BYTES
        packed = bytes((VERSION, flag)) + data[at:end] + hashes[of_hash:end_hash]
        found.append(pack(state) if bad else packed)
        at, of_hash = end, end_hash
    return found


def _heads(states: Sequence[CustomerState], n: Ints) -> list[tuple[Ints, Ints]]:
    """The first three pieces of `_interleaved`: how many events, what was forgotten, old days."""
    forgotten = np.array([state.forgotten_ms for state in states], np.int64)
    old = [state.before != NOTHING_BEFORE for state in states]
    summaries: list[int] = []
    for state, has in zip(states, old, strict=True):
        if has:
            summaries += msgspec.structs.astuple(state.before)
    return [
        (np.ones_like(n), n),
        ((forgotten != -1) * 1, forgotten[forgotten != -1]),
        (np.array(old, np.int64) * BEFORE_FIELDS, np.array(summaries, np.int64)),
    ]


def unpack_all(data: Sequence[bytes]) -> list[CustomerState | StateError]:
    """`unpack` of each, or what it raises."""
    plain = [one[:1] == _FIRST and len(one) > 2 and not one[1] & IS_WIDE for one in data]
    quick: list[CustomerState] | None = None
    if sum(plain) >= _FEW:
        with suppress(ValueError, IndexError, OverflowError):
            quick = _unpack_plain(
                [one for one, is_plain in zip(data, plain, strict=True) if is_plain]
            )
    found: list[CustomerState | StateError] = []
    unpacked = iter(quick or ())
    for one, is_plain in zip(data, plain, strict=True):
        try:
            found.append(next(unpacked) if is_plain and quick is not None else unpack(one))
        except StateError as error:
            found.append(error)
    return found


def _unpack_plain(data: Sequence[bytes]) -> list[CustomerState] | None:
    """Facts with narrow ledgers; None where one of them is damaged."""
    sizes = [one[2] if one[2] < 128 else packed.numbers_of(one, 2, 1)[0][0] for one in data]
    if any(len(one) < HASH_BYTES * size + 4 for one, size in zip(data, sizes, strict=True)):
        return None
    n, flags = np.array(sizes, np.int64), np.array([one[1] for one in data], np.int64)
    parts = [one[2 : len(one) - HASH_BYTES * size] for one, size in zip(data, sizes, strict=True)]
    numbers, count = _all_numbers(parts)
    end = np.cumsum(count)
    at = end - count

    def taken(size: Ints) -> Ints:
        nonlocal at
        if (size < 0).any() or (at + size > end).any():
            raise ValueError("more numbers than there are")
        shift = np.repeat(at - (np.cumsum(size) - size), size)
        at = at + size
        return np.asarray(numbers[np.arange(len(shift)) + shift], np.int64)

    taken(np.ones_like(n))
    forgot, old = flags & FORGOT != 0, flags & HAS_BEFORE != 0
    forgotten = np.full(len(data), -1)
    forgotten[forgot] = taken(forgot * 1)
    before = taken(old * BEFORE_FIELDS).reshape(-1, BEFORE_FIELDS).tolist()
    stamps = _all_summed(taken(n), n)
    amounts, d = taken(n), taken(np.ones_like(n))
    day = _all_summed(taken(d), d)
    derived = flags & SUMS == 0
    each = flags & ONE_EACH != 0
    counts = np.ones(len(day), np.int64)
    counts[np.repeat(derived & ~each, d)] = taken((derived & ~each) * d)
    if (_totals(counts, np.cumsum(d), d)[derived] != n[derived]).any():
        return None
    days = np.empty(len(day), day_buckets.DTYPE)
    days["day"] = day
    ours, mine = np.repeat(derived, d), np.repeat(derived, n)
    is_order = stamps & 3 == OrderType.ORDER
    ends = np.cumsum(counts[ours])
    for name, values in (
        ("orders", is_order * 1),
        ("gross", is_order * amounts),
        ("refunded", ~is_order * amounts),
    ):
        of_name = days[name]
        of_name[ours] = _totals(values[mine], ends, counts[ours])
        of_name[~ours] = taken(~derived * d)
    if (at != end).any():
        return None
    hashes = b"".join(
        [one[len(one) - HASH_BYTES * k :] for one, k in zip(data, sizes, strict=True)]
    )
    unit_ms = np.repeat(np.array(UNITS_MS)[flags >> UNIT_BIT & 3], n)
    entries = _entries((stamps >> 2) * unit_ms << 2 | stamps & 3, hashes, amounts)
    rows = iter(before)
    summaries = [Before(*next(rows)) if has else NOTHING_BEFORE for has in old.tolist()]
    return _cut(days, d, entries, n, summaries, forgotten.tolist())


def _entries(stamps: Ints, hashes: bytes, amounts: Ints) -> np.ndarray:
    """Events as they are in narrow ledgers."""
    entries = np.empty(len(stamps), _ENTRY)
    entries["stamp"], entries["amount"] = stamps, amounts
    entries["hash"] = np.frombuffer(hashes, "V8")
    return entries


def _cut(
    days: np.ndarray,
    d: Ints,
    entries: np.ndarray,
    n: Ints,
    before: Sequence[Before],
    forgotten_ms: Sequence[int],
) -> list[CustomerState]:
    """The facts of each, of all buckets and of all events."""
    bucket_bytes, ledger_bytes = days.tobytes(), entries.tobytes()
    bucket_ends = (np.cumsum(d) * day_buckets.RECORD_BYTES).tolist()
    ledger_ends = (np.cumsum(n) * _ENTRY.itemsize).tolist()
    found, bucket_at, ledger_at = [], 0, 0
    for bucket_end, ledger_end, summary, forgotten in zip(
        bucket_ends, ledger_ends, before, forgotten_ms, strict=True
    ):
        buckets, ledger = bucket_bytes[bucket_at:bucket_end], ledger_bytes[ledger_at:ledger_end]
        found.append(CustomerState(buckets, ledger, summary, forgotten))
        bucket_at, ledger_at = bucket_end, ledger_end
    return found


def _units(ts_ms: Ints, n: Ints) -> Ints:
    """The largest unit of which all times of each customer are whole numbers."""
    unit = np.full(len(n), len(UNITS_MS) - 1)
    row = np.repeat(np.arange(len(n)), n)
    for u in range(len(UNITS_MS) - 1, 0, -1):
        unit[row[ts_ms % UNITS_MS[u] != 0]] = u - 1
    return unit


def _all_events_of_days(
    stamps: Ints, amounts: Ints, days: np.ndarray, n: Ints, d: Ints
) -> tuple[Ints, Bools]:
    """`_events_of_days` of all, and of whom it is not None; counts of others mean nothing."""
    orders = stamps & 3 == OrderType.ORDER
    refunds = stamps & 3 == OrderType.REFUND
    plain = (orders | refunds & (amounts != 0)) & (amounts >= 0) & (amounts < MOST)
    of_day = [days[name].astype(np.int64) for name in ("orders", "gross", "refunded")]
    small = (of_day[1] >= 0) & (of_day[1] < MOST) & (of_day[2] >= 0) & (of_day[2] < MOST)
    of_event = [orders * 1, orders * amounts, refunds * amounts]
    entry_ends, day_ends = np.cumsum(n), np.cumsum(d)
    good = _none(~plain, entry_ends, n) & _none(~small, day_ends, d)
    for event, day in zip(of_event, of_day, strict=True):
        good &= _totals(event, entry_ends, n) == _totals(day, day_ends, d)
    counts = np.zeros(len(days), np.int64)
    mine, ours = np.repeat(good, n), np.repeat(good, d)
    if not ours.any():
        return counts, good & (n == 0) & (d == 0)
    running = [np.append(0, np.cumsum(event[mine])) for event in of_event]
    wanted = [np.cumsum(day[ours]) for day in of_day]
    cut = np.maximum(*(np.searchsorted(running[k], wanted[k]) for k in (0, 2)))
    counts[ours] = np.diff(cut, prepend=0)
    wrong = np.zeros(len(cut), bool)
    for have, want in zip(running, wanted, strict=True):
        wrong |= have[cut] != want
    row = np.repeat(np.arange(len(d)), d)[ours]
    good[row[wrong | (counts[ours] < 1)]] = False
    return counts, good


def _none(what: Bools, ends: Ints, sizes: Ints) -> Bools:
    return np.asarray(_totals(what * 1, ends, sizes) == 0, bool)


def _totals(values: Ints, ends: Ints, sizes: Ints) -> Ints:
    running = np.append(0, np.cumsum(values))
    return np.asarray(running[ends] - running[ends - sizes], np.int64)


def _all_summed(steps: Ints, sizes: Ints) -> Ints:
    """The values whose `_all_steps` these are."""
    running = np.cumsum(steps)
    start = np.cumsum(sizes) - sizes
    some = sizes > 0
    return np.asarray(
        running - np.repeat(running[start[some]] - steps[start[some]], sizes[some]), np.int64
    )


def _all_steps(values: Ints, sizes: Ints) -> Ints:
    steps = np.diff(values, prepend=0)
    starts = (np.cumsum(sizes) - sizes)[sizes > 0]
    steps[starts] = values[starts]
    return steps


def _interleaved(pieces: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """What each customer has in all pieces, one customer after the other, and how many that is;
    of a piece, how much of it is whose, and all of it."""
    sizes = np.sum([size for size, _ in pieces], axis=0)
    numbers = np.zeros(int(sizes.sum()), np.int64)
    at = np.cumsum(sizes) - sizes
    for size, values in pieces:
        shift = np.repeat(at - (np.cumsum(size) - size), size)
        numbers[np.arange(len(shift)) + shift] = values
        at = at + size
    return numbers, sizes


def _all_lebs(numbers: Ints, sizes: Ints) -> tuple[bytes, Ints]:
    """All numbers, and where those of each customer end."""
    length, most = np.ones(len(numbers), np.int64), int(numbers.max(initial=0))
    for bits in range(7, most.bit_length() + 1, 7):
        length += numbers >= 1 << bits
    after = np.cumsum(length)
    found = np.empty(int(length.sum()), np.uint8)
    left, at = numbers, after - length
    while len(left):
        more = left > 127
        found[at] = left & 127 | more << 7
        left, at = left[more] >> 7, at[more] + 1
    return found.tobytes(), np.append(0, after)[np.cumsum(sizes)]


def _all_numbers(parts: Sequence[bytes]) -> tuple[Ints, Ints]:
    """What `_all_lebs` wrote, and how many numbers each part has."""
    data = np.frombuffer(b"".join(parts), np.uint8)
    last = data < 128
    ends = np.flatnonzero(last) + 1
    size = np.array([len(part) for part in parts], np.int64)
    count = _totals(last * 1, np.cumsum(size), size)
    numbers = np.zeros(len(ends), np.int64)
    at, place, shift = np.append(0, ends[:-1])[: len(ends)], np.arange(len(ends)), 0
    while len(at):
        value = data[at].astype(np.int64)
        numbers[place] |= (value & 127) << shift
        more = value > 127
        at, place, shift = at[more] + 1, place[more], shift + 7
    return numbers, count
