"""The one request to a broker that is spelled out here."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.topic_id import topic_id
from streamer.kafka.topics import Topic, ensure_topics
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
