"""Topics on the embedded broker: made where missing, checked where not."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from streamer.kafka.topics import (
    CLV_ERASURES,
    CLV_SCORES,
    ORDERS,
    TOPICS,
    CertificateRefused,
    KafkaUnreachable,
    LoginRefused,
    PartitionsDiffer,
    Topic,
    TopicRefused,
    cluster_id,
    ensure_topics,
    refusal,
)
from tests.support.servers.cluster import Kafka
from tests.support.servers.kafka_kit import topics_of


def fresh(topic: Topic) -> Topic:
    """The same under a name of this test's own."""
    return replace(topic, name=f"{topic.name}-{uuid.uuid4().hex}")


def test_the_topics_are_those_of_the_contract() -> None:
    assert [topic.name for topic in TOPICS] == [
        "orders",
        "churn-warnings",
        "clv-scores",
        "orders-dead-letter",
        "clv-erasures",
    ]
    compacted = [topic for topic in TOPICS if topic.config["cleanup.policy"] == "compact"]
    assert compacted == [CLV_SCORES, CLV_ERASURES]


async def test_missing_topics_are_made_with_their_partitions(
    kafka: Kafka,
) -> None:
    topics = [fresh(topic) for topic in TOPICS]
    expected = {topic.name: topic.partitions for topic in topics}
    assert await ensure_topics(kafka.bootstrap, topics) == expected
    assert await ensure_topics(kafka.bootstrap, topics) == expected


async def test_a_topic_just_made_takes_and_gives_records(kafka: Kafka) -> None:
    topic = fresh(ORDERS)
    await ensure_topics(kafka.bootstrap, [topic])
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    consumer = AIOKafkaConsumer(
        topic.name,
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=200,
    )
    async with producer, consumer:
        await producer.send_and_wait(topic.name, b"{}", key=b"ann")
        async with asyncio.timeout(10):
            record = await consumer.getone()
        assert (record.key, record.value) == (b"ann", b"{}")


async def test_makers_at_the_same_time_agree(kafka: Kafka) -> None:
    topics = [fresh(topic) for topic in TOPICS]
    found = await asyncio.gather(*(ensure_topics(kafka.bootstrap, topics) for _ in range(4)))
    assert found == [{topic.name: topic.partitions for topic in topics}] * 4


@pytest.mark.parametrize("wanted", [2, 8])
async def test_orders_with_other_partitions_is_refused_before_anything_is_made(
    kafka: Kafka, wanted: int
) -> None:
    orders, other = fresh(ORDERS), fresh(CLV_SCORES)
    await ensure_topics(kafka.bootstrap, [orders])
    with pytest.raises(PartitionsDiffer, match=f"has 4 partitions.* says {wanted}"):
        await ensure_topics(kafka.bootstrap, [replace(orders, partitions=wanted), other])
    assert other.name not in await topics_of(kafka.bootstrap)


async def test_other_topics_may_have_the_partitions_they_have(
    kafka: Kafka,
) -> None:
    scores = fresh(CLV_SCORES)
    await ensure_topics(kafka.bootstrap, [replace(scores, partitions=1)])
    assert await ensure_topics(kafka.bootstrap, [scores]) == {scores.name: 1}


class RefusingAdmin:
    """A Kafka with rules; the embedded one has none."""

    def __init__(self, **_: Any) -> None: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def describe_topics(self) -> list[Any]:
        return []

    async def create_topics(self, topics: list[NewTopic], **_: Any) -> SimpleNamespace:
        code = TopicAuthorizationFailedError.errno
        return SimpleNamespace(topic_errors=[(topic.name, code, None) for topic in topics])


async def test_a_topic_that_kafka_does_not_let_us_make_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamer.kafka.topics.AIOKafkaAdminClient", RefusingAdmin)
    with pytest.raises(TopicRefused, match=r"'orders': TopicAuthorizationFailed.*allow this user"):
        await ensure_topics("kafka:9092")


async def test_the_cluster_names_itself(kafka: Kafka) -> None:
    assert await cluster_id(kafka.bootstrap) == kafka.cluster_id


async def test_a_kafka_out_of_reach_is_named() -> None:
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1 "):
        await cluster_id("127.0.0.1:1", timeout_s=2)
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1 "):
        await ensure_topics("127.0.0.1:1", timeout_s=2)


# --- refused, or out of reach ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (SaslAuthenticationFailed("wrong"), LoginRefused, "CLV_KAFKA_PASSWORD"),
        (AuthenticationFailedError("wrong"), LoginRefused, "CLV_KAFKA_USERNAME"),
        (UnsupportedSaslMechanismError("no PLAIN"), LoginRefused, "CLV_KAFKA_SASL_MECHANISM"),
        (ssl.SSLCertVerificationError("stranger"), CertificateRefused, "CLV_KAFKA_CA_FILE"),
    ],
)
def test_a_refusal_is_told_with_what_to_set(
    error: Exception, kind: type[KafkaUnreachable], says: str
) -> None:
    told = refusal("broker:9093", error)
    assert type(told) is kind
    assert says in str(told)
    assert "broker:9093" in str(told)


@pytest.mark.parametrize(
    "error", [OSError("refused"), KafkaConnectionError("gone"), TimeoutError()]
)
def test_a_broker_that_does_not_answer_refuses_nothing(error: Exception) -> None:
    assert refusal("broker:9093", error) is None


async def test_a_broker_without_tls_where_tls_is_set_is_told_from_one_out_of_reach() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"no TLS here")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    security = {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()}
    async with server:
        with pytest.raises(CertificateRefused, match="CLV_KAFKA_SECURITY_PROTOCOL"):
            await cluster_id(f"127.0.0.1:{port}", security=security, timeout_s=5)
    with pytest.raises(KafkaUnreachable) as caught:
        await cluster_id(f"127.0.0.1:{port}", security=security, timeout_s=5)
    assert type(caught.value) is KafkaUnreachable
