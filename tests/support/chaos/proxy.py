"""A TCP proxy on loopback that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

_CHUNK: Final = 1 << 16


@dataclass(slots=True)
class Faults:
    """What is done to every connection, from now on. All may be changed while it runs.

    `delay_s`: each chunk, each way, comes so much later. `loss`: share of chunks that come 0.2 to
    0.8 s later, as a lost packet does that TCP sends again. `silent`: everything is swallowed, and
    the connection stays open. `refuse`: connections are closed as they are made.
    `lose_answers`: so many requests that have `marker` in them are carried out, and then the
    connection is reset instead of answered. `cut_requests`: so many are cut off halfway instead.
    """

    delay_s: float = 0.0
    loss: float = 0.0
    silent: bool = False
    refuse: bool = False
    lose_answers: int = 0
    cut_requests: int = 0
    marker: bytes = b"EVALSHA"


class Proxy:
    """Listens on a port of its own; give `target`, then `start`."""

    def __init__(self, target: tuple[str, int] | str | None = None, seed: int = 1) -> None:
        """`target`: host and port, or the path of a Unix socket."""
        self.target = target
        self.faults = Faults()
        self.done: dict[str, int] = {}
        self.port = 0
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        # What the closed connections leave behind ends in the next turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def reset(self) -> int:
        """Resets every connection; how many there were."""
        found = list(self._open)
        for writer in found:
            writer.transport.abort()
        self._count("resets", len(found) // 2)
        return len(found) // 2

    def _count(self, name: str, by: int = 1) -> None:
        self.done[name] = self.done.get(name, 0) + by

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse or self.target is None:
            self._count("refused")
            writer.transport.abort()
            return
        try:
            if isinstance(self.target, str):
                far_reader, far = await asyncio.open_unix_connection(self.target)
            else:
                far_reader, far = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far}
        self._open |= both
        link = _Link()
        try:
            await asyncio.gather(
                self._pump(reader, far, link, asks=True),
                self._pump(far_reader, writer, link, asks=False),
            )
        except (OSError, _Cut):
            pass
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, asks: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            faults = self.faults
            if faults.silent:
                self._count("swallowed")
                continue
            if asks and faults.marker in data:
                if faults.cut_requests:
                    faults.cut_requests -= 1
                    self._count("cut")
                    writer.write(data[: data.index(faults.marker) + len(faults.marker)])
                    with suppress(OSError):
                        await writer.drain()
                    raise _Cut
                if faults.lose_answers:
                    faults.lose_answers -= 1
                    link.loses = True
            elif not asks and link.loses:
                self._count("lost answers")
                raise _Cut
            if faults.delay_s:
                await asyncio.sleep(faults.delay_s)
            if faults.loss and self._random.random() < faults.loss:
                self._count("lost packets")
                await asyncio.sleep(self._random.uniform(0.2, 0.8))
            writer.write(data)
            await writer.drain()
        raise _Cut


@dataclass(slots=True)
class _Link:
    """One connection through the proxy."""

    loses: bool = field(default=False)


class _Cut(Exception):
    """The connection ends, both ways."""
