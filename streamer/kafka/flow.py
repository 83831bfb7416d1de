"""Records on their way from the consumer to the sink, for the partitions that are ours.

**Backpressure.** For each partition there is one list in the sink and at most two lists' worth
waiting; a partition with a full list waiting is left out of the next fetch, and its records stay
in aiokafka's buffer (1 MiB per partition), then on the broker. So one partition that waits for its
store or its publisher does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from aiokafka import ConsumerRecord
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    RecordTooLargeError,
)

from streamer import log
from streamer.clock import Clock
from streamer.kafka.port import Fetched, LaneOptions, LogGone, OrderSink, Port

_log = log.get(__name__)

# How long a fetch may find nothing before the flow looks around again.
POLL_S: Final = 0.25
RETRY_S: Final = 0.5
# Errors that no repetition cures (authorisation, a codec) may be repeated for this long.
GIVE_UP_S: Final = 30.0


@dataclass(slots=True)
class Feed:
    """One partition that is ours. `version` is that of its position, -1 while none is known;
    `taken`: the position up to which its records have come to us."""

    partition: int
    version: int
    taken: int = -1
    waiting: list[ConsumerRecord] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.idle.set()

    def moved(self, version: int) -> None:
        """The partition is read from elsewhere: what waits of it is for nobody."""
        self.version, self.taken = version, -1
        self.waiting.clear()


class Flow:
    """The feeds of the partitions that are ours; `on` says whether records are taken at all.

    `failed` is called with what the sink raises; `gone` with partitions whose position lies
    outside their logs.
    """

    def __init__(
        self,
        sink: OrderSink,
        options: LaneOptions,
        failed: Callable[[BaseException], None],
        gone: Callable[[int], None],
        clock: Clock,
    ) -> None:
        self.feeds: dict[int, Feed] = {}
        self.on = False
        self.delivered = 0
        self.dropped = 0
        self.port: Port | None = None
        self._sink = sink
        self._options = options
        self._failed = failed
        self._gone = gone
        self._clock = clock
        # By the fetch that is under way; None between two fetches.
        self._asked: frozenset[int] | None = None
        self._room = asyncio.Event()

    @property
    def behind(self) -> bool:
        """Whether records are waiting or in the sink."""
        return any(feed.waiting or not feed.idle.is_set() for feed in self.feeds.values())

    def place(self, partition: int, version: int) -> None:
        """Reads a partition from the position of this version on."""
        feed = self.feeds.setdefault(partition, Feed(partition, version))
        feed.moved(version)
        if feed.task is None or feed.task.done():
            feed.task = asyncio.create_task(self._feed(feed), name=f"lane.{partition}")

    def resume(self) -> None:
        """Takes records from now on."""
        self.on = True
        for partition in self.feeds:
            self._wake(partition)

    async def quiesce(self) -> list[int]:
        """No list begins and those in the sink end; the partitions whose lists did not in time."""
        self.on = False
        for feed in self.feeds.values():
            feed.waiting.clear()
            feed.arrived.clear()
        busy = [feed for feed in self.feeds.values() if not feed.idle.is_set()]
        if busy:
            waits = [asyncio.ensure_future(feed.idle.wait()) for feed in busy]
            _, late = await asyncio.wait(waits, timeout=self._options.drain_s)
            for wait in late:
                wait.cancel()
        return [feed.partition for feed in busy if not feed.idle.is_set()]

    async def remove(self, partitions: Collection[int]) -> frozenset[int]:
        """Forgets partitions, cutting off what is in the sink; those that were there."""
        gone = [feed for number in partitions if (feed := self.feeds.pop(number, None))]
        current = asyncio.current_task()
        tasks = [feed.task for feed in gone if feed.task is not None and feed.task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            # A rebalance that waits for one who does not end keeps the whole group waiting: what it
            # still does, the store's epoch fences.
            _, late = await asyncio.wait(tasks, timeout=self._options.drain_s)
            if late:
                _log.warning("batch.not_cancelled", partitions=len(late))
        return frozenset(feed.partition for feed in gone)

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Fetches and hands over, until `stopped`. Raises what no repetition cures."""
        failing_since: float | None = None
        while not stopped():
            ready = frozenset(self._with_room())
            if not ready or self.port is None:
                # Nothing is awaited between the look and this, so no waking can be missed.
                self._room.clear()
                await self._room.wait()
                continue
            try:
                fetched = await self._fetch(self.port, ready)
            except LogGone as gone:
                self._out_of_range(gone)
                continue
            except IllegalStateError:
                await asyncio.sleep(POLL_S)  # a rebalance was faster
                continue
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                now = self._clock.monotonic_s()
                failing_since = failing_since or now
                if isinstance(error, RecordTooLargeError):
                    raise  # aiokafka has stepped over the record: going on would lose it
                if not error.retriable and now - failing_since > GIVE_UP_S:
                    raise
                _log.warning("fetch.failed", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            failing_since = None
            for one in fetched:
                self._take(one)

    def applied(self, partition: int) -> int | None:
        """The position up to which all records of a partition are applied; None while some are
        under way, or that is not known yet."""
        feed = self.feeds.get(partition)
        if not self.on or feed is None or feed.waiting or not feed.idle.is_set():
            return None
        return feed.taken if feed.taken >= 0 else None

    # --- inside -----------------------------------------------------------------------------

    async def _fetch(self, port: Port, partitions: frozenset[int]) -> list[Fetched]:
        self._asked = partitions
        try:
            return await port.fetch(partitions, POLL_S, self._options.batch)
        finally:
            self._asked = None

    def _out_of_range(self, gone: LogGone) -> None:
        for number in gone.partitions:
            _log.warning("partition.out_of_range", partition=number)
            if number in self.feeds:
                # Left out of the fetches at once, or the next one says the same again.
                self.feeds[number].version = -1
            self._gone(number)

    def _with_room(self) -> list[int]:
        if not self.on:
            return []
        batch = self._options.batch
        return [
            number
            for number, feed in self.feeds.items()
            if len(feed.waiting) < batch and feed.version >= 0
        ]

    def _wake(self, partition: int) -> None:
        """The partition can be fetched; ends a fetch that began without it."""
        self._room.set()
        if self.port is not None and self._asked is not None and partition not in self._asked:
            self.port.poke()

    def _take(self, fetched: Fetched) -> None:
        feed = self.feeds.get(fetched.partition)
        if not self.on or feed is None or feed.version != fetched.version:
            self.dropped += len(fetched.records)
            return
        feed.taken = fetched.position
        if feed.waiting:
            feed.waiting.extend(fetched.records)
        elif fetched.records:
            feed.waiting = fetched.records
            feed.arrived.set()

    async def _feed(self, feed: Feed) -> None:
        """Hands the partition's lists to the sink, one after the other, while it is ours."""
        batch = self._options.batch
        # Not for ever: redis-py sends every command through asyncio's `wait_for`, which before
        # Python 3.12 loses a cancellation that comes as the command has just been sent. The sink
        # then returns as if there had been none.
        while self.feeds.get(feed.partition) is feed:
            await feed.arrived.wait()
            records, feed.waiting = feed.waiting[:batch], feed.waiting[batch:]
            if not feed.waiting:
                feed.arrived.clear()
            if not records:
                continue
            feed.idle.clear()
            if len(feed.waiting) < batch:
                self._wake(feed.partition)
            try:
                await self._sink.records(feed.partition, records)
            except Exception as error:
                self._failed(error)
                return
            finally:
                feed.idle.set()
            self.delivered += len(records)
            # A sink that never waits would otherwise starve the fetches.
            await asyncio.sleep(0)


def being_cancelled() -> bool:
    """Whether this task was cancelled, also where somebody on the way has lost that (see
    `Flow._feed`): what it would do next is for others to do."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
