"""The warnings topic, read by a consumer group of the webhook's own, and delivered in order.

Each partition of ours is read in order by one task, so a customer's messages, which are in one
partition, come in order. An offset is committed when everything before it has been taken: who is
cut off in between is followed by somebody who sends the last messages again, under the same ids.
A receiver that takes nothing stops its partitions here and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streamer import log
from streamer.records import Message
from streamer.webhook.deliver import Deliverer

_log = log.get(__name__)

POLL_MS: Final = 500
AGAIN_S: Final = 2.0
# Records of one fetch, of all partitions.
_AHEAD: Final = 100
# Ids that were taken lately: the topic may have a message twice.
_KNOWN: Final = 10_000


class Consumer(Protocol):
    """What of aiokafka's consumer is used."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def subscribe(self, topics: list[str], *, listener: ConsumerRebalanceListener) -> None: ...
    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...


class _Named(msgspec.Struct):
    warning_id: str


_named = msgspec.json.Decoder(_Named)


class Follower(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Delivers what the group gives us. `erased`: whether a message is of somebody forgotten since,
    who is not told of any more."""

    def __init__(
        self,
        consumer: Callable[[], Consumer],
        topic: str,
        deliverer: Deliverer,
        erased: Callable[[Message], bool] = lambda message: False,
    ) -> None:
        self._make = consumer
        self._topic = topic
        self._deliverer = deliverer
        self._erased = erased
        self._consumer: Consumer | None = None
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._taken: OrderedDict[str, None] = OrderedDict()

    def lag(self) -> dict[int, int]:
        """Records of each partition of ours that the receiver has not taken."""
        consumer = self._consumer
        ends = {part: consumer.highwater(part) if consumer else None for part in self._next}
        return {
            part.partition: max(0, end - self._next[part]) if end is not None else 0
            for part, end in ends.items()
        }

    async def run(self) -> None:
        """Delivers until cancelled; begins again whenever Kafka fails."""
        try:
            while True:
                try:
                    await self._follow()
                except KafkaError as error:
                    _log.warning("webhook.log_away", error=type(error).__name__)
                await asyncio.sleep(AGAIN_S)
        finally:
            await self._deliverer.close()

    async def _follow(self) -> None:
        consumer = self._consumer = self._make()
        try:
            await consumer.start()
            consumer.subscribe([self._topic], listener=self)
            while True:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=_AHEAD)
                for part, records in found.items():
                    # A partition is read on when what was read of it has been taken; the others go
                    # on meanwhile, and so does the group's heartbeat.
                    consumer.pause(part)
                    self._next.setdefault(part, records[0].offset)
                    self._tasks[part] = asyncio.create_task(self._deliver(consumer, part, records))
                await self._failures()
        finally:
            await self._drop(list(self._tasks))
            self._next.clear()
            with suppress(KafkaError):
                await consumer.stop()

    async def _deliver(
        self, consumer: Consumer, part: TopicPartition, records: Sequence[ConsumerRecord]
    ) -> None:
        for record in records:
            await self._deliver_one(record)
            self._next[part] = record.offset + 1
            await consumer.commit({part: record.offset + 1})
        consumer.resume(part)

    async def _deliver_one(self, record: ConsumerRecord) -> None:
        try:
            name = _named.decode(record.value or b"").warning_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            _log.warning("webhook.no_warning", partition=record.partition, offset=record.offset)
            return
        if name in self._taken or self._erased(Message(self._topic, record.key, record.value)):
            return
        await self._deliverer.deliver(name, record.value)
        self._taken[name] = None
        if len(self._taken) > _KNOWN:
            self._taken.popitem(last=False)

    async def _failures(self) -> None:
        """Raises what ended a partition's task."""
        for part in [part for part, task in self._tasks.items() if task.done()]:
            await self._tasks.pop(part)

    # --- aiokafka's listener ----------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._drop(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        for part in assigned:
            _log.info("webhook.follows", partition=part.partition)

    async def _drop(self, parts: Collection[TopicPartition]) -> None:
        """What is under way is left to who comes next."""
        tasks: list[asyncio.Task[Any]] = [
            self._tasks.pop(part) for part in list(parts) if part in self._tasks
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for part in parts:
            self._next.pop(part, None)
