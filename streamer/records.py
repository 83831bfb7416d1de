"""What comes out of the log and what goes into it: the words that every room of the streamer uses.

Imports neither Faust nor aiokafka, so that a replay in memory needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol, overload

import msgspec

from streamer.errors import StreamerError


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the orders topic, by topic and number."""

    topic: str
    number: int

    @property
    def tag(self) -> str:
        """`orders-3`: what the keys of the partition share."""
        return f"{self.topic}-{self.number}"


class Record(Protocol):
    """A record of the orders topic; aiokafka's ConsumerRecord is one."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Unreadable(bytes):
    """The value in place of records that cannot be unpacked: which and why, for a person."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the broker has of a partition: offsets `start` to `end` (the next to be written), and
    how many partitions the topic has.

    `committed`: what the group was told last of how far the partition is applied, None if it never
    was. `topic_id`: tells topics of one name apart; empty where the broker has no ids.
    """

    start: int
    end: int
    partition_count: int
    committed: int | None = None
    topic_id: str = ""


class LogUnavailable(StreamerError):
    """The log cannot be read now. Wait and read again."""


class RegistryUnavailable(StreamerError):
    """The schema registry cannot be asked now. Wait and ask again."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the four topics."""

    orders: str = "orders"
    warnings: str = "churn-warnings"
    scores: str = "clv-scores"
    dead_letters: str = "orders-dead-letter"


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record to be produced; Kafka adds partition and offset."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class MessageColumns(Sequence[Message]):
    """Messages of one topic, without headers, each of an instant of its own (epoch ms), in columns:
    they become objects where somebody asks for one."""

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    as_of_ms: Sequence[int]

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> MessageColumns: ...
    def __getitem__(self, at: int | slice) -> Message | MessageColumns:
        if isinstance(at, int):
            return Message(self.topic, self.keys[at], self.values[at])
        return MessageColumns(self.topic, self.keys[at], self.values[at], self.as_of_ms[at])

    def __iter__(self) -> Iterator[Message]:
        return map(Message, repeat(self.topic), self.keys, self.values)


class PublishFailed(StreamerError):
    """Some messages were not acknowledged. Publish the whole list again: ids make repeats harmless.

    With `retriable` False a repetition will fail as well until somebody acts on the message
    (not authorised, too large for the topic's max.message.bytes); but for the few errors that
    another producer cures, and the publisher has one from then on.
    """

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.retriable = retriable


class MessageTooLarge(PublishFailed):
    """The topic takes no message of this size: publish a smaller one, or raise its
    max.message.bytes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=False)


class Publisher(Protocol):
    """Takes messages out of the process."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when every message is acknowledged; raises PublishFailed (retry in place)."""
        ...


class MemoryPublisher:
    """Keeps the messages, in order, in `messages`; for tests and replays.

    `fail_next(n)` makes the next n calls raise PublishFailed without keeping anything.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._failures = 0

    def fail_next(self, times: int = 1) -> None:
        self._failures = times

    async def publish(self, messages: Sequence[Message]) -> None:
        if self._failures:
            self._failures -= 1
            raise PublishFailed("told to fail")
        self.messages.extend(messages)

    def of(self, topic: str) -> list[Message]:
        """The messages of one topic, in the order in which they were published."""
        return [message for message in self.messages if message.topic == topic]
