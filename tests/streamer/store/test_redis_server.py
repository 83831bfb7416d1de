"""What the client raises, as what the caller does next."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import Connection as ClientConnection

from streamer.store.base import StoreUnavailable
from streamer.store.redis_server import RedisServer
from streamer.store.redis_url import connect


async def test_a_writer_taken_from_under_a_command_is_a_lost_connection() -> None:
    server = RedisServer(connect("redis://127.0.0.1:1", 1.0), "root:")
    taken = ClientConnection()  # has no writer, as after another task's disconnect
    with pytest.raises(StoreUnavailable, match="lost with a command under way"):
        async with server.errors():
            await taken._send_packed_command([b"PING"])
    with pytest.raises(AttributeError):  # a fault of ours stays one
        async with server.errors():
            taken.nothing_of_this_name  # type: ignore[attr-defined]  # noqa: B018
    await server.close()
