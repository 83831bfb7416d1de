"""Clients of the Kafka and the Redis that the settings name, with the TLS and logins they name.

Whoever needs a client takes it from here, so that none goes out without them. Names of servers are
always checked against their certificates; no setting switches that off.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaConsumer

from streamer.kafka import topics
from streamer.kafka.publisher import KafkaPublisher, Route
from streamer.kafka.unpacking import bound
from streamer.settings import Settings, SettingsRefused
from streamer.store.redis_admin import RedisAdmin

_CIPHERED: Final = "the key is encrypted"


def kafka_publisher(settings: Settings, route: Route | None = None) -> KafkaPublisher:
    """A publisher, to be started."""
    return KafkaPublisher(settings.kafka_bootstrap_servers, kafka_arguments(settings), route)


def kafka_consumer(settings: Settings, *names: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer of the topics by these names, to be started; for all but the orders of a worker,
    whose consumer is Faust's. `options` are aiokafka's."""
    bound()
    return AIOKafkaConsumer(
        *names,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        **kafka_arguments(settings),
        **options,
    )


def group_consumer(settings: Settings, group: str, **options: Any) -> AIOKafkaConsumer:
    """A member of a consumer group, to be started; it commits what it is told to."""
    session_ms = settings.session_timeout_ms
    return kafka_consumer(
        settings,
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=min(3_000, session_ms // 4),
        **options,
    )


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[RedisAdmin]:
    """The store of the settings' Kafka cluster, closed at the end."""
    store = redis_store(settings, await cluster_id(settings))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_publisher(
    settings: Settings, route: Route | None = None
) -> AsyncIterator[KafkaPublisher]:
    """A publisher, started, and closed at the end."""
    publisher = kafka_publisher(settings, route)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


async def ensure_topics(settings: Settings) -> dict[str, int]:
    """How many partitions each of our topics has, once all exist; see `topics.ensure_topics`."""
    return await topics.ensure_topics(
        settings.kafka_bootstrap_servers,
        topics.topics_to_make(settings),
        security=kafka_arguments(settings),
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


def redis_store(settings: Settings, cluster: str) -> RedisAdmin:
    """The store, under the name of a Kafka cluster; it connects when first used."""
    return RedisAdmin.from_url(
        settings.redis_url.get_secret_value(),
        cluster_id=cluster,
        namespace=settings.state_namespace,
        security=redis_arguments(settings),
    )


def kafka_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of every aiokafka client: producer, consumer and admin client.

    Raises SettingsRefused for files that are not what they should be.
    """
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return {}
    arguments: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        arguments["ssl_context"] = kafka_context(settings)
    if protocol.startswith("SASL_"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": kafka_password(settings),
        }
    return arguments


def redis_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of every redis-py client that speaks TLS; empty where nothing but the URL is set.

    Raises SettingsRefused for files that are not what they should be.
    """
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    given = {name: str(path) for name, path in files.items() if path is not None}
    if given:
        # redis-py makes its own when it connects; what is wrong is said now, by the variable.
        _context("REDIS", settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)
    return given


def kafka_password(settings: Settings) -> str | None:
    """The password for SASL; None without one."""
    secret = settings.kafka_password
    return None if secret is None else secret.get_secret_value()


def kafka_context(settings: Settings) -> ssl.SSLContext:
    """TLS for Kafka. Raises SettingsRefused for files that are not what they should be."""
    return _context(
        "KAFKA", settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file
    )


def _context(server: str, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name checked."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError:
        raise SettingsRefused(
            [f"CLV_{server}_CA_FILE={str(ca)!r}: has no certificates in PEM form"]
        ) from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert, key, password=_refuse)
        except (OSError, ValueError) as error:
            why = _CIPHERED if _CIPHERED in str(error) else "is not the key of that certificate"
            raise SettingsRefused(
                [
                    f"CLV_{server}_CERT_FILE={str(cert)!r}, CLV_{server}_KEY_FILE={str(key)!r}: "
                    f"{why}; give both in PEM form, the key not encrypted"
                ]
            ) from None
    return context


def _refuse() -> NoReturn:
    """Instead of the question for a password, which OpenSSL would put to the terminal."""
    raise ValueError(_CIPHERED)
