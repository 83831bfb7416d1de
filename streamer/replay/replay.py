"""An order log through the worker's own pipeline, in one process, without broker or Redis.

Customers are spread over as many partitions as the worker's topic has, by the same hash, because a
partition's watermark closes its instants: so a replay gives what the live run of the log gave.

Memory grows with the customers, each as the bytes that Redis would hold, beside what bringing a
file into event time takes (`model.files.loading`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from features.events.orders import Order
from features.times import day_of
from streamer.pipeline.batch import Counters, Parsed, Pipeline
from streamer.pipeline.dead_letters import NO_LIMITS
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.pipeline.partitioner import partition_for
from streamer.records import LogRange, Partition, Publisher
from streamer.replay.files import LogFiles
from streamer.store.memory import MemoryStore

_BATCH: Final = 2_000
_NO_END: Final = 2**62
# Customers kept decoded beside the store, about 1 KB each.
_CACHE_CUSTOMERS: Final = 50_000

Progress = Callable[[int], None]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast event time passes: `speed` 86,400 makes a day a second; None: as fast as it goes."""

    speed: float | None = None
    sleep: Sleep = asyncio.sleep


AT_ONCE: Final = Pace()


@dataclass(slots=True)
class Replayed:
    """What a replay did. `rejected` counts rows that are no orders."""

    counters: Counters
    rejected: int
    customers: int
    last_ts_ms: int | None


class Replay:
    """Feeds orders through the pipeline, a batch at a time."""

    def __init__(
        self,
        pipeline: Pipeline,
        publisher: Publisher,
        *,
        partitions: int = 4,
        store: MemoryStore | None = None,
        pace: Pace = AT_ONCE,
    ) -> None:
        self.store = store or MemoryStore()
        self.pace = pace
        # A file of dead letters is not a topic to be emptied into; and a file is sorted, so that an
        # order is ahead of no other for longer than the shop was silent.
        pipeline = dataclasses.replace(pipeline, dead_letter_limits=NO_LIMITS, max_lead_ms=None)
        self._topic = pipeline.topics.orders
        self._partitions = partitions
        self.runners = [
            PartitionRunner(
                Partition(self._topic, number),
                self.store,
                publisher,
                pipeline,
                RunnerOptions(cache_customers=max(1, _CACHE_CUSTOMERS // partitions)),
            )
            for number in range(partitions)
        ]
        self._offsets = [0] * partitions
        self._last_ts_ms: int | None = None

    @property
    def watermark_ms(self) -> int | None:
        """The instant before which nothing more will be sent; None before the first order."""
        marks = [mark for runner in self.runners if (mark := runner.watermark_ms) is not None]
        return min(marks, default=None)

    async def start(self) -> None:
        """Claims every partition."""
        for runner in self.runners:
            await runner.claim(LogRange(0, _NO_END, self._partitions))

    async def feed(self, orders: Sequence[Order]) -> None:
        """Applies orders, in this order, when the pace has come to them."""
        if not orders:
            return
        newest_ms = max(order.ts_ms for order in orders)
        await self._keep_pace(newest_ms)
        batches: list[list[Parsed]] = [[] for _ in self.runners]
        for order in orders:
            key = order.user_id.encode()
            number = partition_for(key, self._partitions)
            batches[number].append(Parsed(self._offsets[number], order, key, None))
            self._offsets[number] += 1
        for runner, batch in zip(self.runners, batches, strict=True):
            if batch:
                await runner.process_parsed(batch)
        self._last_ts_ms = max(self._last_ts_ms or 0, newest_ms)

    async def until(self, instant_ms: int) -> None:
        """Lets event time pass up to an instant without further orders."""
        for runner in self.runners:
            await runner.tick(instant_ms)

    def result(self, rejected: int = 0) -> Replayed:
        """What was done so far."""
        counters = Counters()
        for runner in self.runners:
            counters.add(runner.counters)
        customers = self.store.customers(self._topic)
        return Replayed(counters, rejected, customers, self._last_ts_ms)

    async def _keep_pace(self, newest_ms: int) -> None:
        if self.pace.speed is not None and self._last_ts_ms is not None:
            await self.pace.sleep(max(newest_ms - self._last_ts_ms, 0) / 1000 / self.pace.speed)


async def replay_log(
    orders: Iterable[Order],
    replay: Replay,
    files: LogFiles,
    *,
    rejected: int = 0,
    until_ms: int | None = None,
    progress: Progress = lambda rows: None,
) -> Replayed:
    """Replays the orders of logs; those at `until_ms` or later are left out, and event time passes
    up to it. `rejected`: how many rows were none; `progress` hears of orders read."""
    await replay.start()
    for page in _pages(orders):
        wanted = [order for order in page if until_ms is None or order.ts_ms < until_ms]
        for batch in [wanted] if replay.pace.speed is None else _days(wanted):
            await replay.feed(batch)
            if (watermark_ms := replay.watermark_ms) is not None:
                files.release(watermark_ms)
        files.end_page()
        progress(len(page))
    if until_ms is not None:
        await replay.until(until_ms)
    return replay.result(rejected)


def _pages(orders: Iterable[Order]) -> Iterator[list[Order]]:
    """The orders in lists of `_BATCH`, the last of them shorter."""
    remaining = iter(orders)
    while page := list(islice(remaining, _BATCH)):
        yield page


def _days(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """The orders in batches that end where a new UTC day begins."""
    batch: list[Order] = []
    newest_day = -1
    for order in orders:
        day = day_of(order.ts_ms)
        if day > newest_day:
            if batch:
                yield batch
            batch, newest_day = [], day
        batch.append(order)
    if batch:
        yield batch
