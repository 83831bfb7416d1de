"""Where a log ends, on every broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

_POLL_MS: Final = 100
_WITHIN_S: Final = 10.0


async def log_ends(
    consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offset to be written of each partition. The consumer, started, is assigned to them.

    Asked for "latest", Kafka says so; Tansu names the second record of the newest batch. What comes
    with fetched records is right on both. Raises TimeoutError and KafkaError.
    """
    latest = await consumer.end_offsets(parts)
    consumer.assign(parts)
    for part in parts:
        consumer.seek(part, latest[part])
    async with asyncio.timeout(_WITHIN_S):
        while any(consumer.highwater(part) is None for part in parts):
            await consumer.getmany(timeout_ms=_POLL_MS)
    return {part: max(latest[part], consumer.highwater(part)) for part in parts}
