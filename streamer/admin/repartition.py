"""Customers moved to the partitions that their orders come to, after the topic was given more.

The order of effects, with which it may be interrupted anywhere and run again:

1. orders that stand in an old partition and belong to a customer who moves away are applied there;
2. every partition, old and new, is claimed in a way that lets no worker claim it or write to it;
3. what waits in the outboxes is sent;
4. each customer is written to its new partition, then removed from the old one;
5. the topic's own count is set, upon which workers may start.

Until 5, workers are refused, whichever count they know. A customer who was written and not removed
is in two partitions with the same bytes, and the next run finishes that. Where orders for an old
partition come in after 2, customers are moved back, and all begins with 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from features.events.orders import OrderRules
from streamer.admin.backlog import (
    Backlog,
    FewerPartitions,
    Log,
    OrdersWaiting,
    StillWritten,
    WorkersRun,
    elsewhere,
)
from streamer.kafka.reader import TopicReader
from streamer.pipeline.erasures import move
from streamer.pipeline.messages import unpack
from streamer.pipeline.partitioner import MURMUR2, partition_for
from streamer.records import LogRange, Partition, Publisher, Record
from streamer.store.base import MovableStore, Outcome, Write

_ROUNDS: Final = 3
_OUTBOX_CHUNK: Final = 500


class Drain(Protocol):
    """Applies records of an old partition, as a worker would."""

    async def __call__(self, partition: Partition, log: LogRange, until: int) -> int:
        """Returns how many orders were applied, up to but without offset `until`."""
        ...


@dataclass(slots=True)
class Moved:
    """What a run did."""

    old_count: int
    new_count: int
    customers: int = 0
    moved: int = 0
    applied: int = 0
    said: int = 0


@dataclass(slots=True)
class _Held:
    """A partition that is ours: the fence of its next write."""

    epoch: int
    sequence: int
    high_ts_ms: int | None
    next_offset: int | None


class Repartition:
    """One topic's move from the partitions it had to those that its log has."""

    def __init__(
        self,
        store: MovableStore,
        log: Log,
        publisher: Publisher,
        topic: str,
        rules: OrderRules,
        *,
        drain: Drain | None = None,
        notes_topic: str = "",
        progress: Callable[[int], object] = lambda customers: None,
    ) -> None:
        """`notes_topic`: where the move is noted for those who lose the store; empty: nowhere.
        Without `drain`, orders that wait are refused."""
        self.store = store
        self.log = log
        self.publisher = publisher
        self.topic = topic
        self.backlog = Backlog(store, log, topic, rules)
        self.drain = drain
        self.notes_topic = notes_topic
        self.progress = progress
        self._held: dict[int, _Held] = {}

    async def run(self) -> Moved | None:
        """What was done; None where the states lie in as many partitions as the topic has.

        Raises RepartitionRefused, what store and publisher raise, RetentionGap and LogTooShort.
        """
        old = await self.store.partition_count(self.topic)
        new = len(await self.log.ranges())
        if old is None or old == new:
            return None
        if new < old:
            raise FewerPartitions(
                f"topic {self.topic!r} has {new} partitions, and the states lie in {old}: Kafka"
                " takes no partition away, so it was deleted and recreated. Make it with"
                f" {old} partitions or more, or set CLV_STATE_NAMESPACE to a new name to start over"
            )
        result = Moved(old, new)
        await self._check_placement(result)
        for _ in range(_ROUNDS):
            await self._apply_what_waits(result)
            await self._seize_all(old, new)
            result.said += await self._say(new)
            result.moved = 0
            await self._move(new, result)
            if not await self.backlog.waiting(old, new):
                await self._open(result)
                return result
        raise StillWritten(
            f"orders for old partitions of {self.topic!r} keep coming in: the shop's producers do"
            " not know the new partitions yet. Stop them, or wait until they have read the topic's"
            " metadata again (metadata.max.age.ms, five minutes by default), and run this again"
        )

    # --- 1: what waits ----------------------------------------------------------------------

    async def _apply_what_waits(self, result: Moved) -> None:
        old, new = result.old_count, result.new_count
        waiting = await self.backlog.waiting(old, new)
        if not waiting:
            return
        if self.drain is None:
            where = ", ".join(f"{n} from offset {tail.next_offset}" for n, tail in waiting.items())
            raise OrdersWaiting(
                f"orders wait in partition {where} of {self.topic!r}, of customers who move away:"
                " they have to be applied first. Set CLV_MODEL to the workers' model, and this"
                " command applies them"
            )
        # Customers whom an earlier run has moved go back to where these orders are.
        await self._seize_all(new, old)
        await self._move(old, None)
        ranges = await self.log.ranges()
        for number, tail in waiting.items():
            assert tail.here is not None
            log = ranges[number]
            as_before = LogRange(log.start, log.end, old)
            partition = Partition(self.topic, number)
            result.applied += await self.drain(partition, as_before, tail.here + 1)

    # --- 2 to 5 -----------------------------------------------------------------------------

    async def _seize_all(self, old: int, new: int) -> None:
        """Claims all partitions, of whichever count there are more."""
        for number in range(max(old, new)):
            claim = await self.store.seize(Partition(self.topic, number), old, new)
            self._held[number] = _Held(
                claim.epoch, claim.sequence, claim.high_ts_ms, claim.next_offset
            )

    async def _say(self, count: int) -> int:
        """Publishes what waits in the outboxes; returns how much that was."""
        said = 0
        for number in range(count):
            partition = Partition(self.topic, number)
            while (box := await self.store.outbox(partition, _OUTBOX_CHUNK)).entries:
                await self.publisher.publish([unpack(entry) for entry in box.entries])
                epoch = self._held[number].epoch
                self._ours(await self.store.trim(partition, epoch, box.first, len(box.entries)))
                said += len(box.entries)
        return said

    async def _move(self, count: int, result: Moved | None) -> None:
        """Moves every customer to its partition among `count`."""
        quarantines: dict[int, dict[str, bytes]] = {}
        async for chunk in self.store.scan(self.topic):
            leaving: dict[tuple[int, int], list[str]] = defaultdict(list)
            for partition, user_id in chunk:
                target = partition_for(user_id.encode(), count)
                if target != partition.number:
                    leaving[partition.number, target].append(user_id)
            for (source, target), user_ids in leaving.items():
                if source not in quarantines:
                    aside = await self.store.quarantined(Partition(self.topic, source))
                    quarantines[source] = aside
                moved = await self._carry(source, target, user_ids, quarantines[source])
                if result is not None:
                    result.moved += moved
            self.progress(len(chunk))

    async def _carry(
        self, source: int, target: int, user_ids: Sequence[str], aside: Mapping[str, bytes]
    ) -> int:
        """Moves customers from one partition to another; returns how many were still there."""
        origin, goal = (
            Partition(self.topic, source),
            Partition(self.topic, target),
        )
        loaded = zip(user_ids, await self.store.load(origin, user_ids), strict=True)
        found = {user: kept for user, kept in loaded if kept.state is not None}
        if not found:
            return 0
        held = self._held[target]
        write = Write(
            states={user: kept.state for user, kept in found.items() if kept.state is not None},
            due={user: kept.due_ms for user, kept in found.items() if kept.due_ms is not None},
            outbox=[],
            next_offset=None,
            high_ts_ms=None,
            quarantine={user: aside[user] for user in found if user in aside},
        )
        self._ours(await self.store.write(goal, held.epoch, held.sequence, write))
        held.sequence += 1
        held = self._held[source]
        self._ours(await self.store.remove(origin, held.epoch, held.sequence, list(found), None))
        held.sequence += 1
        return len(found)

    async def _open(self, result: Moved) -> None:
        """Gives the new partitions, and those that never had a record, where to begin, and workers
        the new count.

        A new partition's watermark is the lowest of the old ones: all that it closes has been
        judged of every customer, wherever it comes from.
        """
        ranges = await self.log.ranges()
        marks = [self._held[number].high_ts_ms for number in range(result.old_count)]
        high_ts_ms = min((mark for mark in marks if mark is not None), default=None)
        for number in range(result.new_count):
            held = self._held[number]
            if held.next_offset is None:
                write = Write({}, {}, [], ranges[number].start, high_ts_ms)
                partition = Partition(self.topic, number)
                self._ours(await self.store.write(partition, held.epoch, held.sequence, write))
                held.sequence += 1
        if self.notes_topic:
            # Whoever finds the store empty one day must not take the logs for whole; and whatever
            # comes later to where its customer is no longer must not begin a second one there.
            ends = self.backlog.ends
            note = move(self.topic, ends, self.notes_topic, MURMUR2)
            await self.publisher.publish([note])
        await self.store.set_partition_count(self.topic, result.new_count)

    async def _check_placement(self, result: Moved) -> None:
        """Raises OtherPartitioner where customers are not where the partitioner has put them."""
        wrong = 0
        async for chunk in self.store.scan(self.topic):
            for partition, user_id in chunk:
                key = user_id.encode()
                homes = (
                    partition_for(key, result.old_count),
                    partition_for(key, result.new_count),
                )
                wrong += partition.number not in homes
                result.customers += 1
        if wrong:
            raise elsewhere(self.topic, wrong)

    def _ours(self, outcome: Outcome) -> None:
        if outcome not in (Outcome.APPLIED, Outcome.ALREADY_APPLIED):
            raise WorkersRun(
                f"somebody else has claimed a partition of {self.topic!r}, or the store went back:"
                " stop all workers, and run this again"
            )


class KafkaLog:
    """The orders topic in Kafka; `count`: how many partitions it has."""

    def __init__(self, reader: TopicReader, topic: str, count: int) -> None:
        self._reader = reader
        self._topic = topic
        self._count = count

    async def ranges(self) -> Mapping[int, LogRange]:
        return await self._reader.ranges(self._topic, self._count)

    def read(self, number: int, start: int, until: int) -> AsyncIterator[Sequence[Record]]:
        return self._reader.read(Partition(self._topic, number), until, start)


def text(moved: Moved | None, topic: str) -> str:
    """The result for a person."""
    if moved is None:
        return f"the states lie in as many partitions as {topic!r} has: nothing to move"
    lines = [
        f"{moved.moved:,} of {moved.customers:,} customers moved: {topic!r} had"
        f" {moved.old_count} partitions and has {moved.new_count}"
    ]
    if moved.applied:
        lines.append(f"{moved.applied:,} waiting orders applied before")
    if moved.said:
        lines.append(f"{moved.said:,} waiting warnings sent before")
    lines.append("workers may start")
    return "\n".join(lines)
