"""The one request to a broker that is spelled out here, and the log read again beside the group."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.kafka.topic_id import topic_id
from streamer.kafka.topics import Topic, ensure_topics
from streamer.records import LogUnavailable, Message, Partition
from tests.support.servers.cluster import ApacheKafka


async def test_a_topic_keeps_its_id_and_the_one_after_it_has_another(
    kafka: EmbeddedKafka | ApacheKafka,
) -> None:
    name = f"ids-{uuid.uuid4().hex}"
    topic = Topic(name, 2)
    await ensure_topics(kafka.bootstrap, [topic])
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    await admin.start()
    try:
        first = await topic_id(consumer._client, name)
        assert len(first) == 32
        assert await topic_id(consumer._client, name) == first
        await admin.delete_topics([name])
        async with asyncio.timeout(20):
            while name in await admin.list_topics():
                await asyncio.sleep(0.1)
        with pytest.raises(KafkaError, match="no metadata"):
            await topic_id(consumer._client, name)
        await ensure_topics(kafka.bootstrap, [topic])
        assert await topic_id(consumer._client, name) not in ("", first)
    finally:
        await admin.close()
        await consumer.stop()


@pytest.mark.parametrize("error", [IncompatibleBrokerVersion, NotImplementedError])
async def test_brokers_older_than_topic_ids_have_none(error: type[Exception]) -> None:
    class Client:
        def get_random_node(self) -> int:
            return 0

        async def send(self, node: int, request: object) -> object:
            raise error

    assert await topic_id(Client(), "orders") == ""


async def test_a_log_is_read_again_from_its_start_up_to_an_offset(
    kafka: EmbeddedKafka | ApacheKafka,
) -> None:
    name = f"history-{uuid.uuid4().hex}"
    await ensure_topics(kafka.bootstrap, [Topic(name, 1)])
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    await publisher.publish([Message(name, b"key", b"%d" % n) for n in range(2_500)])
    await publisher.close()
    history = TopicReader(partial(AIOKafkaConsumer, bootstrap_servers=kafka.bootstrap))
    partition = Partition(name, 0)
    assert await history.start(partition) == 0
    for until in (0, 1, 2_300, 2_500):
        before = history.records_read
        read = [record.value async for batch in history.read(partition, until) for record in batch]
        assert read == [b"%d" % n for n in range(until)]
        assert history.records_read - before == until


async def test_a_log_out_of_reach_says_so() -> None:
    history = TopicReader(partial(AIOKafkaConsumer, bootstrap_servers="127.0.0.1:1"))
    with pytest.raises(LogUnavailable):
        await history.start(Partition("orders", 0))
