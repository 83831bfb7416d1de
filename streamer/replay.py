"""An order log through the worker's own pipeline, in one process, without broker or Redis.

Customers are spread over as many partitions as the worker's topic has, by the same hash, because a
partition's watermark closes its instants: so a replay gives what the live run of the log gave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from features.orders import Order
from model.orderlog import RejectedRow, Row
from streamer.messages import Message, Topics
from streamer.partition import LogRange, Parsed, PartitionRunner, Pipeline, Tally
from streamer.partitioning import partition_for
from streamer.publisher import Publisher
from streamer.store import MemoryStore, Partition, StateStore

_BATCH: Final = 2_000
_NO_END: Final = 2**62

Progress = Callable[[int], None]
Sleep = Callable[[float], Awaitable[None]]


class LogFiles:
    """A publisher that writes each topic to a JSON Lines file of its own; a context manager.

    `warnings.jsonl` and `scores.jsonl` have the very bytes that Kafka would get, one a line;
    `dead-letters.jsonl` has each dead letter's reason, detail, source and value.
    """

    def __init__(self, directory: Path, topics: Topics) -> None:
        self._directory = directory
        self._names = {topics.warnings: "warnings.jsonl", topics.scores: "scores.jsonl"}
        self._files: dict[str, BinaryIO] = {}
        self._dead_letters: BinaryIO | None = None
        self._stack = ExitStack()

    def __enter__(self) -> LogFiles:
        self._directory.mkdir(parents=True, exist_ok=True)
        for topic, name in self._names.items():
            self._files[topic] = self._stack.enter_context((self._directory / name).open("wb"))
        dead_letters = self._directory / "dead-letters.jsonl"
        self._dead_letters = self._stack.enter_context(dead_letters.open("wb"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Writes the messages."""
        for message in messages:
            file = self._files.get(message.topic)
            if file is not None:
                file.write((message.value or b"") + b"\n")
            else:
                self._write_dead_letter(message)

    def reject(self, row: RejectedRow) -> None:
        """Writes a row of an order log that is no order."""
        record = {
            "reason": row.rejected.reason.value,
            "detail": row.rejected.detail,
            "source": f"{row.path.name}:{row.line}",
        }
        assert self._dead_letters is not None
        self._dead_letters.write(msgspec.json.encode(record) + b"\n")

    def _write_dead_letter(self, message: Message) -> None:
        record = {name: value.decode() for name, value in message.headers}
        if message.value is not None:
            record["value"] = message.value.decode(errors="replace")
        assert self._dead_letters is not None
        self._dead_letters.write(msgspec.json.encode(record) + b"\n")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast event time passes: `speed` 86,400 makes a day a second; None: as fast as it goes."""

    speed: float | None = None
    sleep: Sleep = asyncio.sleep


@dataclass(slots=True)
class Replayed:
    """What a replay did. `rejected` counts rows that are no orders."""

    tally: Tally
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
        store: StateStore | None = None,
        pace: Pace = Pace(),
    ) -> None:
        self.store = store or MemoryStore()
        self._topic = pipeline.topics.orders
        self._partitions = partitions
        self._pace = pace
        self._runners = [
            PartitionRunner(
                Partition(self._topic, number),
                self.store,
                publisher,
                pipeline,
                cache_customers=_NO_END,
            )
            for number in range(partitions)
        ]
        self._offsets = [0] * partitions
        self._users: set[str] = set()
        self._last_ts_ms: int | None = None

    async def start(self) -> None:
        """Claims every partition."""
        for runner in self._runners:
            await runner.claim(LogRange(0, _NO_END, self._partitions))

    async def feed(self, orders: Sequence[Order]) -> None:
        """Applies orders, in this order."""
        batches: list[list[Parsed]] = [[] for _ in self._runners]
        for order in orders:
            key = order.user_id.encode()
            number = partition_for(key, self._partitions)
            batches[number].append(Parsed(self._offsets[number], order, key, None))
            self._offsets[number] += 1
            self._users.add(order.user_id)
        for runner, batch in zip(self._runners, batches, strict=True):
            if batch:
                await runner.process_parsed(batch)
        if orders:
            newest = max(order.ts_ms for order in orders)
            await self._keep_pace(newest)
            self._last_ts_ms = max(self._last_ts_ms or 0, newest)

    async def until(self, instant_ms: int) -> None:
        """Lets event time pass up to an instant without further orders."""
        for runner in self._runners:
            await runner.tick(instant_ms)

    def result(self, rejected: int = 0) -> Replayed:
        """What was done so far."""
        tally = Tally()
        for runner in self._runners:
            for name in Tally.__slots__:
                setattr(tally, name, getattr(tally, name) + getattr(runner.tally, name))
        return Replayed(tally, rejected, len(self._users), self._last_ts_ms)

    async def _keep_pace(self, newest_ms: int) -> None:
        if self._pace.speed is not None and self._last_ts_ms is not None:
            await self._pace.sleep(max(newest_ms - self._last_ts_ms, 0) / 1000 / self._pace.speed)


async def replay_log(
    rows: Iterable[Row],
    replay: Replay,
    *,
    reject: Callable[[RejectedRow], None],
    until_ms: int | None = None,
    progress: Progress = lambda rows: None,
) -> Replayed:
    """Replays the rows of order logs; orders at `until_ms` or later are left out, and event time
    passes up to it. `reject` hears of every row that is no order, `progress` of rows read."""
    await replay.start()
    rejected = 0
    batch: list[Order] = []
    for row in rows:
        if isinstance(row, RejectedRow):
            rejected += 1
            reject(row)
        elif until_ms is None or row.ts_ms < until_ms:
            batch.append(row)
        if len(batch) >= _BATCH:
            await replay.feed(batch)
            progress(len(batch))
            batch = []
    await replay.feed(batch)
    progress(len(batch))
    if until_ms is not None:
        await replay.until(until_ms)
    return replay.result(rejected)
