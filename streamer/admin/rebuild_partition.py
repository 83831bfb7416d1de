"""What operators do to a running installation, on the servers that the settings name.

Each function raises PublishFailed, LogUnavailable, TopicsError, ErasureKeyMissing and what the
store raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from streamer.admin import forget, redrive
from streamer.admin.redrive import Choice, Redriven
from streamer.admin.repartition import KafkaLog, Moved, Repartition
from streamer.errors import StreamerError
from streamer.kafka import clients as servers
from streamer.kafka.reader import TopicReader
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import PartitionRunner, RunnerOptions
from streamer.records import LogRange, Partition, Publisher
from streamer.settings import Settings
from streamer.store.base import StateStore
from streamer.store.redis_admin import RedisAdmin

Progress = Callable[[int], object]


async def redrive_letters(
    settings: Settings,
    choice: Choice,
    *,
    to_source: bool,
    progress: Progress,
) -> Redriven:
    """Sends the chosen dead letters back; `to_source`: to the partitions that they came from."""
    counts = await servers.ensure_topics(settings)
    letters_topic = settings.dead_letter_topic
    route = redrive.to_source if to_source else None
    async with _store(settings) as store, servers.opened_publisher(settings, route) as publisher:
        return await redrive.redrive(
            _reader(settings).read_all(letters_topic, counts[letters_topic]),
            store,
            publisher,
            settings.orders_topic,
            counts[settings.orders_topic],
            choice,
            progress,
        )


async def forget_customer(
    settings: Settings, user_id: str, at_ms: int, *, within_s: float
) -> tuple[int, int]:
    """Returns how many partitions have applied the erasure, which is all of them, and in how many
    the customer was known before.

    Raises NotForgottenYet where that takes longer than `within_s`.
    """
    counts = await servers.ensure_topics(settings)
    topic = settings.orders_topic
    count = counts[topic]
    reader = _reader(settings)
    log = KafkaLog(reader, topic, count)
    forgotten = Erasures(settings.erasure_keys)
    await forget.KafkaErasures(reader, settings.erasures_topic).read_into(forgotten)
    async with _store(settings) as store:
        known = 0
        for number in range(count):
            (kept,) = await store.load(Partition(topic, number), [user_id])
            known += kept.state is not None
        async with servers.opened_publisher(settings, forget.to_its_partition) as publisher:
            forgot = await forget.announce(
                user_id,
                at_ms,
                publisher,
                log.ranges,
                orders_topic=topic,
                erasures_topic=settings.erasures_topic,
                partition_count=count,
                erasures=forgotten,
            )
        await forget.applied(forgot, store, topic, within_s=within_s)
    return count, known


async def move_customers(
    settings: Settings,
    pipeline: Pipeline | None,
    progress: Progress,
) -> Moved | None:
    """Moves customers after the topic was given more partitions; see `Repartition.run`.
    Without a pipeline, orders that wait are not applied but refused."""
    counts = await servers.ensure_topics(settings)
    topic = settings.orders_topic
    reader = _reader(settings)
    log = KafkaLog(reader, topic, counts[topic])
    async with _store(settings) as store, servers.opened_publisher(settings) as publisher:
        drain = None
        if pipeline is not None:
            forgotten = Erasures(settings.erasure_keys)
            await forget.KafkaErasures(reader, settings.erasures_topic).read_into(forgotten)
            drain = _Drain(store, publisher, pipeline, log, forgotten)
        move = Repartition(
            store,
            log,
            publisher,
            topic,
            settings.order_rules,
            drain=drain,
            notes_topic=settings.erasures_topic,
            progress=progress,
        )
        return await move.run()


class RebuildRefused(StreamerError):
    """Restore the Redis from a backup; or say what to do without, as the message tells."""


@dataclass(frozen=True, slots=True)
class ToRebuild:
    """A partition that a worker is to read again. `applied`: how far it was; `customers`: deleted
    with it, None where nothing was."""

    partition: Partition
    log_start: int
    applied: int | None
    customers: int | None


async def rebuild_partition(
    settings: Settings, number: int, *, partly: bool, dry_run: bool
) -> ToRebuild:
    """Deletes what the store has of a partition, so that its worker reads the log again.

    Raises RebuildRefused where the log does not have all orders; not with `partly`, where it has
    some of them.
    """
    counts = await servers.ensure_topics(settings)
    topic = settings.orders_topic
    partition = Partition(topic, number)
    if number >= counts[topic]:
        raise RebuildRefused(
            f"there is no partition {number}: {topic!r} has {counts[topic]}, from 0"
        )
    start = await _reader(settings).start(partition)
    async with _store(settings) as store:
        stands = await store.peek(partition)
        if stands is not None and stands.first_offset < 0:
            raise RebuildRefused(
                f"{partition.tag}: customers have been moved between the partitions of {topic!r},"
                " so no log of one has all of their orders; restore the Redis from a backup"
            )
        first = stands.first_offset if stands is not None else 0
        if start > first and not partly:
            raise RebuildRefused(
                f"{partition.tag}: the log begins at offset {start}, after the {first} from which"
                " the states were built; restore the Redis from a backup, or say --partly to go on"
                " with the orders that the log still has"
            )
        customers = None if dry_run else await store.reset(partition)
    return ToRebuild(partition, start, stands.next_offset if stands else None, customers)


class _Drain:
    """Applies what waits in an old partition, as a worker would, within the same limits."""

    def __init__(
        self,
        store: StateStore,
        publisher: Publisher,
        pipeline: Pipeline,
        log: KafkaLog,
        forgotten: Erasures,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._pipeline = pipeline
        self._log = log
        self._forgotten = forgotten

    async def __call__(self, partition: Partition, log: LogRange, until: int) -> int:
        runner = PartitionRunner(
            partition,
            self._store,
            self._publisher,
            self._pipeline,
            RunnerOptions(erasures=self._forgotten),
        )
        start = await runner.claim(log)
        async for records in self._log.read(partition.number, start, until):
            await runner.process(records)
        return runner.counters.orders


def _reader(settings: Settings) -> TopicReader:
    return TopicReader(partial(servers.kafka_consumer, settings))


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[RedisAdmin]:
    async with servers.opened_store(settings) as store:
        await store.check_server()
        yield store
