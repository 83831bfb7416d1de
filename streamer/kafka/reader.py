"""Topics read by commands, and by a worker beside its own consumer: from an offset to the end.

With consumers of their own, outside of the group, so that the worker's stays where it is. One
behaviour on silence: what is read ends where the log does, which is asked first; a log that gives
nothing for a while before that raises LogUnavailable. Compaction and transactions that have ended
leave no such silence, since offsets that hold nothing to read are stepped over; a transaction that
is left open does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streamer.records import LogRange, LogUnavailable, Partition

Connect = Callable[..., AIOKafkaConsumer]

_BATCH: Final = 1_000
_SILENT_MS: Final = 10_000
_POLL_MS: Final = 100
_END_WITHIN_S: Final = 10.0


class TopicReader:
    """Reads what is committed. `records_read` moves while it reads, for the watchdog.

    Everything raises LogUnavailable where Kafka cannot be read.
    """

    def __init__(self, connect: Connect) -> None:
        """`connect` makes a consumer, to be started, of the options given to it."""
        self.records_read = 0
        self._connect = connect

    async def start(self, partition: Partition) -> int:
        """The offset at which a partition's log begins now."""
        tp = TopicPartition(partition.topic, partition.number)
        async with self._consumer() as consumer:
            return int((await consumer.beginning_offsets([tp]))[tp])

    async def ranges(self, topic: str, count: int | None = None) -> dict[int, LogRange]:
        """Where the log of each partition begins and ends; `count`: how many there are, None where
        that is not known yet."""
        async with self._consumer() as consumer:
            if count is None:
                # Only once it has been asked about one partition does the client know the others.
                await consumer.beginning_offsets([TopicPartition(topic, 0)])
                count = max(consumer.partitions_for_topic(topic) or {0}) + 1
            parts = [TopicPartition(topic, number) for number in range(count)]
            starts, ends = await consumer.beginning_offsets(parts), await log_ends(consumer, parts)
        return {p.partition: LogRange(starts[p], ends[p], count) for p in parts}

    async def read(
        self, partition: Partition, until: int, start: int | None = None
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """All records from `start` (None: the log's) up to but without `until`, in order."""
        tp = TopicPartition(partition.topic, partition.number)
        async with self._consumer() as consumer:
            consumer.assign([tp])
            if start is None:
                start = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, start)
            while (position := await consumer.position(tp)) < until:
                found = await consumer.getmany(tp, timeout_ms=_SILENT_MS, max_records=_BATCH)
                records = [record for record in found.get(tp, []) if record.offset < until]
                self.records_read += len(records)
                if records:
                    yield records
                elif not found and await consumer.position(tp) == position:
                    raise LogUnavailable(
                        f"{partition.tag}: the log gave nothing for {_SILENT_MS // 1000} s at"
                        f" offset {position}, before {until}"
                    )

    async def read_all(
        self, topic: str, count: int | None = None, since: Mapping[int, int] | None = None
    ) -> AsyncIterator[tuple[Partition, Sequence[ConsumerRecord]]]:
        """All that the topic has now, one partition after the other, in lists of one partition.

        Where the topic ends is asked once: what is written while we read is for the next run.
        `since`: the offsets to begin at, where the logs still have them.
        """
        for number, log in (await self.ranges(topic, count)).items():
            start = (since or {}).get(number, log.start)
            if not log.start <= start <= log.end:  # cut since then, or the topic was recreated
                start = log.start
            if start < log.end:
                partition = Partition(topic, number)
                async for records in self.read(partition, log.end, start):
                    yield partition, records

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = self._connect(
            auto_offset_reset="none", enable_auto_commit=False, isolation_level="read_committed"
        )
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(f"Kafka cannot be read: {type(error).__name__}") from error
        finally:
            with suppress(KafkaError, OSError):
                await consumer.stop()


async def log_ends(
    consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offset to be written of each partition. The consumer, started, is reassigned.

    Asked for "latest", Kafka says so; Tansu names the second record of the newest batch. What comes
    with fetched records is right on both. Raises TimeoutError and KafkaError.
    """
    starts, latest = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    filled = [part for part in parts if latest[part] > starts[part]]
    if filled:  # a consumer that is assigned to nothing does not end
        consumer.assign(filled)
    for part in filled:
        consumer.seek(part, latest[part])
    async with asyncio.timeout(_END_WITHIN_S):
        while any(consumer.highwater(part) is None for part in filled):
            await consumer.getmany(timeout_ms=_POLL_MS)
    ends: dict[TopicPartition, int] = dict(latest)
    for part in filled:
        ends[part] = max(ends[part], consumer.highwater(part))
    return ends
