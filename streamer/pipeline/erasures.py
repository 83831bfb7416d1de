"""Who is to be forgotten, and how the log says so.

An erasure is a record in every partition of the orders topic: the customer's key, no value, and a
header with the instant. Its owner applies it in its turn, as it does orders, so nothing that is
under way can bring the customer back, and a store that has lost its last writes reads it again.

Beside it a marker, a keyed hash of the customer's id, stands in a compacted topic. Workers read
those before they claim anything: orders from before an erasure are left out from then on, also when
they come again or when the whole log is read again from its start. Earlier versions hashed without
a key: what they wrote is obeyed, and replaced by its keyed form with the next erasure.

The same topic has, under the orders topic's name, how far the logs of its partitions reached when
customers were moved to other partitions: up to there, no log has all orders of a customer, and from
there on an order belongs where the partitioner named there puts its customer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from features.events.orders import Order
from features.times import rfc3339
from streamer.errors import StreamerError
from streamer.pipeline.partitioner import PARTITIONERS, Partitioner
from streamer.records import Message

ERASE: Final = "clv-erase"
"""Header of an erasure: epoch milliseconds. A record without a value and without it is no order,
and no erasure either: shops send such for reasons of their own."""

MARKER_SCHEMA: Final = "erasure/2"
UNKEYED_SCHEMA: Final = "erasure/1"
MOVE_SCHEMA: Final = "move/1"
_MOVE_KEY: Final = "move:"
# An instant of 14 digits is after the year 5000.
_MAX_DIGITS: Final = 13
_LOST: Final = "lost:"
# 128 bits as hexadecimal digits, the least that nobody tries through.
_SECRET: Final = re.compile(r"[!-+\--~]{32,1024}")


class ErasureKeyMissing(StreamerError):
    """Give the key that wrote the markers in CLV_ERASURE_KEY, behind the present one and a comma;
    where it is lost for good, say so in its place."""

    def __init__(self, names: Iterable[str]) -> None:
        found = sorted(names)
        super().__init__(
            f"erased customers cannot be recognised: their hashes were made with key"
            f" {' and '.join(found)}, which CLV_ERASURE_KEY does not have; add it there behind the"
            f" present one, or {','.join(_LOST + name for name in found)} where it is lost for good"
            " (docs/recovery.md)"
        )


@dataclass(frozen=True, slots=True)
class ErasureKeys:
    """The secrets of erased ids' hashes by their names, the first for new ones; and the names of
    those that are lost. Nothing of it may be shown."""

    secrets: Mapping[str, bytes]
    lost: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Keys as CLV_ERASURE_KEY has them. Raises ValueError with the remedy, not the value."""
        parts = [part.strip() for part in text.split(",")]
        lost = [part.removeprefix(_LOST) for part in parts if part.startswith(_LOST)]
        given = [part for part in parts if not part.startswith(_LOST)]
        if not given or not all(map(_SECRET.fullmatch, given)):
            raise ValueError(
                "write 32 to 1024 printable characters without space or comma (openssl rand -hex"
                " 32), behind them earlier keys, and lost:NAME for lost ones, comma-separated"
            )
        if unknown := [name for name in lost if not re.fullmatch("[0-9a-f]{8}", name)]:
            raise ValueError(f"{_LOST}{unknown[0][:20]} names no key: 8 hexadecimal digits")
        return cls({key_name(one.encode()): one.encode() for one in given}, frozenset(lost))

    @property
    def newest(self) -> str | None:
        """The name of the key of new hashes; None where there is none."""
        return next(iter(self.secrets), None)


NO_KEYS: Final = ErasureKeys({})


def key_name(secret: bytes) -> str:
    """By what markers name the key of their hash; tells nothing of it."""
    return hmac.digest(secret, b"clv-erasure-key", "sha256").hex()[:8]


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """Everything of the customer up to the instant (epoch ms) is to be forgotten."""

    user_id: str
    at_ms: int


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record of the erasures topic; its key is the hash, made with the key of that name."""

    schema: str
    at_ms: int
    key: str = ""


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
    """The customer's id as a hash without a key: what is never kept, but what keyed ones are of, so
    that those of before could be keyed without the ids."""
    return hashlib.sha256(b"erasure:" + user_id.encode()).hexdigest()[:32]


def keyed(unkeyed: str, secret: bytes) -> str:
    """HMAC-SHA-256 of a digest, its first 128 bits."""
    return hmac.digest(secret, unkeyed.encode(), "sha256").hex()[:32]


def marker(unkeyed: str, at_ms: int, topic: str, keys: ErasureKeys) -> Message:
    """The marker of an erasure of the customer with this digest, by the newest key."""
    name = keys.newest
    assert name is not None, "a setting that `forget` needs"
    value = msgspec.json.encode(Marker(MARKER_SCHEMA, at_ms, name))
    return Message(topic, keyed(unkeyed, keys.secrets[name]).encode(), value)


class Erasures:
    """What the erasures topic says: the customers that have been erased, by hash, and when; and
    the moves. Grows only."""

    def __init__(self, keys: ErasureKeys = NO_KEYS) -> None:
        self.keys = keys
        self._at_ms: dict[str, int] = {}
        # The secrets that hashes among them were made with: mostly one, and none without erasures.
        self._in_use: dict[str, bytes] = {}
        self._unkeyed: dict[str, int] = {}
        self._unknown: dict[str, str] = {}
        self._moved: dict[tuple[str, int], int] = {}
        self._partitioners: dict[str, str] = {}

    def __len__(self) -> int:
        """How many hashes of erased customers are known; one written without a key and with one is
        two."""
        return len(self._at_ms)

    @property
    def unkeyed(self) -> Mapping[str, int]:
        """Hashes without a key that the topic has, and when each customer was erased."""
        return self._unkeyed

    def add(self, user_id: str, at_ms: int) -> None:
        """Takes an erasure of a customer; of several the last counts."""
        self._add(digest(user_id), at_ms)

    def _add(self, name: str, at_ms: int) -> None:
        self._at_ms[name] = max(at_ms, self._at_ms.get(name, at_ms))

    def read(self, key: bytes | None, value: bytes | None, latest_ms: int | None = None) -> bool:
        """Takes a record of the erasures topic; passes over what is none of ours. False for a
        marker of after `latest_ms`, which is not taken: nobody is erased in the future, and the
        customer's next orders would be left out."""
        try:
            name = (key or b"").decode()
            if value is None:
                self._unkeyed.pop(name, None)
                self._unknown.pop(name, None)
                return True
            if name.startswith(_MOVE_KEY):
                moved = msgspec.json.decode(value, type=Move)
                if moved.schema == MOVE_SCHEMA:
                    self._moved |= {(moved.topic, n): end for n, end in moved.ends.items()}
                    self._partitioners[moved.topic] = moved.partitioner
                return True
            found = msgspec.json.decode(value, type=Marker)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return True
        if latest_ms is not None and found.at_ms > latest_ms:
            return False
        if found.schema == UNKEYED_SCHEMA:
            self._unkeyed[name] = max(found.at_ms, self._unkeyed.get(name, found.at_ms))
            self._add(name, found.at_ms)
        elif found.schema == MARKER_SCHEMA and found.key in self.keys.secrets:
            self._in_use[found.key] = self.keys.secrets[found.key]
            self._add(name, found.at_ms)
        elif found.schema == MARKER_SCHEMA and found.key not in self.keys.lost:
            self._unknown[name] = found.key
        return True

    def check_keys(self) -> None:
        """Raises ErasureKeyMissing where a marker's hash was made with a key that is not known: its
        customer would be counted again, and nobody told."""
        if self._unknown:
            raise ErasureKeyMissing(set(self._unknown.values()))

    def _erased_at(self, user_id: str) -> int | None:
        if not self._at_ms:
            return None
        unkeyed = digest(user_id)
        at_ms = self._at_ms.get(unkeyed)
        for secret in self._in_use.values():
            by_key = self._at_ms.get(keyed(unkeyed, secret))
            if by_key is not None and (at_ms is None or by_key > at_ms):
                at_ms = by_key
        return at_ms

    def moved_at(self, topic: str, number: int) -> int | None:
        """Where a partition's log ended when customers were moved; None where they never were."""
        return self._moved.get((topic, number))

    def partitioner(self, topic: str) -> Partitioner | None:
        """By what customers were moved; None where they never were, or that is not known."""
        return PARTITIONERS.get(self._partitioners.get(topic, ""))

    def covers(self, order: Order) -> bool:
        """Whether the order is from before its customer was erased."""
        at_ms = self._erased_at(order.user_id)
        return at_ms is not None and order.ts_ms <= at_ms

    def covers_warning(self, message: Message) -> bool:
        """Whether a warning that waits to be sent is one of before its customer was erased."""
        if message.key is None:
            return False
        at_ms = self._erased_at(message.key.decode(errors="replace"))
        if at_ms is None:
            return False
        as_of = msgspec.json.decode(message.value or b"{}", type=_AsOf).as_of
        # Without their Z, times in milliseconds come after those in whole seconds, as they must.
        return as_of[:-1] <= rfc3339(at_ms)[:-1]


class _AsOf(msgspec.Struct):
    as_of: str = ""
