"""Running a worker: its servers first, then what it serves."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NoReturn

from streamer.assemble import PipelineLoader
from streamer.kafka import clients as servers
from streamer.process import life
from streamer.process.life import ProcessLife
from streamer.settings import Settings
from streamer.worker.serving import Serving


def run_worker(settings: Settings) -> NoReturn:
    """Runs a worker until it is told to end or cannot go on; ends the process."""
    loader = PipelineLoader(settings)

    async def work(own: ProcessLife) -> None:
        loader.begin()
        cluster = await own.when_up(partial(servers.cluster_id, settings, timeout_s=10))
        await own.when_up(partial(servers.ensure_topics, settings))
        store = servers.redis_store(settings, cluster)
        publisher = servers.kafka_publisher(settings)
        try:
            await own.when_up(store.check_server)
            await own.when_up(publisher.start)
            await Serving(settings, cluster, store, publisher, loader, own.stop_for, own.end).run()
        finally:
            await asyncio.gather(publisher.close(), store.close(), return_exceptions=True)

    life.run("worker", settings, work)
