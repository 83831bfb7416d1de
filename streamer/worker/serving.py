"""A worker between its start and its end: what it is made of, its pages, and its chores."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import faust

from streamer import log
from streamer.admin.forget import KafkaErasures
from streamer.assemble import PipelineLoader
from streamer.errors import StreamerError
from streamer.front.keeper import Keeper
from streamer.front.talk import News
from streamer.kafka import clients as servers
from streamer.kafka.faust_app import faust_app
from streamer.kafka.faust_consumer import install
from streamer.kafka.lane import Lane
from streamer.kafka.port import LaneOptions
from streamer.kafka.reader import TopicReader
from streamer.metrics import Metrics
from streamer.pipeline.batch import Pipeline
from streamer.records import Publisher
from streamer.settings import Settings
from streamer.store.base import StoreRefused, StoreUnavailable
from streamer.store.redis_store import RedisStore
from streamer.web.guards import ORDERS_PATH
from streamer.web.server import AddressTaken, answering, guarded, listening, serve
from streamer.webhook.start import webhook_of
from streamer.worker.lister import LIST_S, UNLIST_S, Lister
from streamer.worker.models import Models
from streamer.worker.partitions import Partitions
from streamer.worker.runners import Runners
from streamer.worker.watchdog import Watchdog

_log = log.get(__name__)

# For Faust's services to end, whose consumer has its own shorter limit.
STOP_WITHIN_S: Final = 5.0
PING_S: Final = 2.0
SILENT_BROKER_S: Final = 10.0
TICK_S: Final = 1.0
GC_THRESHOLD: Final = 100_000
FREE_TRIES: Final = 10
FREE_S: Final = 0.2
COMMIT_HINT_S: Final = 5.0
# Between two looks at whether the store still has what it confirmed.
STORE_CHECK_S: Final = 5.0
# Between two looks at whether the topic still is the one that was claimed.
TOPIC_CHECK_S: Final = 30.0


class WorkerStopped(StreamerError):
    """The worker ended for the reason that the message gives."""


class Serving:
    """One worker's parts; made in the event loop that they run in, with servers that answer."""

    def __init__(
        self,
        settings: Settings,
        cluster: str,
        store: RedisStore,
        publisher: Publisher,
        loader: PipelineLoader,
        stop_for: Callable[[BaseException], None],
        end: Callable[[str], None],
    ) -> None:
        """`stop_for` is told of what the worker cannot go on after; `end` ends the process at once,
        from any thread."""
        loop = asyncio.get_running_loop()
        connect = partial(servers.kafka_consumer, settings)
        self._settings = settings
        self._cluster = cluster
        self._store = store
        self._stop_for = stop_for
        self._model_read: asyncio.Future[None] = loop.create_future()
        self._metrics = Metrics()
        self._models = Models(settings, loader.load, self._metrics)
        runners = Runners(
            settings,
            store,
            publisher,
            self._pipeline,
            history=TopicReader(connect),
            erasures=KafkaErasures(TopicReader(connect), settings.erasures_topic),
            observer=self._models.observer,
        )
        self._partitions = Partitions(settings, runners, metrics=self._metrics)
        self._models.attach(self._partitions, store)
        self._lister = Lister(self._partitions, store, settings.orders_topic)
        self._webhook = webhook_of(settings, runners.erased, self._metrics)
        options = LaneOptions(settings.batch)
        self._lane = Lane(settings.orders_topic, self._partitions, stop_for, options)
        self._partitions.lane = self._lane
        self._watchdog = Watchdog(
            self._lane, loop, lambda: self._partitions.progress, end, settings.watchdog_ms / 1000
        )
        self._web = guarded(settings)
        self._app = faust_app(settings)
        install(self._app, self._lane)

    async def run(self) -> None:
        """Serves until cancelled; raises what crashed one of Faust's services."""
        self._watchdog.start()
        fronts = [] if self._settings.web_port == 0 else [await self._front()]
        chores = [asyncio.create_task(self._guarded(chore)) for chore in [*fronts, *self._chores()]]
        try:
            await self._app.start()
            await asyncio.shield(self._model_read)
            _log.info("worker.ready")
            await _until_crash(self._app)
        finally:
            self._watchdog.stop()
            for chore in chores:
                chore.cancel()
            await self._partitions.hint()
            await self._lane.close()
            await self._models.close()
            await self._web.stop_server()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._app.stop(), STOP_WITHIN_S)

    # --- pages ------------------------------------------------------------------------------

    async def _front(self) -> Awaitable[None]:
        """What keeps the process that answers at the worker's address; what only the worker knows
        is asked of it here. Raises AddressTaken."""
        serve(self._web, self._unhealthy, self._unready, self._exposition)
        self._web.add_page("/model", answering(self._models.page))
        excuse = "the pages are being started; ask again in a second"
        self._web.add_excuse(excuse, signed=[ORDERS_PATH])
        address = await _free(self._settings.web_bind, self._settings.web_port)
        await self._web.start_server(listening("127.0.0.1", 0))
        assert self._web.bound is not None
        keeper = Keeper(self._news, self._metrics.api_answered, self._web)
        return keeper.run(address, self._web.bound[1], self._cluster)

    def _news(self) -> News:
        reloader, gauges = (
            self._models.reloader,
            self._partitions.gauges(self._watchdog.vitals.ends),
        )
        sight = reloader.sight
        return News(
            None if sight is None else str(sight.path),
            hash(sight),
            {number: gauge.lag for number, gauge in gauges.items()},
        )

    async def _unhealthy(self) -> list[str]:
        verdict = self._watchdog.verdict()
        return [] if verdict is None else [verdict]

    async def _unready(self) -> list[str]:
        complaints = list(self._partitions.outage.reasons)
        if not self._model_read.done():
            complaints.append("model: being read")
        if self._web.stands_in:
            complaints.append("pages: being started")
        if not self._lane.ready:
            complaints.append("partitions: not all that the group assigned are claimed")
        if (self._watchdog.signs.fetch_age_s or 0) > SILENT_BROKER_S:
            complaints.append("kafka: no broker answers fetches")
        try:
            await asyncio.wait_for(self._store.ping(), PING_S)
        except (StoreUnavailable, StoreRefused, TimeoutError) as error:
            complaints.append(f"store: {str(error) or 'no answer'}")
        return complaints

    def _exposition(self) -> bytes:
        if self._webhook is not None:
            self._metrics.webhook_stands(self._webhook.lag())
        return self._metrics.exposition(self._partitions.gauges(self._watchdog.vitals.ends))

    # --- chores -----------------------------------------------------------------------------

    def _chores(self) -> list[Awaitable[None]]:
        partitions = self._partitions
        repeated = [
            (TICK_S, partitions.tick),
            (COMMIT_HINT_S, partitions.hint),
            (STORE_CHECK_S, partitions.check_store),
            (TOPIC_CHECK_S, partitions.check_topic),
            (LIST_S, self._lister.list_all),
            (UNLIST_S, self._lister.unlist),
            *self._models.looks(),
        ]
        chores: list[Awaitable[None]] = [self._read_model()]
        chores += [_every(interval_s, look) for interval_s, look in repeated]
        return chores if self._webhook is None else [*chores, self._webhook.run()]

    async def _guarded(self, chore: Awaitable[None]) -> None:
        try:
            await chore
        except Exception as error:
            self._stop_for(error)

    async def _pipeline(self) -> Pipeline:
        await asyncio.shield(self._model_read)
        pipeline = self._models.reloader.pipeline
        assert pipeline is not None
        return pipeline

    async def _read_model(self) -> None:
        """Fulfils the promise of a pipeline, on which the first claim waits.

        Importing scikit-learn and reading the model take a second or two, in which the group
        assigns partitions.
        """
        await self._models.reloader.start()
        # What was imported stays for good. The garbage collector, going through it all, would now
        # and then hold orders up for a tenth of a second and more. Orders make no cycles, but many
        # objects: at the usual threshold it looked through each batch dozens of times.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        self._model_read.set_result(None)


async def _free(bind: str, port: int) -> socket.socket:
    """A socket at an address, which the front of a worker that was killed may hold for a moment
    longer. Raises AddressTaken."""
    for _ in range(FREE_TRIES):
        try:
            return listening(bind, port)
        except AddressTaken:
            await asyncio.sleep(FREE_S)
    return listening(bind, port)


async def _every(interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
    """Runs the action again and again, `interval_s` after its last end, until cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        await action()


async def _until_crash(app: faust.App) -> None:
    """Returns never; raises what crashed one of Faust's services."""
    while not app.crashed:
        await asyncio.sleep(0.5)
    raise app.crash_reason or WorkerStopped("one of Faust's services crashed")
