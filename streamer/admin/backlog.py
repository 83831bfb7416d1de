"""What waits in the partitions that a topic had before it was given more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.events.orders import Order, OrderRules, parse
from streamer.errors import StreamerError
from streamer.pipeline.claim import LogTooShort, RetentionGap
from streamer.pipeline.erasures import erasure_in
from streamer.pipeline.partitioner import partition_for
from streamer.records import LogRange, Partition, Record
from streamer.store.base import MovableStore


class RepartitionRefused(StreamerError):
    """Nothing was moved, or what was is moved on by the next run. The message has the remedy."""


class FewerPartitions(RepartitionRefused):
    """Give the topic its old number of partitions back, or start over in another namespace."""


class OtherPartitioner(RepartitionRefused):
    """Send all orders into a new topic, keyed by customer, and name it in CLV_ORDERS_TOPIC."""


class OrdersWaiting(RepartitionRefused):
    """Set CLV_MODEL, so that the orders can be applied; or apply them with workers of before."""


class OrdersMixed(RepartitionRefused):
    """Send all orders into a new topic, and name it in CLV_ORDERS_TOPIC."""


class StillWritten(RepartitionRefused):
    """Stop the shop's producers, or wait until all of them know the new partitions."""


class WorkersRun(RepartitionRefused):
    """Stop all workers and run the command again."""


class Log(Protocol):
    """The orders topic, as far as moving customers needs it. Raises LogUnavailable."""

    async def ranges(self) -> Mapping[int, LogRange]:
        """What the broker has of each partition."""
        ...

    def read(self, number: int, start: int, until: int) -> AsyncIterator[Sequence[Record]]:
        """The records of a partition from `start` up to but without `until`."""
        ...


def elsewhere(topic: str, count: int) -> OtherPartitioner:
    """What is said of customers or orders that are not where keys belong."""
    return OtherPartitioner(
        f"{count:,} customers or orders are in other partitions of {topic!r} than Kafka's own"
        " partitioner puts them: the shop's producers use another one (librdkafka's default is; set"
        " partitioner=murmur2_random there), or send no keys. Send all orders into a new topic, and"
        " name it in CLV_ORDERS_TOPIC"
    )


@dataclass(frozen=True, slots=True)
class Tail:
    """What waits in an old partition: `here` is the last record that has to be applied before
    customers move, `there` the first that must not be; None: there is none."""

    next_offset: int
    here: int | None
    there: int | None


class Backlog:
    """The records that old partitions have and the states do not yet. `ends`: how far each
    partition's log was looked through last."""

    def __init__(self, store: MovableStore, log: Log, topic: str, rules: OrderRules) -> None:
        self.ends: dict[int, int] = {}
        self._store = store
        self._log = log
        self._topic = topic
        self._rules = rules

    async def waiting(self, old: int, new: int) -> dict[int, Tail]:
        """The old partitions in which records wait that have to be applied before the move."""
        found: dict[int, Tail] = {}
        ranges = await self._log.ranges()
        self.ends = {number: log.end for number, log in ranges.items()}
        for number in range(old):
            tail = await self._tail(number, ranges[number], old, new)
            if tail.here is None:
                continue
            if tail.there is not None and tail.there < tail.here:
                raise OrdersMixed(
                    f"{self._topic}-{number}: offset {tail.there} is an order of a customer who"
                    f" comes to this partition, and offset {tail.here}, after it, one of a customer"
                    " who leaves it, and neither is applied. Send all orders into a new topic with"
                    f" {new} partitions, and name it in CLV_ORDERS_TOPIC; next time, stop the"
                    " producers before partitions are added, or double their number, which mixes"
                    " nothing"
                )
            found[number] = tail
        return found

    async def _tail(self, number: int, log: LogRange, old: int, new: int) -> Tail:
        partition = Partition(self._topic, number)
        stands = await self._store.peek(partition)
        applied = None if stands is None else stands.next_offset
        if applied is not None and applied < log.start:
            raise RetentionGap(partition, applied, log.start)
        if applied is not None and applied > log.end:
            raise LogTooShort(partition, applied, log.end)
        start = log.start if applied is None else applied
        here = there = None
        if start < log.end:
            async for records in self._log.read(number, start, log.end):
                for record in records:
                    stays = self._stays(record, number, old, new)
                    if stays is True:
                        here = record.offset
                    elif stays is False and there is None:
                        there = record.offset
        return Tail(start, here, there)

    def _stays(self, record: Record, number: int, old: int, new: int) -> bool | None:
        """Whether a record has to be applied before the move (True), after it, or whenever."""
        if not record.value and erasure_in(record.key, record.headers):
            return True  # in the log of the partition that the customer leaves, and in no new one
        order = parse(record.value, record.key, record.timestamp, self._rules)
        if not isinstance(order, Order):
            return None
        key = order.user_id.encode()
        was, will_be = partition_for(key, old), partition_for(key, new)
        if number not in (was, will_be):
            raise elsewhere(self._topic, 1)
        if was == will_be:
            return None
        return number == was
