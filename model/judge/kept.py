"""Customers kept as arrays from one batch to the next, as many as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from features.arrays import Bools, Ints
from model.judge.customers import NEVER, CustomerArrays, flat_places

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
