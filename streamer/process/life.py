"""Starting, running and ending a process; every end has one line that says why.

Exit codes: 0 after SIGINT or SIGTERM, 70 after anything else. Ending is safe at any point: what is
stored and what is sent hang together, so an end that takes too long is simply cut off.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from model.errors import ModelError
from streamer import log
from streamer.clock import SystemClock
from streamer.errors import StreamerError, where
from streamer.kafka.topics import KafkaUnreachable
from streamer.records import PublishFailed
from streamer.settings import Settings
from streamer.store.base import StoreUnavailable

_log = log.get(__name__)
_T = TypeVar("_T")

EXIT_CODE: Final = 70
# From the request to end until the process ends whatever is left.
END_WITHIN_S: Final = 15.0
START_RETRY_S: Final = 2.0


def run(name: str, settings: Settings, work: Callable[[ProcessLife], Awaitable[None]]) -> NoReturn:
    """Does the work until told to end or until it cannot go on; ends the process. `name` begins its
    events in the log: `worker.ended`."""
    log.configure(settings.log_level, secrets=settings.secrets)
    threading.excepthook = _thread_failed
    reason: str | None
    life = ProcessLife(name, settings)
    try:
        reason = asyncio.run(life.run(work))
    except KeyboardInterrupt:
        reason = None
    life.end(reason)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """One line for what ends a thread; the watchdog sees what follows from it."""
    if failure.exc_value is not None:
        _log.exception("thread.failed", failure.exc_value)


def describe(error: BaseException) -> str:
    """One line for the end of a process."""
    if is_told(error):
        return " ".join(str(error).split())
    return (
        f"{where(error)}; this is a fault of ours: report it with the log"
        " (CLV_LOG_LEVEL=DEBUG has the message, which may name customers)"
    )


def is_told(error: BaseException) -> bool:
    """Whether the error's message is a sentence for an operator, with the remedy."""
    return isinstance(error, StreamerError | ModelError)


class ProcessLife:
    """One process between its start and its end."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._ending = asyncio.Event()
        self._reason: str | None = None
        self._clock = SystemClock()

    async def run(self, work: Callable[[ProcessLife], Awaitable[None]]) -> str | None:
        """Why the process ends; None where it was told to. The work is cancelled at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_end)
        working: asyncio.Future[None] = asyncio.ensure_future(work(self))
        ending = asyncio.create_task(self._ending.wait())
        both: set[asyncio.Future[Any]] = {working, ending}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if not working.cancelled() and (error := working.exception()) is not None:
            self.stop_for(error)
        return self._reason

    def stop_for(self, error: BaseException) -> None:
        """Ends the process in order, since it cannot go on after this error."""
        if self._reason is None:
            self._reason = describe(error)
            if not is_told(error):
                _log.exception(f"{self._name}.failing", error)
        self._arm()
        self._ending.set()

    def end(self, reason: str | None) -> NoReturn:
        """Ends the process at once, from any thread, without waiting for threads that may never
        answer."""
        if reason is None:
            _log.info(f"{self._name}.ended")
        else:
            _log.error(f"{self._name}.stopped", reason=reason)
        # `os._exit` skips what would flush stderr; StreamHandler has flushed each line itself.
        os._exit(0 if reason is None else EXIT_CODE)

    async def when_up(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """The action's result, once the server is up; gives up when the watchdog would."""
        deadline = self._clock.monotonic_s() + self._settings.watchdog_ms / 1000
        while True:
            try:
                return await action()
            except (KafkaUnreachable, StoreUnavailable, PublishFailed) as error:
                if self._clock.monotonic_s() > deadline:
                    raise
                _log.warning("start.waiting", reason=str(error))
            await asyncio.sleep(START_RETRY_S)

    def _told_to_end(self) -> None:
        _log.info(f"{self._name}.ending")
        if self._ending.is_set():
            os._exit(130)  # told twice
        self._arm()
        self._ending.set()

    def _arm(self) -> None:
        timer = threading.Timer(END_WITHIN_S, partial(self.end, self._reason))
        timer.daemon = True
        timer.start()
