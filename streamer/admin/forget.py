"""Forgetting a customer: written to the log, applied by whoever owns the customer's partition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from features.times import MS_PER_DAY
from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.errors import StreamerError
from streamer.kafka import clients as servers
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.pipeline.erasures import Erasures, digest, erasure_headers, marker
from streamer.records import LogRange, Message, Partition, Publisher
from streamer.settings import Settings
from streamer.store.base import StateStore

_TO: Final = "to_partition"
_POLL_S: Final = 0.2
# Clocks differ by less.
_AHEAD_MS: Final = MS_PER_DAY

_log = log.get(__name__)


class NotForgottenYet(StreamerError):
    """Start a worker: the erasure stands in the log, and is applied when it is read. Run the
    command again to see whether it was; to say it twice changes nothing."""

    def __init__(self, topic: str, waiting: Mapping[int, int]) -> None:
        where = ", ".join(f"{number} (offset {offset})" for number, offset in waiting.items())
        super().__init__(
            f"the erasure stands in {topic}, but was not read within the time given in partition"
            f" {where}: does no worker run, or lag behind? It is applied when a worker comes to it;"
            " run the command again to make sure"
        )
        self.waiting = dict(waiting)


@dataclass(frozen=True, slots=True)
class Forgot:
    """Where an erasure stands: the next offset after it, by partition."""

    ends: Mapping[int, int]


def to_its_partition(message: Message, count: int) -> int | None:
    """Erasures go to every partition; all else where its key says."""
    return next((int(value) for name, value in message.headers if name == _TO), None)


async def announce(
    user_id: str,
    at_ms: int,
    publisher: Publisher,
    ranges: Callable[[], Awaitable[Mapping[int, LogRange]]],
    *,
    orders_topic: str,
    erasures_topic: str,
    partition_count: int,
    erasures: Erasures,
) -> Forgot:
    """Says that a customer is to be forgotten; returns once the brokers have it.

    `erasures`: what the erasures topic says until now. Hashes without a key in it are replaced by
    keyed ones, of which each is there before the old one is deleted.

    The marker first: who reads the erasure and dies has a successor that knows of it. Every
    partition is told, since a customer's orders may be in several: partitions may have been added,
    or the shop's producers have a partitioner of their own. `publisher` must route by
    `to_its_partition`.
    """
    erased = {**erasures.unkeyed, digest(user_id): at_ms}
    await publisher.publish(
        [marker(name, ms, erasures_topic, erasures.keys) for name, ms in erased.items()]
    )
    await publisher.publish(
        [Message(erasures_topic, name.encode(), None) for name in erasures.unkeyed]
    )
    await publisher.publish(
        [
            Message(
                orders_topic,
                user_id.encode(),
                None,
                (*erasure_headers(at_ms), (_TO, str(number).encode())),
            )
            for number in range(partition_count)
        ]
    )
    return Forgot({number: log.end for number, log in (await ranges()).items()})


async def applied(
    forgot: Forgot,
    store: StateStore,
    topic: str,
    *,
    within_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Returns once every partition is applied beyond the erasure. Raises NotForgottenYet."""
    waiting = dict(forgot.ends)
    for _ in range(max(1, round(within_s / _POLL_S))):
        for number, end in forgot.ends.items():
            stands = await store.peek(Partition(topic, number))
            if stands is not None and (stands.next_offset or 0) >= end:
                waiting.pop(number, None)
        if not waiting:
            return
        await sleep(_POLL_S)
    raise NotForgottenYet(topic, waiting)


class KafkaErasures:
    """The erasures topic, read on from where it was read last."""

    def __init__(self, reader: TopicReader, topic: str, clock: Clock | None = None) -> None:
        self._reader = reader
        self._topic = topic
        self._clock = clock or SystemClock()
        self._next: dict[int, int] = {}

    async def read_into(self, forgotten: Erasures) -> None:
        """Adds all that the topic has by now. Raises LogUnavailable and ErasureKeyMissing."""
        latest_ms = self._clock.now_ms() + _AHEAD_MS
        async for partition, records in self._reader.read_all(self._topic, since=self._next):
            for record in records:
                if not forgotten.read(record.key, record.value, latest_ms):
                    _log.warning(
                        "erasure.refused",
                        partition=partition.number,
                        offset=record.offset,
                        reason="dated more than a day ahead; run `forget` again",
                    )
            self._next[partition.number] = records[-1].offset + 1
        forgotten.check_keys()


class Forgetter:
    """Has the log say that customers are to be forgotten, when somebody asks a worker for it. Its
    producer is made when it is first needed, which most workers never do."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher: KafkaPublisher | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, user_id: str, at_ms: int, partitions: int) -> None:
        """Returns once the brokers have the erasure, in so many partitions. Raises PublishFailed,
        LogUnavailable and ErasureKeyMissing."""
        async with self._starting:
            if self._publisher is None:
                publisher = servers.kafka_publisher(self._settings, to_its_partition)
                await publisher.start()
                self._publisher = publisher
        topic = self._settings.orders_topic
        reader = TopicReader(partial(servers.kafka_consumer, self._settings))
        forgotten = Erasures(self._settings.erasure_keys)
        await KafkaErasures(reader, self._settings.erasures_topic).read_into(forgotten)
        await announce(
            user_id,
            at_ms,
            self._publisher,
            partial(reader.ranges, topic, partitions),
            orders_topic=topic,
            erasures_topic=self._settings.erasures_topic,
            partition_count=partitions,
            erasures=forgotten,
        )

    async def close(self) -> None:
        if self._publisher is not None:
            await self._publisher.close()
