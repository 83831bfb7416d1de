"""A runner for each partition of ours: lists of records and ticks of the clock go to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from aiokafka import ConsumerRecord

from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.kafka.lane import Lane
from streamer.metrics import FENCED, RESEEKS, Metrics, PartitionGauges
from streamer.pipeline.batch import Counters, Pipeline
from streamer.pipeline.claim import Fenced, LogTooShort
from streamer.pipeline.partition import OutOfSequence, PartitionRunner
from streamer.process.outage import Outage
from streamer.records import LogRange
from streamer.settings import Settings
from streamer.store.base import TopicRecreated
from streamer.worker.odd import OddOrders
from streamer.worker.runners import Runners

_log = log.get(__name__)


# Instants judged by the clock, some 0.1 s of work, before waiting records get their turn.
TICK_LIMIT: Final = 2_000
# A leader that has just taken over may show an older end of the log for a moment (KIP-207).
LOG_END_TRIES: Final = 4


@dataclass(slots=True)
class _Owned:
    """A partition that is ours, claimed."""

    runner: PartitionRunner
    log: LogRange
    quiet_since_s: float
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    hinted: int = -1


class Partitions:
    """The lane's sink: hands lists to the partitions' runners, and lets idle ones follow the clock.

    | a runner raises                 | what is done                                             |
    | ------------------------------- | -------------------------------------------------------- |
    | StoreUnavailable, PublishFailed,|                                                          |
    | LogUnavailable                  | the same again, until it works (see `Outage`)            |
    | OutOfSequence                   | the lane reads again from what comes next                |
    | Fenced                          | dropped; claimed again if the group still says it is ours |
    | anything else                   | the worker stops with the reason                         |
    """

    def __init__(
        self,
        settings: Settings,
        runners: Runners,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.outage = Outage(self.metrics)
        self.scored = 0
        self.lane: Lane | None = None
        self._settings = settings
        self._runners = runners
        self._clock = clock or SystemClock()
        self._owned: dict[int, _Owned] = {}
        self._odd = OddOrders()

    @property
    def progress(self) -> int:
        """A count that moves whenever work does."""
        delivered = self.lane.records_delivered if self.lane is not None else 0
        # A list of records may close the instants of millions of customers.
        judging = sum(owned.runner.counters.instants for owned in self._owned.values())
        return delivered + self.scored + judging + self.outage.attempts + self._runners.records_read

    def unlisted(self) -> list[int]:
        """Partitions of ours whose open warnings are not all listed."""
        return [
            number for number, owned in self._owned.items() if not owned.runner.customers.listed
        ]

    def next_offsets(self) -> dict[int, int]:
        """The next offset to be applied of each partition of ours."""
        return {number: owned.runner.next_offset for number, owned in self._owned.items()}

    def gauges(self, ends: Mapping[int, int]) -> dict[int, PartitionGauges]:
        """How the partitions of ours stand; `ends` are the log's, as far as they are known."""
        now_ms = self._clock.now_ms()
        found = {}
        for number, owned in self._owned.items():
            runner, end = owned.runner, ends.get(number)
            watermark_ms = runner.watermark_ms
            found[number] = PartitionGauges(
                lag=None if end is None else max(0, end - runner.next_offset),
                watermark_age_s=None if watermark_ms is None else (now_ms - watermark_ms) / 1000,
                outbox=runner.outbox_pending,
            )
        return found

    def adopt(self, pipeline: Pipeline) -> None:
        """Has every partition of ours judge by another pipeline from its next batch on. Those that
        are claimed from now on ask for the pipeline themselves."""
        for owned in self._owned.values():
            owned.runner.adopt(pipeline)

    def watermarks_ms(self) -> dict[int, int]:
        """The watermark of each partition of ours that has one."""
        marks = {number: owned.runner.watermark_ms for number, owned in self._owned.items()}
        return {number: mark for number, mark in marks.items() if mark is not None}

    # --- OrderSink --------------------------------------------------------------------------

    async def assigned(self, logs: Mapping[int, LogRange]) -> Mapping[int, int]:
        if logs.keys() - self._owned.keys():
            await self.outage.outlast(self._runners.read_erasures)
            self.metrics.forgotten(self._runners.forgotten)
        share = max(1, self._settings.cache_customers // max(1, len(logs)))
        claims = [self._claim(number, found, share) for number, found in logs.items()]
        return dict(zip(logs, await asyncio.gather(*claims), strict=True))

    async def revoked(self, partitions: Collection[int]) -> None:
        for number in partitions:
            self._owned.pop(number, None)

    async def records(self, partition: int, batch: Sequence[ConsumerRecord]) -> None:
        owned = self._owned.get(partition)
        if owned is None:
            return
        async with owned.busy:
            began_s = self._clock.monotonic_s()
            try:
                await self.outage.outlast(partial(owned.runner.process, batch))
                self.metrics.batch_took(self._clock.monotonic_s() - began_s)
            except OutOfSequence as error:
                _log.warning("partition.reseek", partition=partition, offset=error.expected)
                self.metrics.count(RESEEKS)
                if self.lane is not None:
                    await self.lane.reseek(partition, error.expected)
            except Fenced:
                self._fenced(partition, owned)
            finally:
                self._count(owned)
            owned.quiet_since_s = self._clock.monotonic_s()

    # --- the clock --------------------------------------------------------------------------

    async def tick(self) -> None:
        """Scores the customers that are due in partitions that records do not move on.

        In pieces: records that come meanwhile are taken in between.
        """
        for number, owned in list(self._owned.items()):
            if owned.busy.locked():
                continue  # its records come first, and bring their own instants
            more = True
            while more:
                async with owned.busy:
                    more = await self._tick(number, owned) >= TICK_LIMIT

    async def _tick(self, number: int, owned: _Owned) -> int:
        """How many instants were judged."""
        if self._owned.get(number) is not owned:
            return 0
        judged = 0
        try:
            until = self._idle_watermark_ms(number, owned)
            run = partial(owned.runner.tick, until, TICK_LIMIT)
            judged = await self.outage.outlast(run)
            self.scored += judged
        except Fenced:
            self._fenced(number, owned)
        finally:
            self._count(owned)
        return judged

    async def hint(self) -> None:
        """Tells Kafka how far the partitions are, for lag tools."""
        moved = {
            number: owned.runner.next_offset
            for number, owned in self._owned.items()
            if owned.runner.next_offset != owned.hinted
        }
        if moved and self.lane is not None:
            await self.lane.commit_hint(moved)
            for number, offset in moved.items():
                if number in self._owned:
                    self._owned[number].hinted = offset

    async def check_store(self) -> None:
        """Raises LostWrites where there are any, and drops what is another's: a partition without
        orders would not notice before its next one."""
        for number, owned in list(self._owned.items()):
            if not owned.busy.locked():  # what is under way asks by itself
                await self.between(number, lambda runner: runner.check())

    async def between(
        self, number: int, action: Callable[[PartitionRunner], Awaitable[None]]
    ) -> bool:
        """Has something done with a partition's runner, between its records; False where the
        partition is not ours, or no longer."""
        owned = self._owned.get(number)
        if owned is None:
            return False
        async with owned.busy:
            if self._owned.get(number) is owned:
                try:
                    await self.outage.outlast(partial(action, owned.runner))
                except Fenced:
                    self._fenced(number, owned)
        return self._owned.get(number) is owned

    async def check_topic(self) -> None:
        """Raises TopicRecreated where the topic is no longer the one that was claimed: a new log
        that has grown past our position reads like a continuation of the old one."""
        for number, owned in self._owned.items():
            if not owned.log.topic_id or self.lane is None:
                return
            now = await self.lane.log_range(number)
            if now.topic_id != owned.log.topic_id:
                topic = self._settings.orders_topic
                raise TopicRecreated(topic, owned.log.topic_id, now.topic_id)
            return

    def _idle_watermark_ms(self, number: int, owned: _Owned) -> int | None:
        """How far the clock carries a partition in which there is nothing to read; else None.

        Twice the lateness: a punctual order may bear a time that long ago, and its own watermark
        stands as much again before it (docs/decisions/0005).
        """
        idle_after_ms = self._settings.idle_after_ms
        if idle_after_ms is None or self.lane is None or not self.lane.caught_up(number):
            return None
        if (self._clock.monotonic_s() - owned.quiet_since_s) * 1000 < idle_after_ms:
            return None
        return self._clock.now_ms() - 2 * self._settings.allowed_lateness_ms

    # --- inside -----------------------------------------------------------------------------

    async def _claim(self, number: int, found: LogRange, cache_customers: int) -> int:
        owned = self._owned.get(number)
        if owned is not None and _same_topic(owned.log, found):
            return owned.runner.next_offset  # ours all along
        runner = await self._runners.make(number, cache_customers)
        offset = await self._claimed(runner, number, found)
        self._owned[number] = _Owned(runner, found, self._clock.monotonic_s())
        # Another model may have been adopted while it was being claimed.
        runner.adopt(await self._runners.pipeline())
        _log.info("partition.claimed", partition=number, offset=offset)
        return offset

    async def _claimed(self, runner: PartitionRunner, number: int, found: LogRange) -> int:
        for left in reversed(range(LOG_END_TRIES)):
            try:
                return await self.outage.outlast(partial(runner.claim, found))
            except LogTooShort:
                if not left or self.lane is None:
                    raise
            await asyncio.sleep(1.0)
            found = await self.lane.log_range(number)
        raise AssertionError("unreachable")

    def _count(self, owned: _Owned) -> None:
        """Counts what its runner has done since it was last counted."""
        done, owned.runner.counters = owned.runner.counters, Counters()
        self.metrics.add(done)
        self._odd.add(done)
        if done.erasures:
            self.metrics.forgotten(self._runners.forgotten)

    def _fenced(self, number: int, owned: _Owned) -> None:
        """Another worker has claimed the partition: rightly, or with an outdated assignment.

        If it still is ours once that worker's session must have ended, it is claimed again.
        """
        _log.warning("partition.fenced", partition=number)
        self.metrics.count(FENCED)
        if self._owned.get(number) is owned:
            del self._owned[number]
        if self.lane is not None:
            self.lane.reopen(number, after_s=self._settings.session_timeout_ms / 1000)


def _same_topic(one: LogRange, other: LogRange) -> bool:
    return (one.partition_count, one.topic_id) == (other.partition_count, other.topic_id)
