"""A TCP proxy before a broker that can put an error code into one of its answers.

The broker has to advertise the proxy's port on a listener of its own, or its clients go past it:
see `behind_proxy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum

from tests.support.servers.cluster import ApacheKafka, free_ports

LISTENER = "PROXIED"


class Api(IntEnum):
    """Requests whose answers begin with throttle time and error code, but for old versions."""

    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14


_THROTTLED_FROM = {Api.JOIN_GROUP: 2, Api.HEARTBEAT: 1, Api.SYNC_GROUP: 1}


class Proxy:
    """`spoil` says what becomes of the next answers; `spoilt` has what was done."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.spoilt: list[tuple[Api, int]] = []
        self._upstream = upstream
        self._orders: deque[tuple[Api, int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def spoil(self, api: Api, code: int) -> None:
        """The next answer to such a request says `code`; the broker has done what was asked."""
        self._orders.append((api, code))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        asked: dict[int, tuple[int, int]] = {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            try:
                async with asyncio.TaskGroup() as group:
                    there = group.create_task(self._requests(reader, up_writer, asked))
                    back = group.create_task(self._answers(up_reader, writer, asked))
                    await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                    there.cancel()
                    back.cancel()
            finally:
                up_writer.close()
        writer.close()
        self._tasks.discard(task)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, tuple[int, int]],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                api, version, correlation = struct.unpack_from(">hhi", frame)
                asked[correlation] = (api, version)
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: dict[int, tuple[int, int]],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                (correlation,) = struct.unpack_from(">i", frame)
                frame = self._treated(frame, *asked.pop(correlation))
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()

    def _treated(self, frame: bytes, api: int, version: int) -> bytes:
        if not self._orders or self._orders[0][0] != api:
            return frame
        wanted, code = self._orders.popleft()
        assert version >= _THROTTLED_FROM[wanted]
        self.spoilt.append((wanted, code))
        # Correlation id and throttle time come first.
        return frame[:8] + struct.pack(">h", code) + frame[10:]


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def behind_proxy() -> tuple[ApacheKafka, Proxy]:
    """A broker, and the proxy through which those go who ask there first; neither runs yet."""
    port = free_ports(1, [LISTENER])[1][LISTENER]
    kafka = ApacheKafka(listeners={LISTENER: "PLAINTEXT"}, advertised={LISTENER: port})
    return kafka, Proxy(port, kafka.brokers[0].ports[LISTENER])
