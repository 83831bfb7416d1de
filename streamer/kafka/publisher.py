"""Messages out: acknowledged by the broker before anybody relies on them.

What was measured (50,000 messages of 250 bytes, 4 partitions, Tansu and the producer on the same
two cores), CPU per message in the event loop's thread / in the whole process:

| way | us per message |
| --- | --- |
| aiokafka, `send()` for each message | 24 / 24 |
| aiokafka, batches we build (this module) | 3.3 / 3.3 |
| confluent-kafka, `produce()` with callbacks | 1.8-2.1 / 3.6-3.9 |

So the batches cost no more than librdkafka, and no second Kafka client is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from streamer import log
from streamer.pipeline.partitioner import partition_for, partitions_for
from streamer.records import Message, MessageColumns, MessageTooLarge, PublishFailed

_log = log.get(__name__)
_T = TypeVar("_T")

DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588
# Below that, the brokers' default for a topic, which counts the whole batch.
MAX_BATCH_BYTES: Final = 900_000
REQUEST_TIMEOUT_S: Final = 10.0
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
# Failed calls in a row after which the producer is replaced.
RENEW_AFTER: Final = 3


Route = Callable[["Message", int], int | None]
"""The partition for a message, of so many; None: as its key says."""


class _Line:
    """A producer, and whether it was given up: what it has not answered by then it never will."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self._given_up = asyncio.Event()

    async def unless_given_up(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What the work with the producer comes to. Raises TimeoutError where the producer is given
        up before: its metadata and its acks are waited for in vain then."""
        asked = asyncio.create_task(work)
        over = asyncio.create_task(self._given_up.wait())
        try:
            await asyncio.wait((asked, over), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            raise TimeoutError("the producer was replaced before the broker had answered")
        finally:
            asked.cancel()
            over.cancel()

    async def give_up(self) -> None:
        """Ends the producer, with what it can still send, and whoever waits for it."""
        try:
            with suppress(Exception):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await self.producer.stop()
        finally:
            self._given_up.set()


class KafkaPublisher:
    """Publishes to Kafka with acks from all in-sync replicas.

    Idempotent where the broker has producer ids; otherwise (Tansu) a request that is repeated after
    a lost answer may leave a message twice, which the delivery promise allows.
    Messages with a key go where Kafka's Java client sends them; those without are spread.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        security: Mapping[str, Any] | None = None,
        route: Route | None = None,
    ) -> None:
        """`security`: aiokafka's own arguments (security_protocol, ssl_context, sasl_...).
        `route` may send a message to another partition than its key would."""
        self._route = route
        self._servers = bootstrap_servers
        self._security = dict(security or {})
        self._line: _Line | None = None
        # All partitions publish through one producer: one of them replaces it at a time.
        self._changing = asyncio.Lock()
        self._turn = 0
        self._failures = 0

    async def start(self) -> None:
        """Connects. Raises PublishFailed when no broker answers."""
        await self._current()

    async def close(self) -> None:
        """Sends what waits and disconnects; at most the request timeout."""
        line, self._line = self._line, None
        if line is not None:
            await line.give_up()

    async def publish(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        line = await self._current()
        failed = await self._send(line, messages)
        if failed is None:
            self._failures = 0
            return
        self._failures += 1
        if self._failures % RENEW_AFTER == 0 or not failed.retriable:
            await self._renew(line)
        raise failed

    async def _current(self) -> _Line:
        async with self._changing:
            return self._line or await self._opened()

    async def _opened(self) -> _Line:
        try:
            self._line = _Line(await self._connect())
        except (KafkaError, OSError, TimeoutError) as error:
            raise PublishFailed(
                f"KAFKA_BOOTSTRAP_SERVERS={self._servers!r}: no broker answers "
                f"({type(error).__name__}); check the address and that the broker runs"
            ) from error
        return self._line

    async def _send(self, line: _Line, messages: Sequence[Message]) -> PublishFailed | None:
        """What went wrong, once every batch has been answered or given up; of several things, one
        that repeating does not cure."""
        try:
            batches, results = await line.unless_given_up(self._asked(line.producer, messages))
        except (KafkaError, OSError, TimeoutError) as error:
            return _failed(error)
        failures = [
            _failed(result, topic, batch.size())
            for (topic, _, batch), result in zip(batches, results, strict=True)
            if isinstance(result, BaseException)
        ]
        return min(failures, key=lambda failed: failed.retriable, default=None)

    async def _asked(
        self, producer: AIOKafkaProducer, messages: Sequence[Message]
    ) -> tuple[list[tuple[str, int, Any]], list[Any]]:
        """The messages' batches, and what each came to: an exception where it failed."""
        batches = await self._batches(producer, messages)
        acks = [
            await producer.send_batch(batch, topic, partition=partition)
            for topic, partition, batch in batches
        ]
        return batches, await asyncio.gather(*acks, return_exceptions=True)

    async def _renew(self, line: _Line) -> None:
        """Another producer than this one, unless somebody has made one since: aiokafka's stays
        broken after some errors (a lost producer id)."""
        async with self._changing:
            if self._line is not line:
                return
            self._line = None
            await line.give_up()
            await self._opened()

    async def _connect(self) -> AIOKafkaProducer:
        for idempotent in (True, False):
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                acks="all",
                enable_idempotence=idempotent,
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                # Batches are built here, whole: there is nothing to linger for.
                linger_ms=0,
                max_batch_size=MAX_BATCH_BYTES,
                max_request_size=4 * MAX_BATCH_BYTES,
                **self._security,
            )
            try:
                with _quiet("aiokafka.producer.sender", when=idempotent):
                    await producer.start()
            except KafkaError as error:
                await producer.stop()
                if not idempotent or error.retriable:
                    raise
                _log.debug("publisher.not_idempotent", error=type(error).__name__)
            else:
                return producer
        raise AssertionError("unreachable")

    async def _batches(
        self, producer: AIOKafkaProducer, messages: Sequence[Message]
    ) -> list[tuple[str, int, Any]]:
        """The messages as Kafka's batches, in their order within each partition."""
        if self._route is None and isinstance(messages, MessageColumns):
            return await self._batches_of_columns(producer, messages)
        counts: dict[str, int] = {}
        full: list[tuple[str, int, Any]] = []
        open_: dict[tuple[str, int], Any] = {}
        self._turn += 1
        for message in messages:
            topic, key = message.topic, message.key
            count = counts.get(topic)
            if count is None:
                count = counts[topic] = max(1, len(await producer.partitions_for(topic)))
            number = None if self._route is None else self._route(message, count)
            if number is None:
                number = self._turn % count if key is None else partition_for(key, count)
            batch = open_.get((topic, number))
            if batch is None:
                batch = open_[topic, number] = producer.create_batch()
            headers = list(message.headers)
            if not _append(batch, key, message.value, headers):
                full.append((topic, number, batch))
                batch = open_[topic, number] = producer.create_batch()
                _append(batch, key, message.value, headers)  # an empty batch takes any message
        return full + [(topic, number, batch) for (topic, number), batch in open_.items()]

    async def _batches_of_columns(
        self, producer: AIOKafkaProducer, messages: MessageColumns
    ) -> list[tuple[str, int, Any]]:
        """The same of scores, of which there may be many."""
        topic = messages.topic
        count = max(1, len(await producer.partitions_for(topic)))
        found: list[tuple[str, int, Any]] = []
        open_: dict[int, Any] = {}
        numbers = partitions_for(messages.keys, count)
        for number, key, value in zip(numbers, messages.keys, messages.values, strict=True):
            batch = open_.get(number)
            while batch is None or not _append(batch, key, value, []):
                batch = open_[number] = producer.create_batch()
                found.append((topic, number, batch))
        return found


def _append(batch: Any, key: bytes | None, value: bytes | None, headers: list[Any]) -> bool:
    return batch.append(timestamp=None, key=key, value=value, headers=headers) is not None


def _failed(error: BaseException, topic: str = "", size: int = 0) -> PublishFailed:
    """What to raise for an error; `size` bytes were for the topic."""
    retriable = not isinstance(error, KafkaError) or bool(error.retriable)
    # Timeouts of a batch are not marked retriable by aiokafka; they are nothing else.
    retriable = retriable or "Timeout" in type(error).__name__
    name = f"{topic}: {type(error).__name__}" if topic else type(error).__name__
    text = f"{name}: {_remedy(error, size)}"
    failed = PublishFailed(text, retriable=retriable)
    if isinstance(error, _TOO_LARGE):
        failed = MessageTooLarge(text)
    failed.__cause__ = error
    return failed


def _remedy(error: BaseException, size: int) -> str:
    """What to do, where somebody has to do something; else what the broker says."""
    if isinstance(error, _TOO_LARGE):
        at_least = max(size, DEFAULT_MAX_MESSAGE_BYTES)
        return (
            f"the topic takes no batch of {size:,} bytes; set its max.message.bytes to at least"
            f" {at_least}, and what waits is sent"
        )
    if isinstance(error, (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
        return "the user of CLV_KAFKA_USERNAME may not write there; allow it (docs/security.md)"
    return str(error)


@contextmanager
def _quiet(name: str, *, when: bool) -> Iterator[None]:
    """Holds a logger's errors back: a broker without producer ids is no error, and is answered."""
    logger = logging.getLogger(name)
    disabled, logger.disabled = logger.disabled, when or logger.disabled
    try:
        yield
    finally:
        logger.disabled = disabled
