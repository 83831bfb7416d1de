"""Clients of the Kafka and the Redis that the settings name, with the TLS and logins they name.

Whoever needs a client takes it from here, so that none goes out without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from streamer.kafka import topics
from streamer.kafka.publisher import KafkaPublisher, Route
from streamer.kafka.security import kafka_arguments, redis_arguments
from streamer.kafka.topics import Topic
from streamer.settings import Settings
from streamer.store.redis_store import RedisStore


def kafka_publisher(settings: Settings, route: Route | None = None) -> KafkaPublisher:
    """A publisher, to be started."""
    return KafkaPublisher(settings.kafka_bootstrap_servers, kafka_arguments(settings), route)


def kafka_consumer(settings: Settings, *names: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer of the topics by these names, to be started; for commands, not for the worker,
    whose consumer is Faust's. `options` are aiokafka's."""
    return AIOKafkaConsumer(
        *names,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        **kafka_arguments(settings),
        **options,
    )


async def ensure_topics(settings: Settings, wanted: Sequence[Topic]) -> dict[str, int]:
    """How many partitions each topic has, once all exist; see `topics.ensure_topics`."""
    return await topics.ensure_topics(
        settings.kafka_bootstrap_servers, wanted, security=kafka_arguments(settings)
    )


async def cluster_id(settings: Settings, timeout_s: float = 30.0) -> str:
    """The Kafka cluster's name in the store's keys: as set, else the id it gave itself.

    Raises KafkaUnreachable, also where the name is set.
    """
    found = await topics.cluster_id(
        settings.kafka_bootstrap_servers,
        security=kafka_arguments(settings),
        timeout_s=timeout_s,
    )
    return settings.cluster_id or found


def redis_store(settings: Settings, cluster: str) -> RedisStore:
    """The store, under the name of a Kafka cluster; it connects when first used."""
    return RedisStore.from_url(
        settings.redis_url.get_secret_value(),
        cluster_id=cluster,
        namespace=settings.state_namespace,
        security=redis_arguments(settings),
    )
