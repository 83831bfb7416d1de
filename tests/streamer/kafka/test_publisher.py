from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka import publisher as publishing
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.topics import Topic, ensure_topics
from streamer.pipeline.partitioner import partition_for
from streamer.records import MemoryPublisher, Message, PublishFailed
from tests.support.servers.cluster import Kafka

TOPICS = [Topic("scores", 4), Topic("dead", 1), Topic("big", 1)]


@pytest.fixture
async def publisher(kafka: Kafka) -> AsyncIterator[KafkaPublisher]:
    await ensure_topics(kafka.bootstrap, TOPICS)
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    yield publisher
    await publisher.close()


async def read(kafka: Kafka, topic: str, count: int) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_messages_arrive_as_they_were_where_their_keys_belong(
    kafka: Kafka, publisher: KafkaPublisher
) -> None:
    keys = [b"customer-%d" % (number % 7) for number in range(300)]
    sent = [
        Message("scores", key, b"%d" % number, (("n", b"%d" % number),))
        for number, key in enumerate(keys)
    ]
    await publisher.publish(sent)
    records = await read(kafka, "scores", 300)
    assert {(r.key, r.value, r.headers) for r in records} == {
        (m.key, m.value, m.headers) for m in sent
    }
    assert all(r.partition == partition_for(r.key, 4) for r in records)
    for partition in range(4):
        numbers = [int(r.value) for r in records if r.partition == partition]
        assert numbers == sorted(numbers)


async def test_one_call_may_go_to_several_topics_with_and_without_keys_and_values(
    kafka: Kafka, publisher: KafkaPublisher
) -> None:
    await publisher.publish([Message("dead", None, b"raw"), Message("dead", b"key", None)])
    assert [(r.key, r.value) for r in await read(kafka, "dead", 2)] == [
        (None, b"raw"),
        (b"key", None),
    ]


async def test_more_than_fits_one_batch_is_sent_in_several(
    kafka: Kafka, publisher: KafkaPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MAX_BATCH_BYTES", 10_000)
    small = KafkaPublisher(kafka.bootstrap)
    await small.start()
    sent = [Message("big", b"k", b"%03d" % number + bytes(2000)) for number in range(50)]
    sent.insert(7, Message("big", b"k", b"one" + bytes(30_000)))
    await small.publish(sent)
    await small.close()
    assert [r.value for r in await read(kafka, "big", 51)] == [m.value for m in sent]


async def test_nothing_to_publish_is_published_at_once(publisher: KafkaPublisher) -> None:
    await publisher.publish([])


async def test_a_broker_that_is_not_there_fails_the_start_with_the_remedy() -> None:
    with pytest.raises(PublishFailed, match="check the address"):
        await KafkaPublisher("127.0.0.1:1").start()


async def test_a_broker_that_goes_and_comes_back_is_published_to_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "REQUEST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(publishing, "RENEW_AFTER", 1)
    with EmbeddedKafka() as kafka:
        await ensure_topics(kafka.bootstrap, TOPICS)
        publisher = KafkaPublisher(kafka.bootstrap)
        await publisher.start()
        kafka.kill()
        for _ in range(2):
            with pytest.raises(PublishFailed) as failed:
                await publisher.publish([Message("dead", b"k", b"v")])
            assert failed.value.retriable
        kafka.start()
        await ensure_topics(kafka.bootstrap, TOPICS)
        await publisher.publish([Message("dead", b"k", b"v")])
        await publisher.close()
        assert [r.value for r in await read(kafka, "dead", 1)] == [b"v"]


async def test_the_one_in_memory_keeps_messages_in_order_and_fails_when_told() -> None:
    memory = MemoryPublisher()
    memory.fail_next()
    messages = [Message("a", b"k", b"1"), Message("b", b"k", b"2"), Message("a", b"k", b"3")]
    with pytest.raises(PublishFailed):
        await memory.publish(messages)
    assert memory.messages == []
    await memory.publish(messages)
    assert memory.messages == messages
    assert [message.value for message in memory.of("a")] == [b"1", b"3"]


class Producer:
    """An aiokafka producer whose batches end as they are told to."""

    made: ClassVar[list[Producer]] = []

    def __init__(self, *_: object, **__: object) -> None:
        Producer.made.append(self)
        self.ends: list[BaseException | None] = []
        self.answers = True
        self.asked = 0

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def partitions_for(self, topic: str) -> set[int]:
        if topic == "unknown":
            self.asked += 1
            await asyncio.get_running_loop().create_future()
        return {0}

    def create_batch(self) -> Any:
        return BatchBuilder(900_000, 0)

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[None]:
        batch.close()
        self.asked += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        end = self.ends.pop(0) if self.ends else None
        if end is None and not self.answers:
            return future
        future.set_result(None) if end is None else future.set_exception(end)
        return future


@pytest.mark.parametrize(
    ("error", "retriable", "remedy"),
    [
        (
            MessageSizeTooLargeError(),
            False,
            r"b: .*max\.message\.bytes to at least 1048588",
        ),
        (TopicAuthorizationFailedError(), False, r"b: .*may not write there; allow it"),
        (OutOfOrderSequenceNumber(), False, r"b: OutOfOrderSequenceNumber"),
        (NotEnoughReplicasError(), True, r"a: NotEnoughReplicasError"),
        (KafkaTimeoutError(), True, r"a: NotEnoughReplicasError"),
    ],
)
async def test_a_failure_says_whether_and_how_it_can_be_cured(
    monkeypatch: pytest.MonkeyPatch, error: KafkaError, retriable: bool, remedy: str
) -> None:
    monkeypatch.setattr(publishing, "AIOKafkaProducer", Producer)
    Producer.made.clear()
    publisher = KafkaPublisher("broker:1")
    await publisher.start()
    # Of two failures, the one that somebody has to act on is told.
    Producer.made[0].ends = [NotEnoughReplicasError(), error]
    with pytest.raises(PublishFailed, match=remedy) as failed:
        await publisher.publish([Message("a", b"k", b"v"), Message("b", b"k", b"v")])
    assert failed.value.retriable is retriable
    # What another producer may cure is tried with another one.
    assert len(Producer.made) == (1 if retriable else 2)
    await publisher.publish([Message("a", b"k", b"v")])
    await publisher.close()


async def test_who_waits_for_a_producer_that_another_partition_replaces_is_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "AIOKafkaProducer", Producer)
    Producer.made.clear()
    publisher = KafkaPublisher("broker:1")
    await publisher.start()
    (first,) = Producer.made
    first.answers = False  # to all but what it is told to fail
    waiting = [asyncio.create_task(publisher.publish([Message("a", b"k", b"v")])) for _ in range(3)]
    while first.asked < len(waiting):
        await asyncio.sleep(0)
    first.ends = [MessageSizeTooLargeError(), OutOfOrderSequenceNumber()]
    failing = [publisher.publish([Message("b", b"k", b"v")]) for _ in range(2)]
    ends = await asyncio.gather(*failing, *waiting, return_exceptions=True)
    assert all(isinstance(end, PublishFailed) for end in ends)
    assert [end.retriable for end in ends if isinstance(end, PublishFailed)] == [False] * 2 + [
        True
    ] * 3
    # One in its place, whoever else met the error of the first.
    assert len(Producer.made) == 2
    await publisher.publish([Message("a", b"k", b"v")])
    await publisher.close()
