"""What tests do to a broker's topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient


@asynccontextmanager
async def administrating(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that may change topics, closed at the end."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def topics_of(bootstrap: str) -> set[str]:
    """The names of all topics."""
    async with administrating(bootstrap) as admin:
        return set(await admin.list_topics())


async def delete_topic(bootstrap: str, topic: str) -> None:
    """Returns when the topic is gone."""
    async with administrating(bootstrap) as admin:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            await asyncio.sleep(0.1)
