"""What happens to the broker and to the network: F6, the broker's half of F28, F34."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

import pytest

from streamer.demo.embedded import EmbeddedKafka
from tests.chaos.conftest import SetStage, named
from tests.conftest import required
from tests.support.chaos.deployment import FULL, last_words, size
from tests.support.chaos.proxy import Proxy
from tests.support.chaos.results import Book


class KafkaBehindProxy(EmbeddedKafka):
    """A broker that sends its clients to a proxy's port."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._proxy.port}"

    def _launch(
        self, command: Sequence[str], answers: Callable[[], bool], timeout_s: float
    ) -> bool:
        changed = list(command)
        at = changed.index("--advertised-listener-url") + 1
        real, changed[at] = changed[at], f"tcp://{self.bootstrap}"
        self._proxy.target = ("127.0.0.1", int(real.rpartition(":")[2]))
        return super()._launch(changed, answers, timeout_s)


@asynccontextmanager
async def kafka_behind_proxy() -> AsyncIterator[tuple[EmbeddedKafka, Proxy]]:
    async with Proxy() as proxy:
        with required(KafkaBehindProxy(proxy)) as kafka:
            yield kafka, proxy


async def test_a_broker_that_stands_still(set_stage: SetStage, book: Book) -> None:
    pauses = (5, 25, 90) if FULL else (5, 12)
    what = f"the broker stopped for {', '.join(map(str, pauses))} s (SIGSTOP)"
    with required(EmbeddedKafka()) as kafka:
        stage = set_stage("f6-still", kafka=kafka)
        with book.entry("F6", what, named(kafka)) as entry:
            await stage.make_topics()
            worker = stage.keep()
            for pause in pauses:
                await stage.under_way(len(stage.orders) // (len(pauses) + 1))
                os.kill(kafka.pid, signal.SIGSTOP)
                await asyncio.sleep(pause)
                os.kill(kafka.pid, signal.SIGCONT)
                entry.times += 1
                await stage.finished()
            await stage.feed_rest()
            # A producer without ids may have sent its last list twice.
            await stage.verified(entry, orders=False)
            entry.note(f"the same worker all along: {worker.alive}")


async def test_terminate_without_a_broker(set_stage: SetStage, book: Book) -> None:
    what = "SIGTERM while the broker does not answer: exit code 0 within 20 s"
    with required(EmbeddedKafka()) as kafka:
        stage = set_stage("f4-broker", kafka=kafka)
        with book.entry("F4", what, named(kafka)) as entry:
            await stage.make_topics()
            worker = stage.keep()
            await stage.under_way(len(stage.orders) // 2)
            await stage.owner()
            stage.let_go(worker)
            os.kill(kafka.pid, signal.SIGSTOP)
            try:
                assert await worker.terminate() == 0, last_words(worker)
            finally:
                os.kill(kafka.pid, signal.SIGCONT)
            entry.times += 1
            stage.keep()
            await stage.feed_rest()
            await stage.verified(entry, orders=False)


@pytest.mark.parametrize("fault", ["late", "half-open", "reset"])
async def test_a_bad_network_to_the_broker(set_stage: SetStage, book: Book, fault: str) -> None:
    what = {
        "late": "20 ms each way, 1 % of packets 0.2 to 0.8 s late",
        "half-open": "half open: nothing answered for 12 s, then reset",
        "reset": "connections reset again and again",
    }[fault]
    async with kafka_behind_proxy() as (kafka, proxy):
        stage = set_stage(f"f28-{fault}", kafka=kafka, CLV_BATCH="200", CLV_SESSION_TIMEOUT="6s")
        with book.entry("F28", f"network to the broker: {what}", named(kafka)) as entry:
            await stage.make_topics()
            stage.keep()
            rounds = 4 if fault != "half-open" else 2
            for _ in range(rounds):
                await stage.under_way(len(stage.orders) // (rounds + 1))
                if fault == "late":
                    proxy.faults.delay_s, proxy.faults.loss = 0.02, 0.01
                elif fault == "reset":
                    entry.times += proxy.reset()
                else:
                    proxy.faults.silent = True
                    await asyncio.sleep(12)
                    proxy.faults.silent = False
                    entry.times += 1
                    proxy.reset()
            await stage.feed_rest()
            await stage.finished()
            entry.times += proxy.done.get("lost packets", 0)
            proxy.faults.delay_s = proxy.faults.loss = 0.0
            await stage.verified(entry, orders=False)
            entry.note(f"workers started: {len(stage.workers)}")


async def test_half_open_connections_under_load(set_stage: SetStage, book: Book) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stage = set_stage("f34", CLV_WEB_PORT=str(port))
    what = "a hundred half-open connections at a time to the worker's pages, under load"
    with book.entry("F34", what, named(stage.servers.kafka)) as entry:
        await stage.make_topics()
        worker = stage.keep()
        rounds = size(5, 50)
        for _ in range(rounds):
            await stage.under_way(len(stage.orders) // (2 * rounds))
            with ExitStack() as held:
                for _ in range(100):
                    _half_open(held, port)
                entry.times += 100
                await stage.under_way(len(stage.orders) // (2 * rounds))
                assert await asyncio.to_thread(_alive, port)
        await stage.feed_rest()
        await stage.verified(entry)
        assert worker.alive
        entry.note("/healthz answered in each round")


def _half_open(held: ExitStack, port: int) -> None:
    """A connection that begins a request and does not end it; or none, where none is taken."""
    with suppress(OSError):
        one = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")


def _alive(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
        return bool(answer.status == 200)
