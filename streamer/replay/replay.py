"""An order log through the worker's own pipeline, in one process, without broker or Redis.

Customers are spread over as many partitions as the worker's topic has, by the same hash, because a
partition's watermark closes its instants: so a replay gives what the live run of the log gave.

Memory grows with the customers, each as the bytes that Redis would hold, and never with the rows.
"""

from __future__ import annotations

import asyncio
import dataclasses
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from features.buckets import day_of
from features.orders import Order
from model.data.order_log import RejectedRow, Row
from streamer.kafka.publisher import Publisher
from streamer.pipeline.dead_letters import NO_LIMITS
from streamer.pipeline.messages import Message, Topics, rfc3339
from streamer.pipeline.partition import LogRange, Parsed, PartitionRunner, Pipeline, Tally
from streamer.pipeline.partitioner import partition_for
from streamer.store.base import MemoryStore, Partition

_BATCH: Final = 2_000
_NO_END: Final = 2**62
# Customers kept decoded beside the store: enough for those of a busy day, a few MB.
_CACHE_CUSTOMERS: Final = 20_000
# Lines held back at most for a partition that has fallen silent, some 60 MB.
_MOST_HELD: Final = 200_000

Progress = Callable[[int], None]
Sleep = Callable[[float], Awaitable[None]]


class _Head(msgspec.Struct, frozen=True, gc=False):
    """By what lines are put in order: warnings and scores alike have both."""

    as_of: str
    user_id: str


class _Lines:
    """Lines on their way to a file, put in the order of `as_of`, then of customer.

    Partitions and batches hand them in as they come about; in order they are the same whatever
    the batches were. Those of one customer and instant stay as they came.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held: list[tuple[str, str, int, bytes]] = []
        self._count = 0
        self._head = msgspec.json.Decoder(_Head).decode

    def add(self, value: bytes) -> None:
        head = self._head(value)
        self._count += 1
        # Without its Z, a stamp with milliseconds comes after the one without, as it must.
        self._held.append((head.as_of[:-1], head.user_id, self._count, value))

    def release(self, before: str | None) -> None:
        """Writes what is as of an instant before this one; None: all that is held."""
        self._held.sort()
        end = len(self._held) if before is None else bisect_left(self._held, (before,))
        if len(self._held) - end > _MOST_HELD:
            end = len(self._held) - _MOST_HELD // 2
        self._file.writelines(value + b"\n" for *_, value in self._held[:end])
        del self._held[:end]
        self._file.flush()


class LogFiles:
    """A publisher that writes each topic to a JSON Lines file of its own; a context manager.

    `warnings.jsonl` and `scores.jsonl` have the very bytes that Kafka would get, one a line, by
    `as_of`; `dead-letters.jsonl` has each dead letter's reason, detail, source and value.
    """

    def __init__(self, directory: Path, topics: Topics) -> None:
        self._directory = directory
        self._names = {topics.warnings: "warnings.jsonl", topics.scores: "scores.jsonl"}
        self._lines: dict[str, _Lines] = {}
        self._rejected: list[bytes] = []
        self._dead_letters: list[tuple[int, int, bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> LogFiles:
        self._directory.mkdir(parents=True, exist_ok=True)
        for topic, name in self._names.items():
            self._lines[topic] = _Lines(self._opened(name))
        self._dead_letter_file = self._opened("dead-letters.jsonl")
        return self

    def __exit__(self, *_: object) -> None:
        self.release(None)
        self.end_page()
        self._stack.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Takes the messages; they are written by `release` and `end_page`."""
        for message in messages:
            lines = self._lines.get(message.topic)
            if lines is None:
                self._add_dead_letter(message)
            elif message.value is not None:
                lines.add(message.value)

    def reject(self, row: RejectedRow) -> None:
        """Takes a row of an order log that is no order."""
        record = {
            "reason": row.rejected.reason.value,
            "detail": row.rejected.detail,
            "source": f"{row.path.name}:{row.line}",
        }
        self._rejected.append(msgspec.json.encode(record) + b"\n")

    def release(self, watermark_ms: int | None) -> None:
        """Writes warnings and scores as of instants before the watermark, for which no more can
        come; None: all."""
        before = None if watermark_ms is None else rfc3339(max(watermark_ms, 0))[:-1]
        for lines in self._lines.values():
            lines.release(before)

    def end_page(self) -> None:
        """Writes the dead letters of the last rows: those that are no orders, then the others."""
        self._dead_letters.sort()
        self._dead_letter_file.writelines(self._rejected)
        self._dead_letter_file.writelines(line for *_, line in self._dead_letters)
        self._rejected.clear()
        self._dead_letters.clear()

    def _opened(self, name: str) -> BinaryIO:
        return self._stack.enter_context((self._directory / name).open("wb"))

    def _add_dead_letter(self, message: Message) -> None:
        record = {name: value.decode() for name, value in message.headers}
        if message.value is not None:
            record["value"] = message.value.decode(errors="replace")
        place = int(record["source_partition"]), int(record["source_offset"])
        self._dead_letters.append((*place, msgspec.json.encode(record) + b"\n"))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast event time passes: `speed` 86,400 makes a day a second; None: as fast as it goes."""

    speed: float | None = None
    sleep: Sleep = asyncio.sleep


@dataclass(slots=True)
class Replayed:
    """What a replay did. `rejected` counts rows that are no orders, `late` the orders that came
    after their time was closed: they count, but fire no warning for the past."""

    tally: Tally
    rejected: int
    customers: int
    late: int
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
        pace: Pace = Pace(),
    ) -> None:
        self.store = store or MemoryStore()
        self.pace = pace
        # A file of dead letters is no topic to be emptied into.
        pipeline = dataclasses.replace(pipeline, dead_letter_limits=NO_LIMITS)
        self._topic = pipeline.topics.orders
        self._partitions = partitions
        self.runners = [
            PartitionRunner(
                Partition(self._topic, number),
                self.store,
                publisher,
                pipeline,
                cache_customers=max(1, _CACHE_CUSTOMERS // partitions),
            )
            for number in range(partitions)
        ]
        self._offsets = [0] * partitions
        self._lateness_ms = pipeline.allowed_lateness_ms
        self._high_ts_ms = [-1] * partitions
        self._late = 0
        self._last_ts_ms: int | None = None

    @property
    def watermark_ms(self) -> int | None:
        """The instant before which nothing more will be said; None before the first order."""
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
            self._late += order.ts_ms < self._high_ts_ms[number] - self._lateness_ms
            self._high_ts_ms[number] = max(self._high_ts_ms[number], order.ts_ms)
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
        tally = Tally()
        for runner in self.runners:
            for name in Tally.__slots__:
                setattr(tally, name, getattr(tally, name) + getattr(runner.tally, name))
        customers = self.store.customers(self._topic)
        return Replayed(tally, rejected, customers, self._late, self._last_ts_ms)

    async def _keep_pace(self, newest_ms: int) -> None:
        if self.pace.speed is not None and self._last_ts_ms is not None:
            await self.pace.sleep(max(newest_ms - self._last_ts_ms, 0) / 1000 / self.pace.speed)


async def replay_log(
    rows: Iterable[Row],
    replay: Replay,
    files: LogFiles,
    *,
    reject: Callable[[RejectedRow], None] = lambda row: None,
    until_ms: int | None = None,
    progress: Progress = lambda rows: None,
) -> Replayed:
    """Replays the rows of order logs; orders at `until_ms` or later are left out, and event time
    passes up to it. `reject` hears of every row that is no order, `progress` of rows read."""
    await replay.start()
    rejected = 0
    for page in _pages(rows):
        orders = []
        for row in page:
            if isinstance(row, RejectedRow):
                rejected += 1
                files.reject(row)
                reject(row)
            elif until_ms is None or row.ts_ms < until_ms:
                orders.append(row)
        for batch in [orders] if replay.pace.speed is None else _days(orders):
            await replay.feed(batch)
            if (watermark_ms := replay.watermark_ms) is not None:
                files.release(watermark_ms)
        files.end_page()
        progress(len(page))
    if until_ms is not None:
        await replay.until(until_ms)
    return replay.result(rejected)


def _pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists of `_BATCH`, the last of them shorter."""
    remaining = iter(rows)
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
