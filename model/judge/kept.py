"""Many customers kept: as arrays from one batch to the next, and as bytes in the store.

`encoded` and `read` do for many what `model.decide.codec` does for one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from features.arrays import Bools, Ints, flat_places
from features.facts import buckets, counted
from features.facts import ledger as order_ledger
from features.facts.counted import NO_DAY
from features.facts.ledger import AMOUNT_AT, ERA_BITS, HASH_BYTES, HEAD_BYTES, KIND_BITS
from features.facts.state import NOTHING_BEFORE, StateError
from model.decide import codec
from model.decide.codec import (
    ARMED,
    CHECKSUM_BYTES,
    FIXED,
    HAS_REST,
    INTACT,
    NO_REST,
    PEAK,
    SWAPPED,
    CustomerDamaged,
    CustomerRecord,
    Rest,
)
from model.judge.customers import (
    BEFORE,
    BOUGHT,
    NEVER,
    NUMBERS,
    OBJECTS,
    UNSEEN,
    CustomerArrays,
)
from model.judge.judged import ScheduledCustomer

# So much room at first, and of who has to go so large a share at once.
_FIRST: Final = 1_024
_SHARE: Final = 8
# The flat arrays of customers, where in one a customer's part begins and how much it is.
_FLATS: Final = (("buckets", "bucket_at", "buckets"), ("peaks", "peak_at", "peaks"))


class KeptCustomers:
    """Customers by user id, at most `room`: who was not asked for the longest goes first.

    What has changed of a customer's buckets and peaks is put at the end of the flat arrays; what it
    leaves behind is thrown out once that is more than half.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self.clear()

    def clear(self) -> None:
        """Keeps nobody any more."""
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._used: Ints = np.zeros(0, np.int64)
        self._asked = 0
        self._kept = CustomerArrays.of(())
        self._filled = dict.fromkeys(("buckets", "peaks"), 0)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._slots

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which they were first kept."""
        return iter(self._slots)

    def column(self, name: str) -> Any:
        """A column of all customers, in their order."""
        return self._kept[name][np.fromiter(self._slots.values(), np.int64, len(self._slots))]

    def due(self, until_ms: int) -> list[str]:
        """Who is due at an instant or before."""
        due_ms = self._kept["due_ms"]
        due = self._kept["user"][(due_ms != NEVER) & (due_ms <= until_ms)].tolist()
        return [user for user in due if user is not None]

    def take(self, users: Sequence[str]) -> CustomerArrays:
        """Some of those who are kept, in this order."""
        slots = np.fromiter(map(self._slots.__getitem__, users), np.int64, len(users))
        self._asked += 1
        self._used[slots] = self._asked
        return self._kept.take(slots)

    def put(self, customers: CustomerArrays, changed: Bools) -> None:
        """Keeps customers as they are now; of those who were kept and are not `changed` only the
        due time may have."""
        if len(customers) > self._room:
            last = np.arange(len(customers) - self._room, len(customers))
            customers, changed = customers.take(last), changed[last]
        users = customers.users
        slots = np.array([self._slots.get(user, -1) for user in users], np.int64)
        known = slots >= 0
        new = np.flatnonzero(~known)
        if len(new):
            self._make_room(len(new), slots[known])
            slots[new] = [self._free.pop() for _ in new]
            self._slots.update(zip([users[at] for at in new], slots[new].tolist(), strict=True))
        self._asked += 1
        self._used[slots] = self._asked
        self._kept["due_ms"][slots] = customers["due_ms"]
        whole = np.flatnonzero(changed | ~known)
        if not len(whole):
            return
        slots = slots[whole]
        self._kept.numbers[slots] = customers.numbers[whole]
        self._kept.objects[slots] = customers.objects[whole]
        for flat, at, number in _FLATS:
            count = customers[number][whole]
            # Nothing of theirs is in use until they have their places.
            self._kept[number][slots] = 0
            start = self._append(
                (flat, at, number),
                getattr(customers, flat)[flat_places(customers[at][whole], count)],
            )
            self._kept[at][slots] = start + np.cumsum(count) - count
            self._kept[number][slots] = count

    def forget(self, user_id: str) -> None:
        """Keeps a customer no more."""
        slot = self._slots.pop(user_id, None)
        if slot is not None:
            self._freed([slot])

    def _make_room(self, wanted: int, busy: Ints) -> None:
        """Frees as many slots, none of the busy ones."""
        over = len(self._slots) + wanted - self._room
        if over > 0:
            idle = np.setdiff1d(np.fromiter(self._slots.values(), np.int64), busy)
            gone = min(max(over, self._room // _SHARE), len(idle))
            oldest = idle[np.argsort(self._used[idle], kind="stable")[:gone]].tolist()
            for user in self._kept["user"][oldest].tolist():
                del self._slots[user]
            self._freed(oldest)
        size = len(self._used)
        if len(self._free) < wanted:
            more = max(min(2 * size, self._room), _FIRST, len(self._slots) + wanted) - size
            kept = self._kept
            self._kept = CustomerArrays(
                np.concatenate([kept.numbers, np.zeros((more, kept.numbers.shape[1]), np.int64)]),
                np.concatenate([kept.objects, np.full((more, kept.objects.shape[1]), None)]),
                kept.buckets,
                kept.peaks,
            )
            self._used = np.concatenate([self._used, np.zeros(more, np.int64)])
            self._free += range(size, size + more)

    def _freed(self, slots: list[int]) -> None:
        self._free += slots
        self._kept.objects[slots] = None
        for _, _, number in _FLATS:
            self._kept[number][slots] = 0

    def _append(self, names: tuple[str, str, str], values: Ints) -> int:
        """Puts values at the end of a flat array; returns where they begin."""
        flat, at, number = names
        kept, start = self._kept, self._filled[flat]
        if start + len(values) > len(getattr(kept, flat)):
            # Parts of the customers, one after the other, with as much again behind them.
            count = kept[number]
            parts = getattr(kept, flat)[flat_places(kept[at], count)]
            kept[at][:] = np.cumsum(count) - count
            start = len(parts)
            grown = np.zeros((2 * (start + len(values)) + _FIRST, parts.shape[1]), np.int64)
            grown[:start] = parts
            arrays = {name: getattr(kept, name) for name, _, _ in _FLATS} | {flat: grown}
            self._kept = kept = CustomerArrays(kept.numbers, kept.objects, **arrays)
        if len(values):
            getattr(kept, flat)[start : start + len(values)] = values
        self._filled[flat] = start + len(values)
        return start


_PEAKS: Final = np.dtype([("day", "<u2"), ("clv", "<u4")])
_VERSION: Final = bytes([codec.CUSTOMER_VERSION])
_NOBODY: Final = CustomerArrays.of([("", ScheduledCustomer(codec.UNKNOWN, None))])
_MOST_PEAK_BYTES: Final = 255 * PEAK.size
# How a ledger's record begins: time and kind are the upper five bytes of the stamp.
_NEWEST: Final = np.dtype({"names": ["stamp"], "formats": [">u8"], "itemsize": AMOUNT_AT})


def encoded(customers: CustomerArrays, places: Ints) -> list[bytes]:
    """What `codec.encode` makes of some of them. Looks up uneven days that nobody did yet."""
    for place in places[customers["uneven_day"][places] == UNSEEN].tolist():
        facts = customers.facts_of(place)
        customers["uneven_day"][place] = counted.uneven_day(facts.buckets, facts.ledger)
    peaks = np.empty(len(customers.peaks), _PEAKS)
    day, clv_minor = customers.peaks.T
    peaks["day"], peaks["clv"] = day, clv_minor
    fit = bool(((peaks["day"] == day) & (peaks["clv"] == clv_minor)).all())
    packed, found = peaks.tobytes(), list[bytes]()
    summarised = np.any(customers.numbers[places, BEFORE], axis=1)
    for row, (_, ledger, version, episode_id, raised), has_before in zip(
        customers.numbers[places, : BEFORE.start].tolist(),
        customers.objects[places].tolist(),
        summarised.tolist(),
        strict=True,
    ):
        bucket_at, bucket_count, at, count, _, _, _, _, forgotten_ms, uneven, *rule = row
        told: bytes | list[int] = packed[at * PEAK.size : (at + count) * PEAK.size]
        if not fit or len(told) > _MOST_PEAK_BYTES:
            told = codec.peaks_of(customers.peaks[at : at + count].tolist())
        before, days = NOTHING_BEFORE, b""
        if has_before:
            before = customers.facts_of(int(places[len(found)])).before
        if uneven != NO_DAY:
            days = customers.buckets[bucket_at : bucket_at + bucket_count].tobytes()
        found.append(
            codec.framed(
                version,
                episode_id,
                raised,
                rule,
                told,
                (ledger, forgotten_ms, before),
                uneven,
                days,
            )
        )
    return found


def read(
    users: Sequence[str], data: Sequence[bytes | None], due_ms: Sequence[int | None]
) -> tuple[CustomerArrays, dict[int, StateError]]:
    """The customers in what is stored, without those for whom `codec.decode` raises: what it does,
    by place; CustomerDamaged also for who is due and has no state, as both are written together."""
    rows, new, odd = dict[int, _Row](), list[int](), list[int]()
    for place, one in enumerate(data):
        row = None
        if one is None:
            (new if due_ms[place] is None else odd).append(place)
            continue
        if one[:1] == _VERSION and zlib.crc32(one) == INTACT:
            row = _row(one)
        if row is None:
            odd.append(place)
        else:
            rows[place] = row
    refused: dict[int, StateError] = {}
    tracks: list[tuple[str, ScheduledCustomer]] = []
    places = [*rows, *new]
    for place in odd:
        try:
            if (one := data[place]) is None:
                raise CustomerDamaged("the state is missing")
            customer = codec.decode(one)
        except StateError as error:
            refused[place] = error
            continue
        tracks.append((users[place], ScheduledCustomer(customer, None)))
        places.append(place)
    parts = [_arrays(list(rows.values()))] if rows else []
    parts += [unknown([users[at] for at in new])] if new else []
    parts += [CustomerArrays.of(tracks)] if tracks or not parts else []
    made = CustomerArrays.together(parts)
    made["user"][:] = [users[place] for place in places]
    made["due_ms"][:] = [NEVER if due_ms[at] is None else due_ms[at] for at in places]
    if len(parts) == 1:
        return made, refused
    return made.take(np.argsort(np.array(places), kind="stable")), refused


def unknown(users: Sequence[str]) -> CustomerArrays:
    """Customers of whom nothing is known."""
    made = _NOBODY.take(np.zeros(len(users), np.int64))
    made["user"][:] = users
    return made


def records(data: Sequence[bytes]) -> list[CustomerRecord | StateError]:
    """`codec.decode` of each, in a fraction of the time, or what it raises."""
    made, refused = read([""] * len(data), data, [None] * len(data))
    places = iter(range(len(made)))
    return [refused.get(at) or made.track(next(places)).customer for at in range(len(data))]


class _Row(NamedTuple):
    """A customer's bytes taken apart: `newest` is what the ledger has of the newest event up to its
    order's hash, `days` the buckets that are stored."""

    flags: int
    floor_minor: int
    model: bytes
    peaks: bytes
    ledger: bytes
    newest: bytes
    rest: Rest = NO_REST
    days: bytes = b""


def _row(data: bytes) -> _Row | None:
    """Bytes that fit their checksum taken apart; None of what is odd, which is left to
    `codec.decode`."""
    if len(data) <= FIXED.size + CHECKSUM_BYTES:
        return None
    _, flags, count, floor, model = FIXED.unpack_from(data)
    at = end = FIXED.size + count * PEAK.size
    rest, days = NO_REST, b""
    if flags & HAS_REST:
        try:
            rest, end = codec.rest_at(data, at)
            days = codec.days_of(rest)
        except (ValueError, struct.error):
            return None
        if rest.peaks is not None or rest.floor_minor is not None:
            return None
    ledger = data[end:-CHECKSUM_BYTES]
    if not ledger or not order_ledger.is_whole(ledger):
        return None
    width = order_ledger.WIDTHS[ledger[0]]
    newest = ledger[-width : len(ledger) - width + _NEWEST.itemsize]
    return _Row(flags, floor - 1, model, data[FIXED.size : at], ledger, newest, rest, days)


def _arrays(rows: Sequence[_Row]) -> CustomerArrays:
    """The customers of rows, but for users and due times."""
    flags, floors, models, peaks, ledgers, newest, rests, days = zip(*rows, strict=True)
    odd = [at for at, rest in enumerate(rests) if rest is not NO_REST]
    uneven = np.full(len(rows), NO_DAY)
    uneven[odd] = [codec.uneven_of(rests[at]) for at in odd]
    owner, flat = counted.counted_all(ledgers, uneven)
    stored = np.array([len(one) for one in days], np.int64) // buckets.RECORD_BYTES
    if stored.any():
        owner = np.append(np.repeat(np.arange(len(rows)), stored), owner)
        order = np.argsort(owner, kind="stable")
        flat = np.append(np.frombuffer(b"".join(days), buckets.DTYPE), flat)[order]
        owner = owner[order]
    pairs = np.frombuffer(b"".join(peaks), _PEAKS)
    made = CustomerArrays(
        np.zeros((len(rows), len(NUMBERS)), np.int64),
        np.empty((len(rows), OBJECTS), object),
        flat.view(np.int64).reshape(-1, buckets.RECORD_BYTES // 8),
        np.stack([pairs["day"].astype(np.int64), pairs["clv"].astype(np.int64)], axis=1),
    )
    count = np.bincount(owner, minlength=len(rows))
    made["bucket_at"][:], made["buckets"][:] = np.cumsum(count) - count, count
    count = np.array([len(one) for one in peaks], np.int64) // PEAK.size
    made["peak_at"][:], made["peaks"][:] = np.cumsum(count) - count, count
    last = np.frombuffer(b"".join(newest), _NEWEST)
    eras = np.frombuffer(b"".join([one[1:HEAD_BYTES] for one in ledgers]), ">i2").astype(np.int64)
    newest_ms = (eras << ERA_BITS) + (last["stamp"] >> 24 + KIND_BITS).astype(np.int64)
    made["as_of_ms"][:], made["episode_ms"][:] = newest_ms, newest_ms
    made["armed"][:] = [flag & ARMED for flag in flags]
    made["swapped"][:] = [flag & SWAPPED > 0 for flag in flags]
    made["floor_minor"][:] = floors
    made["deferred_since_ms"][:] = made["quiet_until_day"][:] = made["forgotten_ms"][:] = -1
    made["uneven_day"][:] = uneven
    names = {model: model.hex() for model in set(models)}
    made["ledger"][:] = ledgers
    made["model_version"][:] = [names[model] for model in models]
    made["episode_id"][:] = [one[-HASH_BYTES:] for one in newest]
    for at in odd:
        _put(made, at, rests[at])
    for name, column in made.facts().bought()._asdict().items():
        made[BOUGHT[name]][:] = column
    return made


def _put(customers: CustomerArrays, place: int, rest: Rest) -> None:
    """Writes what one customer has beside what all have."""
    customers["as_of_ms"][place] += rest.since_ms
    customers["deferred_since_ms"][place] = rest.deferred_since_ms
    customers["quiet_until_day"][place] = rest.quiet_until_day
    customers["forgotten_ms"][place] = rest.forgotten_ms
    customers["raised"][place] = rest.raised
    if rest.episode_ms is not None:
        customers["episode_ms"][place] = rest.episode_ms
        customers["episode_id"][place] = rest.episode_id
    if rest.before is not None:
        customers.numbers[place, BEFORE] = rest.before
    if rest.model_version is not None:
        customers["model_version"][place] = rest.model_version
