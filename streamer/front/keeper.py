"""A worker's front as the worker keeps it: started, told, heard, and started again when it ends.

The worker binds the address and hands the socket on, so that a taken one is told at the start, and
who connects while a front is being started again waits a second or two and is answered.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from streamer import log
from streamer.front.talk import TELL_S, News, Report, Task, line

_log = log.get(__name__)

AGAIN_S: Final = 1.0
# It gives itself two thirds of it.
END_WITHIN_S: Final = 3.0
# Turns without a report, after the first, after which the worker answers beside a front, and after
# which it is ended: it hangs.
QUIET_TURNS: Final = 5
SILENT_TURNS: Final = 60
_LINE_BYTES: Final = 1 << 20

Answered = Callable[[str, int, int], None]


class Process(Protocol):
    """What of asyncio's subprocess is used."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None

    def kill(self) -> None: ...
    async def wait(self) -> int: ...


class StandIn(Protocol):
    """Who answers at the address while no front does."""

    async def stand_in(self, listener: socket.socket) -> None: ...
    def stand_back(self) -> None: ...


class Keeper:
    """Keeps a front running. `news` is what it is told each second; `answered` hears of requests by
    page, status and number."""

    def __init__(self, news: Callable[[], News], answered: Answered, stand_in: StandIn) -> None:
        self._news = news
        self._answered = answered
        self._stand_in = stand_in
        self._silent, self._heard = 0, False

    async def run(self, listener: socket.socket, port: int, cluster: str) -> None:
        """Keeps it until cancelled. `port`: that of the worker's own pages."""
        task = Task(listener.fileno(), port, cluster)
        while True:
            await self._stand_in.stand_in(listener)
            process = await _started(listener)
            try:
                await self._keep(process, task, listener)
            finally:
                code = await _ended(process)
            _log.warning("front.ended", code=code)
            await asyncio.sleep(AGAIN_S)

    async def _keep(self, process: Process, task: Task, listener: socket.socket) -> None:
        """Talks with a front until it ends or hangs."""
        assert process.stdin is not None
        assert process.stdout is not None
        # Until then it may be starting, which takes as long as the machine lets it.
        self._silent, self._heard = 0, False
        hearing = asyncio.create_task(self._hear(process.stdout))
        try:
            process.stdin.write(line(task))
            while not hearing.done() and self._silent < SILENT_TURNS:
                process.stdin.write(line(self._news()))
                await asyncio.wait([hearing], timeout=TELL_S)
                self._silent += self._heard
                if self._silent == QUIET_TURNS:
                    _log.warning("front.quiet", turns=QUIET_TURNS)
                    await self._stand_in.stand_in(listener)
        except OSError:
            pass  # it has ended
        finally:
            hearing.cancel()

    async def _hear(self, lines: asyncio.StreamReader) -> None:
        while text := await lines.readline():
            self._silent, self._heard = 0, True
            self._stand_in.stand_back()
            for page, status, times in msgspec.json.decode(text, type=Report).answered:
                self._answered(page, status, times)


async def _ended(process: Process) -> int:
    """Its exit code: it ends when it hears no more, and answers what is under way."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        return await asyncio.wait_for(process.wait(), END_WITHIN_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


async def _started(listener: socket.socket) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer.front"),
        stdin=PIPE,
        stdout=PIPE,
        pass_fds=[listener.fileno()],
        limit=_LINE_BYTES,
        env=dict(os.environ),
    )
