"""The orders topic read again from its start, to rebuild what was damaged in the store.

With a consumer of its own, outside of the group, so that the worker's stays where it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streamer.records import LogUnavailable, Partition

_BATCH: Final = 1_000
# A log that gives nothing for so long is not there; what is missing at its end was compacted away
# or belongs to a transaction.
_SILENT_MS: Final = 10_000


class KafkaHistory:
    """`History` from Kafka. `records_read` moves while it reads, for the watchdog."""

    def __init__(self, connect: Callable[..., AIOKafkaConsumer]) -> None:
        """`connect` makes a consumer, to be started, of the options given to it."""
        self.records_read = 0
        self._connect = connect

    async def start(self, partition: Partition) -> int:
        tp = TopicPartition(partition.topic, partition.number)
        async with self._consumer() as consumer:
            return int((await consumer.beginning_offsets([tp]))[tp])

    async def read(
        self, partition: Partition, until: int
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        tp = TopicPartition(partition.topic, partition.number)
        async with self._consumer() as consumer:
            consumer.assign([tp])
            start = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, start)
            while await consumer.position(tp) < until:
                found = await consumer.getmany(tp, timeout_ms=_SILENT_MS, max_records=_BATCH)
                records = [record for record in found.get(tp, []) if record.offset < until]
                self.records_read += len(records)
                if records:
                    yield records
                elif not found and await consumer.position(tp) < until:
                    raise LogUnavailable(
                        f"{partition.tag}: the log gave nothing for {_SILENT_MS // 1000} s at"
                        f" offset {await consumer.position(tp)}, before {until}"
                    )

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
            await consumer.stop()
