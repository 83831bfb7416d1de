"""Who is to be forgotten, and how the log says so.

An erasure is a record in every partition of the orders topic: the customer's key, no value, and a
header with the instant. Its owner applies it in its turn, as it does orders, so nothing that is
under way can bring the customer back, and a store that has lost its last writes reads it again.

Beside it a marker, a hash of the customer's id, stands in a compacted topic. Workers read those
before they claim anything: orders from before an erasure are left out from then on, also when they
come again or when the whole log is read again from its start.

The same topic has, under the orders topic's name, how far the logs of its partitions reached when
customers were moved to other partitions: up to there, no log has all orders of a customer, and from
there on an order belongs where the partitioner named there puts its customer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from features.events.orders import Order
from features.times import rfc3339
from streamer.pipeline.partitioner import PARTITIONERS, Partitioner
from streamer.records import Message

ERASE: Final = "clv-erase"
"""Header of an erasure: epoch milliseconds. A record without a value and without it is no order,
and no erasure either: shops send such for reasons of their own."""

MARKER_SCHEMA: Final = "erasure/1"
MOVE_SCHEMA: Final = "move/1"
_MOVE_KEY: Final = "move:"
# An instant of 14 digits is after the year 5000.
_MAX_DIGITS: Final = 13


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """Everything of the customer up to the instant (epoch ms) is to be forgotten."""

    user_id: str
    at_ms: int


class Marker(msgspec.Struct, frozen=True):
    """A record of the erasures topic; its key is the digest."""

    schema: str
    at_ms: int


class Move(msgspec.Struct, frozen=True):
    """A record of the erasures topic; its key is `move:` and the orders topic."""

    schema: str
    topic: str
    ends: dict[int, int]
    partitioner: str = ""  # a name of PARTITIONERS; empty: not known


def move(
    topic: str, ends: Mapping[int, int], erasures_topic: str, partitioner: str = ""
) -> Message:
    """The note that customers of a topic have been moved, when its logs reached that far, to where
    the partitioner of that name puts them."""
    value = msgspec.json.encode(Move(MOVE_SCHEMA, topic, dict(ends), partitioner))
    return Message(erasures_topic, f"{_MOVE_KEY}{topic}".encode(), value)


def erasure_in(key: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Erasure | None:
    """The erasure in a record without value; None where it is something else."""
    for name, value in headers:
        if name == ERASE and value.isdigit() and len(value) <= _MAX_DIGITS and key:
            try:
                return Erasure(key.decode(), int(value))
            except UnicodeDecodeError:
                return None
    return None


def erasure_headers(at_ms: int) -> list[tuple[str, bytes]]:
    """What makes a record without value an erasure."""
    return [(ERASE, str(at_ms).encode())]


def digest(user_id: str) -> str:
    """The customer's id as a hash: what is kept to know the customer by, once forgotten."""
    return hashlib.sha256(b"erasure:" + user_id.encode()).hexdigest()[:32]


def marker(user_id: str, at_ms: int, topic: str) -> Message:
    """The marker of an erasure."""
    value = msgspec.json.encode(Marker(MARKER_SCHEMA, at_ms))
    return Message(topic, digest(user_id).encode(), value)


class Erasures:
    """What the erasures topic says: the customers that have been erased, by digest, and when; and
    the moves. Grows only."""

    def __init__(self, erased: Iterable[tuple[str, int]] = ()) -> None:
        self._at_ms: dict[str, int] = {}
        self._moved: dict[tuple[str, int], int] = {}
        self._partitioners: dict[str, str] = {}
        for name, at_ms in erased:
            self.add(name, at_ms)

    def __len__(self) -> int:
        """How many customers have been erased."""
        return len(self._at_ms)

    def add(self, name: str, at_ms: int) -> None:
        """Takes an erasure by its digest; of several of one customer the last counts."""
        self._at_ms[name] = max(at_ms, self._at_ms.get(name, at_ms))

    def read(self, key: bytes | None, value: bytes | None) -> None:
        """Takes a record of the erasures topic; ignores what is none of ours."""
        try:
            name = (key or b"").decode()
            if name.startswith(_MOVE_KEY):
                moved = msgspec.json.decode(value or b"", type=Move)
                if moved.schema == MOVE_SCHEMA:
                    self._moved |= {(moved.topic, n): end for n, end in moved.ends.items()}
                    self._partitioners[moved.topic] = moved.partitioner
                return
            found = msgspec.json.decode(value or b"", type=Marker)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if found.schema == MARKER_SCHEMA:
            self.add(name, found.at_ms)

    def moved_at(self, topic: str, number: int) -> int | None:
        """Where a partition's log ended when customers were moved; None where they never were."""
        return self._moved.get((topic, number))

    def partitioner(self, topic: str) -> Partitioner | None:
        """By what customers were moved; None where they never were, or that is not known."""
        return PARTITIONERS.get(self._partitioners.get(topic, ""))

    def covers(self, order: Order) -> bool:
        """Whether the order is from before its customer was erased."""
        at_ms = self._at_ms.get(digest(order.user_id)) if self._at_ms else None
        return at_ms is not None and order.ts_ms <= at_ms

    def covers_warning(self, message: Message) -> bool:
        """Whether a warning that waits to be sent is one of before its customer was erased."""
        if not self._at_ms or message.key is None:
            return False
        at_ms = self._at_ms.get(digest(message.key.decode(errors="replace")))
        if at_ms is None:
            return False
        as_of = msgspec.json.decode(message.value or b"{}", type=_AsOf).as_of
        # Without their Z, times in milliseconds come after those in whole seconds, as they must.
        return as_of[:-1] <= rfc3339(at_ms)[:-1]


class _AsOf(msgspec.Struct):
    as_of: str = ""
