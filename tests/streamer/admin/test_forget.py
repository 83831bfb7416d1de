"""Saying that a customer is to be forgotten, waiting for it, and hearing of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial

import pytest
from aiokafka import AIOKafkaConsumer

from features.events.orders import Order
from streamer.admin.forget import (
    Forgot,
    KafkaErasures,
    NotForgottenYet,
    announce,
    applied,
    to_its_partition,
)
from streamer.demo.embedded import EmbeddedKafka
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.kafka.topics import Topic, ensure_topics
from streamer.pipeline.erasures import Erasures, digest, erasure_in, marker
from streamer.records import (
    LogRange,
    LogUnavailable,
    MemoryPublisher,
    Message,
    Partition,
    PublishFailed,
)
from streamer.store.base import Write
from streamer.store.memory import MemoryStore
from tests.support.fakes import ERASURE_KEYS
from tests.support.servers.cluster import ApacheKafka

Kafka = EmbeddedKafka | ApacheKafka


async def say(
    publisher: MemoryPublisher, partitions: int = 3, erasures: Erasures | None = None
) -> Forgot:
    async def ranges() -> Mapping[int, LogRange]:
        return dict.fromkeys(range(partitions), LogRange(0, 5, partitions))

    return await announce(
        "ann",
        7,
        publisher,
        ranges,
        orders_topic="orders",
        erasures_topic="clv-erasures",
        partition_count=partitions,
        erasures=Erasures(ERASURE_KEYS) if erasures is None else erasures,
    )


async def test_the_marker_is_out_before_the_erasures_and_those_go_to_every_partition() -> None:
    publisher = MemoryPublisher()
    assert (await say(publisher)).ends == {0: 5, 1: 5, 2: 5}
    first, *rest = publisher.messages
    assert first == marker(digest("ann"), 7, "clv-erasures", ERASURE_KEYS)
    assert [to_its_partition(message, 3) for message in rest] == [0, 1, 2]
    for message in rest:
        assert (message.topic, message.key, message.value) == ("orders", b"ann", None)
        assert erasure_in(message.key, message.headers) is not None
    assert to_its_partition(first, 1) is None


async def test_what_was_hashed_without_a_key_is_keyed_before_it_is_deleted() -> None:
    publisher, old, erasures = MemoryPublisher(), {"ann": 3, "bob": 5}, Erasures(ERASURE_KEYS)
    for user, ms in old.items():
        before = b'{"schema": "erasure/1", "at_ms": %d}' % ms
        erasures.read(digest(user).encode(), before)
    await say(publisher, erasures=erasures)
    said = publisher.of("clv-erasures")
    assert said == [
        marker(digest("ann"), 7, "clv-erasures", ERASURE_KEYS),
        marker(digest("bob"), 5, "clv-erasures", ERASURE_KEYS),
        *(Message("clv-erasures", digest(user).encode(), None) for user in old),
    ]


async def test_without_a_marker_nothing_is_erased() -> None:
    publisher = MemoryPublisher()
    publisher.fail_next()
    with pytest.raises(PublishFailed):
        await say(publisher)
    assert publisher.messages == []


async def test_it_is_done_when_every_partition_is_applied_beyond_it() -> None:
    store = MemoryStore()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        partition = Partition("orders", len(naps))
        naps.append(seconds)
        claim = await store.claim(partition, 2)
        await store.write(partition, claim.epoch, claim.sequence, Write({}, {}, [], 5, None))

    waiting = partial(applied, Forgot({0: 5, 1: 5}), store, "orders", sleep=sleep)
    with pytest.raises(NotForgottenYet, match=r"partition 0 \(offset 5\), 1 \(offset 5\)"):
        await waiting(within_s=0)
    naps.clear()
    await waiting(within_s=30)
    assert len(naps) <= 2


def consumers(kafka: Kafka) -> partial[AIOKafkaConsumer]:
    return partial(AIOKafkaConsumer, bootstrap_servers=kafka.bootstrap)


async def test_markers_are_heard_of_wherever_the_topic_has_them_and_once(kafka: Kafka) -> None:
    topic = f"erasures-{uuid.uuid4().hex}"
    await ensure_topics(kafka.bootstrap, [Topic(topic, 2)])
    erasures, forgotten = (
        KafkaErasures(TopicReader(consumers(kafka)), topic),
        Erasures(ERASURE_KEYS),
    )
    await erasures.read_into(forgotten)
    assert not forgotten
    publisher = KafkaPublisher(kafka.bootstrap)
    await publisher.start()
    # Several in one batch: the embedded broker's "latest" falls short of its end.
    await publisher.publish([marker(digest(f"u{n}"), n, topic, ERASURE_KEYS) for n in range(20)])
    await erasures.read_into(forgotten)
    late = marker(digest("late"), 9, topic, ERASURE_KEYS)
    await publisher.publish([late, Message(topic, b"x", b"no marker")])
    await publisher.close()
    await erasures.read_into(forgotten)
    for n in range(20):
        assert forgotten.covers(Order("1", f"u{n}", n, 1))
        assert not forgotten.covers(Order("1", f"u{n}", n + 1, 1))
    assert forgotten.covers(Order("1", "late", 9, 1))
    assert (
        sum(log.end for log in (await TopicReader(consumers(kafka)).ranges(topic)).values()) == 22
    )


async def test_a_kafka_that_does_not_answer_is_waited_for_by_the_caller() -> None:
    connect = partial(AIOKafkaConsumer, bootstrap_servers="127.0.0.1:1")
    with pytest.raises(LogUnavailable):
        await KafkaErasures(TopicReader(connect), "erasures").read_into(Erasures())
