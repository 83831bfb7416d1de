"""Starting, running and ending a worker; every end has one line that says why.

Exit codes: 0 after SIGINT or SIGTERM, 70 after anything else. Ending is safe at any point: what is
stored and what is said hang together, so an end that takes too long is simply cut off.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from mode import Service

from model.artifact import trial as isolation
from model.artifact.files import ArtifactRefused
from model.artifact.trial import TrialLoad
from model.errors import ModelError
from streamer import log
from streamer.admin.forget import KafkaErasures
from streamer.assemble import pipeline_of
from streamer.errors import StreamerError
from streamer.http.predict import Api
from streamer.http.server import GuardedWeb, answering, serve
from streamer.kafka import clients as servers
from streamer.kafka.faust_app import faust_app
from streamer.kafka.faust_consumer import install
from streamer.kafka.lane import Lane
from streamer.kafka.port import LaneOptions
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.reader import TopicReader
from streamer.kafka.topics import (
    KafkaUnreachable,
)
from streamer.metrics import Metrics
from streamer.pipeline.partition import Pipeline
from streamer.records import PublishFailed
from streamer.settings import Settings
from streamer.store.base import StoreRefused, StoreUnavailable
from streamer.store.redis_store import RedisStore
from streamer.worker.models import Models
from streamer.worker.partitions import (
    COMMIT_HINT_S,
    STORE_CHECK_S,
    TICK_S,
    TOPIC_CHECK_S,
    Partitions,
    every,
)
from streamer.worker.reload import Reloader
from streamer.worker.watchdog import EXIT_CODE, Watchdog

_log = log.get(__name__)
_T = TypeVar("_T")

# From the request to end until the process ends whatever is left.
END_WITHIN_S: Final = 15.0
# Of that, for Faust's services, whose consumer has its own shorter limit.
STOP_WITHIN_S: Final = 5.0
START_RETRY_S: Final = 2.0
PING_S: Final = 2.0
SILENT_BROKER_S: Final = 10.0
# Niceness of the process that tries the next model.
GIVES_WAY: Final = 10


class WorkerStopped(StreamerError):
    """The worker ended for the reason that the message gives."""


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
        f"{log.where(error)}; this is a fault of ours: report it with the log"
        " (CLV_LOG_LEVEL=DEBUG has the message, which may name customers)"
    )


def is_told(error: BaseException) -> bool:
    """Whether the error's message is a sentence for an operator, with the remedy."""
    return isinstance(error, StreamerError | ModelError | ValueError)


class _Worker:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ending = asyncio.Event()
        self._reason: str | None = None
        self._trial: TrialLoad | None = None

    async def run(self) -> str | None:
        """Why the worker ended; None where it was told to."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_end)
        try:
            work = asyncio.create_task(self._work())
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if not work.cancelled() and (error := work.exception()) is not None:
                self._stop_for(error)
        finally:
            if self._trial is not None:
                self._trial.close()
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
        self._trial = await asyncio.to_thread(self._try_early)
        cluster = await self._when_up(partial(servers.cluster_id, settings, timeout_s=10))
        await self._when_up(partial(servers.ensure_topics, settings))
        store = servers.redis_store(settings, cluster)
        publisher = servers.kafka_publisher(settings)
        try:
            await self._when_up(store.check_server)
            await self._when_up(publisher.start)
            await self._serve(store, publisher)
        finally:
            await asyncio.gather(publisher.close(), store.close(), return_exceptions=True)

    async def _serve(self, store: RedisStore, publisher: KafkaPublisher) -> None:
        settings = self._settings
        model_read: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        counts = Metrics()
        models = Models(settings, self._pipeline, counts)
        reloader = models.reloader

        async def pipeline() -> Pipeline:
            await asyncio.shield(model_read)
            assert reloader.pipeline is not None
            return reloader.pipeline

        partitions = Partitions(
            settings,
            store,
            publisher,
            pipeline,
            history=TopicReader(partial(servers.kafka_consumer, settings)),
            erasures=KafkaErasures(
                TopicReader(partial(servers.kafka_consumer, settings)), settings.erasures_topic
            ),
            observer=models.observer,
            metrics=counts,
        )
        models.attach(partitions, store)
        lane = Lane(
            settings.orders_topic,
            partitions,
            self._stop_for,
            LaneOptions(settings.batch, settings.fetch_max_wait_ms),
        )
        partitions.lane = lane
        app = faust_app(settings)
        install(app, lane)
        loop = asyncio.get_running_loop()
        watchdog = Watchdog(
            lane, loop, lambda: partitions.progress, _end, settings.watchdog_ms / 1000
        )

        async def healthy() -> list[str]:
            verdict = watchdog.verdict()
            return [] if verdict is None else [verdict]

        async def ready() -> list[str]:
            complaints = list(partitions.outage.reasons)
            if not model_read.done():
                complaints.append("model: being read")
            if not lane.ready:
                complaints.append("partitions: not all that the group assigned are claimed")
            if (watchdog.signs.fetch_age_s or 0) > SILENT_BROKER_S:
                complaints.append("kafka: no broker answers fetches")
            try:
                await asyncio.wait_for(store.ping(), PING_S)
            except (StoreUnavailable, StoreRefused, TimeoutError) as error:
                complaints.append(f"store: {str(error) or 'no answer'}")
            return complaints

        def metrics() -> bytes:
            return partitions.metrics.exposition(partitions.standings(watchdog.vitals.ends))

        assert isinstance(app.web, GuardedWeb)
        serve(app.web, healthy, ready, metrics)
        app.web.add_page("/model", answering(models.page))
        if settings.api:
            api = Api(
                lambda: reloader.pipeline,
                store,
                settings.orders_topic,
                answered=partitions.metrics.api_answered,
            )
            api.add_to(app.web)
        watchdog.start()
        chores = [
            asyncio.create_task(self._guarded(self._read_model(reloader, model_read))),
            asyncio.create_task(self._guarded(every(TICK_S, partitions.tick))),
            asyncio.create_task(self._guarded(every(COMMIT_HINT_S, partitions.hint))),
            asyncio.create_task(self._guarded(every(STORE_CHECK_S, partitions.check_store))),
            asyncio.create_task(self._guarded(every(TOPIC_CHECK_S, partitions.check_topic))),
        ]
        chores += [
            asyncio.create_task(self._guarded(every(interval_s, look)))
            for interval_s, look in models.looks()
        ]
        try:
            await app.start()
            await asyncio.shield(model_read)
            _log.info("worker.ready")
            await self._until_crash(app)
        finally:
            watchdog.stop()
            for chore in chores:
                chore.cancel()
            await partitions.hint()
            await lane.close()
            await models.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), STOP_WITHIN_S)

    async def _until_crash(self, app: Service) -> None:
        """Returns never; raises what crashed one of Faust's services."""
        while not app.crashed:
            await asyncio.sleep(0.5)
        raise app.crash_reason or WorkerStopped("one of Faust's services crashed")

    async def _guarded(self, chore: Awaitable[None]) -> None:
        try:
            await chore
        except Exception as error:
            self._stop_for(error)

    async def _when_up(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """The action's result, once the server is up; gives up when the watchdog would."""
        deadline = asyncio.get_running_loop().time() + self._settings.watchdog_ms / 1000
        while True:
            try:
                return await action()
            except (KafkaUnreachable, StoreUnavailable, PublishFailed) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                _log.warning("start.waiting", reason=str(error))
            await asyncio.sleep(START_RETRY_S)

    def _try_early(self) -> TrialLoad | None:
        """A trial of the first model that goes on while the servers are waited for."""
        if self._settings.model is None:
            return None
        try:
            return TrialLoad(self._settings.model, self._settings.trust)
        except ArtifactRefused:
            return None  # as it will be when it is read, which is when it is told

    def _pipeline(self, path: Path) -> Pipeline:
        """The pipeline of the artifact in a directory, tried in a process of its own. Raises
        ArtifactRefused and ValueError."""
        trial, self._trial = self._trial, None
        if trial is not None and trial.directory != path:
            trial.close()
            trial = None
        # Whoever takes over from a model that works can wait; orders cannot.
        trial = trial or TrialLoad(path, self._settings.trust, niceness=GIVES_WAY)
        return pipeline_of(self._settings, isolation.loaded(trial))

    async def _read_model(self, reloader: Reloader, model_read: asyncio.Future[None]) -> None:
        """Fulfils the promise of a pipeline, on which the first claim waits.

        Importing scikit-learn and reading the model take a second or two, in which the group
        assigns partitions.
        """
        await reloader.start()
        # What was imported stays for good. The garbage collector, going through it all, would now
        # and then hold orders up for a tenth of a second and more.
        gc.collect()
        gc.freeze()
        model_read.set_result(None)
