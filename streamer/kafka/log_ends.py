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
    """The next offset to be written of each partition. The consumer, started, is assigned anew.

    Asked for "latest", Kafka says so; Tansu names the second record of the newest batch. What comes
    with fetched records is right on both. Raises TimeoutError and KafkaError.
    """
    starts, latest = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    filled = [part for part in parts if latest[part] > starts[part]]
    if filled:  # a consumer that is assigned to nothing does not end
        consumer.assign(filled)
    for part in filled:
        consumer.seek(part, latest[part])
    async with asyncio.timeout(_WITHIN_S):
        while any(consumer.highwater(part) is None for part in filled):
            await consumer.getmany(timeout_ms=_POLL_MS)
    ends: dict[TopicPartition, int] = dict(latest)
    for part in filled:
        ends[part] = max(ends[part], consumer.highwater(part))
    return ends
