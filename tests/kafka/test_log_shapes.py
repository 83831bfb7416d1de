"""What only Apache Kafka's logs have: transactions, compaction, deleted beginnings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete

from streamer.kafka.topics import TOPICS, Topic, ensure_topics
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.kafka_kit import administrating
from tests.support.servers.lane_kit import Recorder, SharedLog, join, numbered, publishing, until

pytestmark = pytest.mark.kafka
_names = count()


@pytest.fixture
async def topic(apache_kafka: ApacheKafka) -> str:
    """Of one partition, so that offsets can be reckoned with."""
    name = f"shapes{next(_names)}"
    await ensure_topics(apache_kafka.bootstrap, [Topic(name, 1)])
    return name


@asynccontextmanager
async def transactional(kafka: ApacheKafka, name: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=name)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, topic: str, values: Sequence[int]) -> None:
    for value in values:
        await producer.send_and_wait(topic, b"%d" % value, key=b"k", partition=0)


async def test_only_what_is_committed_arrives_and_markers_hold_nothing_up(
    apache_kafka: ApacheKafka, topic: str
) -> None:
    shared = SharedLog()
    async with transactional(apache_kafka, topic) as producer:
        async with producer.transaction():
            await send(producer, topic, [0, 1, 2])  # 3: its marker
        await producer.begin_transaction()
        await send(producer, topic, [4, 5])  # 6: taken back
        await producer.abort_transaction()
        async with producer.transaction():
            await send(producer, topic, [7])  # 8
        async with await join(apache_kafka.bootstrap, topic, Recorder("one", shared)) as member:
            await until(lambda: shared.count == 4)
            # A marker comes last: the position stands behind it, and there is nothing left.
            await until(lambda: member.lane.caught_up(0))
            await producer.begin_transaction()
            await send(producer, topic, [9, 10])  # 11: taken back
            await producer.abort_transaction()
            async with producer.transaction():
                await send(producer, topic, [12])  # 13
            await until(lambda: shared.count == 5)
            await until(lambda: member.lane.caught_up(0))
            assert member.failures == []
    assert shared.applied == {0: [0, 1, 2, 7, 12]}
    assert shared.logs[0].end == 9


async def test_a_transaction_left_open_is_neither_read_nor_taken_for_lag(
    apache_kafka: ApacheKafka, topic: str
) -> None:
    shared = SharedLog()
    async with (
        publishing(apache_kafka.bootstrap) as publisher,
        transactional(apache_kafka, topic) as producer,
    ):
        await publisher.publish(numbered(topic, 5))
        await producer.begin_transaction()
        await send(producer, topic, [5])
        await publisher.publish(numbered(topic, 5))  # behind the open one: not to be read yet
        async with await join(apache_kafka.bootstrap, topic, Recorder("one", shared)) as member:
            await until(lambda: member.lane.caught_up(0))
            assert shared.count == 5
            vitals = await asyncio.to_thread(member.lane.heal)
            assert (vitals.lag, vitals.error) == (0, None)
            await producer.commit_transaction()
            await until(lambda: shared.count == 11)
            assert member.failures == []
    assert shared.applied == {0: list(range(11))}


async def test_a_log_that_is_nothing_but_aborted_is_at_its_end(
    apache_kafka: ApacheKafka, topic: str
) -> None:
    shared = SharedLog()
    async with transactional(apache_kafka, topic) as producer:
        for _ in range(3):
            await producer.begin_transaction()
            await send(producer, topic, [0, 1])
            await producer.abort_transaction()
    async with await join(apache_kafka.bootstrap, topic, Recorder("one", shared)) as one:
        await until(lambda: one.lane.caught_up(0))
        assert (await asyncio.to_thread(one.lane.heal)).lag == 0
    assert shared.count == 0


async def test_a_deleted_beginning_is_seen_as_the_logs_start(
    apache_kafka: ApacheKafka, topic: str
) -> None:
    shared = SharedLog()
    async with publishing(apache_kafka.bootstrap) as publisher:
        await publisher.publish(numbered(topic, 100))
    async with administrating(apache_kafka.bootstrap) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=40)})
    sink = Recorder("one", shared)
    sink.starts = {0: 10}  # as a store that had applied no more than that
    async with await join(apache_kafka.bootstrap, topic, sink) as member:
        await until(lambda: shared.count == 60)
        assert (shared.logs[0].start, shared.logs[0].end) == (40, 100)
        # Out of range: the sink was asked again, with the log's true range.
        assert [offsets[0] for offsets in sink.assignments] == [10, 40]
        assert member.failures == []


async def test_the_topics_are_made_with_their_settings(apache_kafka: ApacheKafka) -> None:
    await ensure_topics(apache_kafka.bootstrap, TOPICS)
    async with administrating(apache_kafka.bootstrap) as admin:
        for topic in TOPICS:
            (answer,) = await admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic.name)]
            )
            ((_code, _why, _kind, name, entries),) = answer.resources
            assert name == topic.name
            found = {entry[0]: entry[1] for entry in entries}
            assert {key: found[key] for key in topic.config} == topic.config
            (described,) = await admin.describe_topics([topic.name])
            assert len(described["partitions"]) == topic.partitions


async def test_a_topic_out_of_the_blue_is_not_made_by_asking(apache_kafka: ApacheKafka) -> None:
    async with administrating(apache_kafka.bootstrap) as admin:
        (described,) = await admin.describe_topics(["nobody-made-this"])
        assert described["error_code"] != 0
        assert "nobody-made-this" not in await admin.list_topics()
