"""Starting, running and ending a worker; every end has one line that says why.

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
from typing import Final, NoReturn, TypeVar

from model.errors import ModelError
from streamer import log
from streamer.clock import SystemClock
from streamer.errors import StreamerError, where
from streamer.kafka import clients as servers
from streamer.kafka.topics import (
    KafkaUnreachable,
)
from streamer.records import PublishFailed
from streamer.settings import Settings
from streamer.store.base import StoreUnavailable
from streamer.worker.pipelines import PipelineLoader
from streamer.worker.serving import Serving, WorkerStopped
from streamer.worker.watchdog import EXIT_CODE

_log = log.get(__name__)
_T = TypeVar("_T")

# From the request to end until the process ends whatever is left.
END_WITHIN_S: Final = 15.0
START_RETRY_S: Final = 2.0


def run_worker(settings: Settings) -> NoReturn:
    """Runs a worker until it is told to end or cannot go on; ends the process."""
    log.configure(settings.log_level, secrets=settings.secrets)
    threading.excepthook = _thread_failed
    reason: str | None
    try:
        reason = asyncio.run(_Worker(settings).run())
    except KeyboardInterrupt:
        reason = None
    except WorkerStopped as stopped:
        reason = str(stopped)
    _end(reason)


def _end(reason: str | None) -> NoReturn:
    """Ends the process without waiting for threads that may never answer."""
    if reason is None:
        _log.info("worker.ended")
    else:
        _log.error("worker.stopped", reason=reason)
    # `os._exit` skips what would flush stderr; StreamHandler has flushed each line itself.
    os._exit(0 if reason is None else EXIT_CODE)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """One line for what ends a thread; the watchdog sees what follows from it."""
    if failure.exc_value is not None:
        _log.exception("thread.failed", failure.exc_value)


def describe(error: BaseException) -> str:
    """One line for the end of a worker."""
    if is_told(error):
        return " ".join(str(error).split())
    return (
        f"{where(error)}; this is a fault of ours: report it with the log"
        " (CLV_LOG_LEVEL=DEBUG has the message, which may name customers)"
    )


def is_told(error: BaseException) -> bool:
    """Whether the error's message is a sentence for an operator, with the remedy."""
    return isinstance(error, StreamerError | ModelError)


class _Worker:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ending = asyncio.Event()
        self._reason: str | None = None
        self._loader = PipelineLoader(settings)
        self._clock = SystemClock()

    async def run(self) -> str | None:
        """Why the worker ended; None where it was told to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_end)
        work = asyncio.create_task(self._work())
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not work.done():
            work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()) is not None:
            self._stop_for(error)
        return self._reason

    # --- ends -------------------------------------------------------------------------------

    def _told_to_end(self) -> None:
        _log.info("worker.ending")
        if self._ending.is_set():
            os._exit(130)  # told twice
        self._arm()
        self._ending.set()

    def _stop_for(self, error: BaseException) -> None:
        if self._reason is None:
            self._reason = describe(error)
            if not is_told(error):
                _log.exception("worker.failing", error)
        self._arm()
        self._ending.set()

    def _arm(self) -> None:
        timer = threading.Timer(END_WITHIN_S, partial(_end, self._reason))
        timer.daemon = True
        timer.start()

    # --- life -------------------------------------------------------------------------------

    async def _work(self) -> None:
        settings = self._settings
        self._loader.begin()
        cluster = await self._when_up(partial(servers.cluster_id, settings, timeout_s=10))
        await self._when_up(partial(servers.ensure_topics, settings))
        store = servers.redis_store(settings, cluster)
        publisher = servers.kafka_publisher(settings)
        try:
            await self._when_up(store.check_server)
            await self._when_up(publisher.start)
            serving = Serving(settings, store, publisher, self._loader, self._stop_for, _end)
            await serving.run()
        finally:
            await asyncio.gather(publisher.close(), store.close(), return_exceptions=True)

    async def _when_up(self, action: Callable[[], Awaitable[_T]]) -> _T:
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
