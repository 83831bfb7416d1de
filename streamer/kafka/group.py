"""What a consumer group has committed, with the note that each offset was committed with: a
consumer of aiokafka's writes the notes and does not read them."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamer.kafka.clients import kafka_arguments
from streamer.kafka.topics import admin_client
from streamer.settings import Settings


async def committed(
    settings: Settings, group: str, parts: Collection[TopicPartition], timeout_s: float = 30.0
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The next offset and the note of each partition that the group has committed for. Raises
    KafkaUnreachable."""
    servers, security = settings.kafka_bootstrap_servers, kafka_arguments(settings)
    async with admin_client(servers, security, timeout_s) as admin:
        found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
            group, partitions=list(parts)
        )
    return {part: one for part, one in found.items() if one.offset >= 0}
