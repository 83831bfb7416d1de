"""Has the log say that customers are to be forgotten, when somebody asks over HTTP."""

from __future__ import annotations

import asyncio
from functools import partial

from streamer.admin import forget
from streamer.kafka import clients as servers
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.pipeline.erasures import Erasures
from streamer.settings import Settings


class Forgetter:
    """Its producer is made when it is first needed, which most workers never do."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher: KafkaPublisher | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, user_id: str, at_ms: int, partitions: int) -> None:
        """Returns once the brokers have the erasure, in so many partitions. Raises PublishFailed,
        LogUnavailable and ErasureKeyMissing."""
        async with self._starting:
            if self._publisher is None:
                publisher = servers.kafka_publisher(self._settings, forget.to_its_partition)
                await publisher.start()
                self._publisher = publisher
        topic = self._settings.orders_topic
        reader = TopicReader(partial(servers.kafka_consumer, self._settings))
        forgotten = Erasures(self._settings.erasure_keys)
        await forget.KafkaErasures(reader, self._settings.erasures_topic).read_into(forgotten)
        await forget.announce(
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
