"""A connection whose request another process of this machine answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamer.web.lobby import answer


class Relay(asyncio.Protocol):
    """Passes one request on to a port of 127.0.0.1, and its answer back; `gone` hears of the end.

    Nothing of either is read: the server there guards its pages, and each answer is its
    connection's last.
    """

    def __init__(
        self, port: int, within_s: float, gone: Callable[[asyncio.Protocol], None]
    ) -> None:
        self._port = port
        self._within_s = within_s
        self._gone = gone
        self._request = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._passing = asyncio.get_running_loop().create_task(self._pass_on())

    def data_received(self, data: bytes) -> None:
        # What comes after a whole head is no part of a request for a page.
        if not self._request:
            self._request += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._passing.cancel()
        self._gone(self)

    async def _pass_on(self) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(bytes(self._request))
                    found = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            found = answer(503, "the worker does not answer", 1)
        self._transport.write(found)
        self._transport.close()
        # Whoever does not read what was sent has no longer than this for it.
        asyncio.get_running_loop().call_later(self._within_s, self._transport.abort)
