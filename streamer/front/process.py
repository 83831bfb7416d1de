"""The front: `python -m streamer.front`, which a worker starts. It reads states from Redis and
scores by the worker's model, in an interpreter of its own and at a low priority."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from streamer import log
from streamer.admin.forget import Forgetter
from streamer.assemble import PipelineLoader
from streamer.errors import where
from streamer.front.talk import TELL_S, WORKERS_OWN, News, Report, Task, line
from streamer.http.live import Live
from streamer.http.orders import OrdersPage, OrderTerms
from streamer.http.predict import Api
from streamer.kafka import clients as servers
from streamer.pipeline.batch import Pipeline
from streamer.records import PublishFailed
from streamer.settings import Settings
from streamer.web.server import guarded

_log = log.get(__name__)

# Where scoring wants all of the one core that there is, what is left for answers is a quarter.
NICER: Final = 5
# Between two tries of a model that the worker could read.
RETRY_S: Final = 30.0
_LINE_BYTES: Final = 1 << 20


def main() -> None:
    """Answers until the worker is gone."""
    # Ctrl-C is for the worker, whose end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever else is printed must not be taken for a report.
    out = os.dup(1)
    os.dup2(2, 1)
    settings = Settings.load(os.environ)
    log.configure(settings.log_level, secrets=settings.secrets)
    try:
        asyncio.run(_answer(settings, out))
    except Exception as error:
        _log.exception("front.failing", error)
        os._exit(1)
    os._exit(0)  # without waiting for threads


async def _answer(settings: Settings, out: int) -> None:
    lines = await _lines_in()
    task = msgspec.json.decode(await lines.readline(), type=Task)
    front = Front(settings, task)
    await front.start(socket.socket(fileno=task.listener))
    with suppress(OSError):
        os.nice(NICER)
    telling = asyncio.create_task(_tell(front, out))
    while text := await lines.readline():
        front.hear(msgspec.json.decode(text, type=News))
        if telling.done():
            break
    await front.web.stop_server()


async def _lines_in() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _tell(front: Front, out: int) -> None:
    """A report a second; raises nothing: ends when nobody reads them."""
    os.set_blocking(out, False)
    while True:
        report = front.report()
        try:
            os.write(out, line(report))  # shorter than what a pipe takes whole
        except BlockingIOError:
            front.count(report)  # the worker stands still, and is told when it goes on
        except OSError:
            return
        await asyncio.sleep(TELL_S)


class Front:
    """The pages, by what the worker tells."""

    def __init__(self, settings: Settings, task: Task) -> None:
        self._settings = settings
        self._load = PipelineLoader(settings).load
        self._pipeline: Pipeline | None = None
        self._edition: int | None = None
        self._lags: Mapping[int, int | None] = {}
        self._loading: asyncio.Task[None] | None = None
        self._answered = Counter[tuple[str, int]]()
        self.web = guarded(settings)
        self.web.relay(WORKERS_OWN, task.port)
        self._intake = servers.kafka_publisher(settings)
        terms = OrderTerms(
            settings.order_rules,
            settings.orders_topic,
            settings.dead_letter_topic,
            settings.webhook_secrets,
        )
        OrdersPage(self.web, self._intake, terms, self._count).add()
        if settings.api:
            store = servers.redis_store(settings, task.cluster)
            api = Api(lambda: self._pipeline, store, settings.orders_topic, answered=self._count)
            api.add_to(self.web)
            forget = Forgetter(settings) if settings.erasure_keys.newest is not None else None
            Live(api, forget, lambda: self._lags).add_to(self.web)

    async def start(self, listener: socket.socket) -> None:
        """Answers who connects to the socket."""
        await self.web.start_server(listener)
        _log.info("front.ready")
        with suppress(PublishFailed):  # it starts itself when there is something to send
            await self._intake.start()

    def hear(self, news: News) -> None:
        """Takes over what the worker tells; a model in a thread, while the one before goes on."""
        self._lags = news.lags
        busy = self._loading is not None and not self._loading.done()
        if self._settings.api and news.path and news.edition != self._edition and not busy:
            self._edition = news.edition
            self._loading = asyncio.create_task(self._adopt(news))

    async def _adopt(self, news: News) -> None:
        path = news.path
        assert path is not None
        try:
            self._pipeline = await asyncio.to_thread(partial(self._load, path))
            # As in the worker: what was imported stays for good.
            gc.collect()
            gc.freeze()
        except Exception as error:  # what the worker could read a moment ago
            _log.error("front.model_refused", reason=where(error))
            await asyncio.sleep(RETRY_S)
            self._edition = None

    def _count(self, page: str, status: int) -> None:
        self._answered[page, status] += 1

    def count(self, report: Report) -> None:
        """Counts what was not told."""
        for page, status, times in report.answered:
            self._answered[page, status] += times

    def report(self) -> Report:
        """What was answered since the report before."""
        found, self._answered = self._answered, Counter()
        return Report([(page, status, times) for (page, status), times in found.items()])
