"""An ingester as a process: its servers, its pages, and the thread that ends it if it hangs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final, NoReturn

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from features.mapping.mapping import OrderMapping
from streamer import log
from streamer.clock import Clock, SystemClock
from streamer.errors import StreamerError
from streamer.ingest.decoders import DecoderCache
from streamer.ingest.loop import IngestLoop, IngestOptions
from streamer.ingest.metrics import IngestMetrics
from streamer.ingest.plan import IngestTerms
from streamer.ingest.registry import Registry
from streamer.kafka import clients as servers
from streamer.kafka import topics
from streamer.kafka.group import committed
from streamer.kafka.topics import KafkaUnreachable
from streamer.process import life
from streamer.process.hang import HangWatch
from streamer.process.life import ProcessLife
from streamer.process.outage import Outage
from streamer.reading import CanonicalReading, MappedReading
from streamer.settings import Settings
from streamer.web.server import GuardedWeb, guarded, listening, serve

_log = log.get(__name__)

STOP_WITHIN_S: Final = 5.0
SILENT_BROKER_S: Final = 10.0
FETCH_MAX_WAIT_MS: Final = 200


class SourceRefused(StreamerError):
    """Name a topic that is not one of ours."""


def group_of(settings: Settings, topic: str) -> str:
    """The consumer group that brings a topic in."""
    return f"{settings.group}-ingest-{topic}"


def run_ingest(settings: Settings, topic: str, mapping: OrderMapping | None) -> NoReturn:
    """Brings a topic in until told to end or until it cannot go on; ends the process. Without a
    mapping its records are orders as the contract has them. Raises SourceRefused."""
    ours = (settings.orders_topic, settings.dead_letter_topic)
    if topic in ours:
        raise SourceRefused(
            f"topic {topic!r} is what ingest itself writes to: name the topic that orders come from"
        )
    life.run("ingest", settings, partial(_work, settings, topic, mapping))


async def _work(
    settings: Settings, topic: str, mapping: OrderMapping | None, own: ProcessLife
) -> None:
    security, bootstrap = servers.kafka_arguments(settings), settings.kafka_bootstrap_servers
    await own.when_up(partial(servers.ensure_topics, settings))
    count = await own.when_up(
        partial(topics.partitions_of, bootstrap, topic, security=security, timeout_s=10)
    )
    _log.info("ingest.source", topic=topic, partitions=count, group=group_of(settings, topic))
    metrics, clock = IngestMetrics(), SystemClock()
    outage = Outage(metrics)
    async with AsyncExitStack() as stack:
        publisher = servers.kafka_publisher(settings)
        await own.when_up(publisher.start)
        stack.push_async_callback(_closed, publisher.close)
        decoders = None
        if settings.schema_registry_url is not None:
            url = settings.schema_registry_url.get_secret_value()
            registry = await stack.enter_async_context(Registry(url))
            decoders = DecoderCache(registry, outage, clock)
        consumer = _consumer(settings, group_of(settings, topic))
        await own.when_up(partial(_started, consumer, bootstrap))
        stack.push_async_callback(_closed, consumer.stop)
        loop = IngestLoop(
            consumer,
            partial(committed, settings, group_of(settings, topic)),
            publisher,
            _options(settings, topic, mapping),
            decoders,
            outage=outage,
            metrics=metrics,
            clock=clock,
        )
        if settings.web_port:
            web = _web(settings, loop, metrics, consumer)
            await web.start_server(listening(settings.web_bind, settings.web_port))
            stack.push_async_callback(_closed, web.stop_server)
        HangWatch(lambda: loop.progress, own.end, settings.watchdog_ms / 1000, clock).start()
        # What was imported stays: the garbage collector need not go through it over and over.
        gc.collect()
        gc.freeze()
        _log.info("ingest.ready")
        await loop.run()


def _options(settings: Settings, topic: str, mapping: OrderMapping | None) -> IngestOptions:
    rules = settings.order_rules
    return IngestOptions(
        topic,
        IngestTerms(
            CanonicalReading(rules) if mapping is None else MappedReading(mapping, rules),
            settings.orders_topic,
            settings.dead_letter_topic,
            settings.currency,
        ),
        settings.dead_letter_limits,
        settings.batch,
    )


def _consumer(settings: Settings, group: str) -> AIOKafkaConsumer:
    return servers.group_consumer(
        settings,
        group,
        # Where to begin is decided, and told, by the loop.
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )


async def _started(consumer: AIOKafkaConsumer, bootstrap: str) -> None:
    try:
        await consumer.start()
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(
            f"the Kafka at {bootstrap} cannot be used: {type(error).__name__}"
        ) from error


def _web(
    settings: Settings, loop: IngestLoop, metrics: IngestMetrics, consumer: AIOKafkaConsumer
) -> GuardedWeb:
    """The pages, as the worker has them."""
    web = guarded(settings)

    async def unhealthy() -> list[str]:
        return []

    async def unready() -> list[str]:
        return unready_because(loop, consumer, SystemClock())

    serve(web, unhealthy, unready, lambda: metrics.exposition(loop.lags()))
    return web


def unready_because(loop: IngestLoop, consumer: AIOKafkaConsumer, clock: Clock) -> list[str]:
    """Why an ingester brings nothing in; nothing where all is well."""
    complaints = list(loop.outage.reasons)
    if not loop.assigned:
        complaints.append("partitions: the group has assigned none yet")
    heard = [consumer.last_poll_timestamp(part) for part in consumer.assignment()]
    newest = max((at for at in heard if at is not None), default=None)
    if newest is not None and clock.now_ms() - newest > SILENT_BROKER_S * 1000:
        complaints.append("kafka: no broker answers fetches")
    return complaints


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_WITHIN_S):
            await close()
