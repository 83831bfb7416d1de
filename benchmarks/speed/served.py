"""Servers, orders in a topic, and whoever works through them, watched from outside."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.speed.environments import RIVALS, ROOT, python_of
from benchmarks.speed.measured import CACHE, cpu_s, peak_mb, run
from benchmarks.speed.workloads import Workload
from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from streamer.demo.sample import sample_orders
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.deployment import Deployment, Servers

# CPU is read from here on: imports, the group and the first batches are no part of it.
WARM_SHARE = 0.1
WITHIN_S = 900.0
STALLED_S = 120.0
_POLL_S = 0.02
_TOPICS = {
    "CLV_ORDERS_TOPIC": "orders",
    "CLV_SCORES_TOPIC": "clv-scores",
    "CLV_WARNINGS_TOPIC": "churn-warnings",
}


@dataclass(frozen=True)
class Way:
    """A way to do the whole job. `orders`: so many of the workload's, for those that are slow."""

    name: str
    orders: int
    environment: str = ""
    command: tuple[str, ...] = ()
    rival: str = ""


PRODUCT = Way("clv-streamer", 200_000)
FLOOR = Way("floor by hand, no guarantees", 200_000, "floor", ("floor.py",))
_BYTEWAX = ("-m", "bytewax.run", "bytewax_app")
RIVAL_WAYS = (
    Way("Bytewax flat_map_batch, Redis", 50_000, "rivals", _BYTEWAX, "batch"),
    Way("Bytewax stateful_map", 40_000, "rivals", _BYTEWAX),
    Way("Quix Streams, State", 10_000, "rivals", ("quix_app.py",)),
    Way("Quix Streams, Redis", 10_000, "rivals", ("quix_app.py", "redis")),
    Way("Faust event by event, Redis", 5_000, "rivals", ("faust_app.py", "worker", "-l", "error")),
)


class Stalled(RuntimeError):
    """Nothing came out for a long time, or whoever works has ended; the message has its words."""


class Stage:
    """One broker, one Redis, the topics, a model and whoever works."""

    def __init__(
        self, kafka: EmbeddedKafka | ApacheKafka, store: EmbeddedRedis, directory: Path, **set_: str
    ):
        self.kafka, self.redis, self.directory = kafka, store, directory
        self.drive = python_of("floor")
        self.scores = 0
        variables = {**_TOPICS, "CLV_BATCH": "1000", "CLV_SESSION_TIMEOUT": "4s", **set_}
        self.deployment = Deployment(
            "bench", Servers(kafka, store), model(), directory, **variables
        )
        self.partitions = self.deployment.settings.partitions
        self.started: list[subprocess.Popen[Any]] = []
        asyncio.run(self.deployment.make_topics())

    def driven(self, what: str, *rest: object, **options: Any) -> subprocess.Popen[str]:
        command = [self.drive, "-m", "benchmarks.speed.rivals.drive", what]
        command += [self.kafka.bootstrap, self.partitions, *rest]
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True, **options
        )
        self.started.append(process)
        return process

    def fill(self, workload: Workload) -> None:
        """Returns when all of its orders are in the topic."""
        process = self.driven("fill", stdin=subprocess.PIPE)
        process.communicate(workload.text())
        if process.returncode:
            raise Stalled("the driver could not fill the topic")

    def start(self, way: Way, workers: int = 1) -> list[int]:
        """Starts whoever works that way; their process ids."""
        if not way.environment:
            return [self.deployment.worker().pid for _ in range(workers)]
        environ = {
            **self.deployment.environ,
            "RIVAL": way.rival,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(RIVALS),
        }
        with (self.directory / "rival.log").open("wb") as log:
            process = subprocess.Popen(
                [python_of(way.environment), *way.command],
                cwd=RIVALS,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return [process.pid]

    def count(self) -> None:
        """From now on `scores` counts the scores that come out."""

        def read(process: subprocess.Popen[str]) -> None:
            for line in process.stdout or ():
                self.scores = int(line)

        threading.Thread(target=read, args=(self.driven("count"),), daemon=True).start()

    async def applied(self) -> int:
        """Orders that the product has applied, as Redis says."""
        store = self.deployment.store()
        try:
            claims = [await store.peek(partition) for partition in self.deployment.partitions]
        finally:
            await store.close()
        return sum((claim.next_offset or 0) for claim in claims if claim)

    def used_bytes(self) -> int:
        """What the Redis uses for data: without the buffers of connections and of its log."""
        memory = redis.Redis.from_url(self.redis.url).info("memory")
        buffers = ("mem_clients_normal", "mem_aof_buffer")
        return int(memory["used_memory"]) - sum(int(memory[name]) for name in buffers)

    def words(self) -> str:
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(log.read_text(errors="replace")[-2_000:] for log in logs)

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@contextmanager
def stage(
    broker: type[EmbeddedKafka | ApacheKafka] = EmbeddedKafka, **settings: object
) -> Iterator[Stage]:
    """Fresh servers, ended with what was started on them."""
    with (
        broker() as kafka,
        EmbeddedRedis() as store,
        tempfile.TemporaryDirectory(prefix="clv-bench-") as directory,
    ):
        made = Stage(kafka, store, Path(directory), **{k: str(v) for k, v in settings.items()})
        try:
            with made.deployment:
                yield made
        finally:
            made.end()


def whole_job(way: Way, workload: Workload, workers: int = 1, **settings: Any) -> dict[str, Any]:
    """What an order took of the workers, Redis and broker: CPU in us, and orders a second.

    Read from the moment on when a tenth of the orders is done. `settings` may name a `broker`.
    """
    with stage(**settings) as place:
        place.fill(workload)
        return watched(place, way, place.start(way, workers), workload.orders, 0)


def watched(place: Stage, way: Way, pids: Sequence[int], orders: int, done: int) -> dict[str, Any]:
    """Waits until so many orders beyond those done are worked through; what each took."""
    if way.environment:
        place.count()
    first = until(place, way, done + int(orders * WARM_SHARE), done + orders)
    watch = (*pids, place.redis.pid, place.kafka.pid)
    began, before = time.perf_counter(), [cpu_s(pid) for pid in watch]
    until(place, way, done + orders, done + orders)
    wall_s = time.perf_counter() - began
    spent = [cpu_s(pid) - was for pid, was in zip(watch, before, strict=True)]
    each = done + orders - first
    return {
        "orders": each,
        "cpu_us": sum(spent[: len(pids)]) / each * 1e6,
        "redis_us": spent[-2] / each * 1e6,
        "broker_us": spent[-1] / each * 1e6,
        "a_second": each / wall_s,
        "peak_mb": max(peak_mb(pid) for pid in pids),
    }


def until(place: Stage, way: Way, wanted: int, all_: int) -> int:
    """Returns when so many orders are done, and how many are; with the last of them, when all that
    they closed is judged and said."""
    moved, last = time.perf_counter(), -1
    while True:
        found = place.scores if way.environment else asyncio.run(place.applied())
        if found >= wanted:
            break
        if found != last:
            moved, last = time.perf_counter(), found
        ended = any(process.poll() for process in place.started)
        ended = ended or any(not worker.alive for worker in place.deployment.workers)
        if ended or time.perf_counter() - moved > STALLED_S:
            raise Stalled(f"{way.name}: {found:,} of {wanted:,} orders\n{place.words()}")
        time.sleep(_POLL_S)
    if wanted == all_ and not way.environment:
        asyncio.run(place.deployment.settled(all_, WITHIN_S))
    return found


def cdnow() -> Path:
    """CDNOW as a file of orders."""
    log = sample_orders(CACHE)
    if not log.is_real:
        raise SystemExit(f"CDNOW cannot be had here: {log.why}")
    return log.path


def model() -> Path:
    """A model of CDNOW's first 270 days; made once."""
    where = CACHE / "model"
    if not (where / "manifest.json").is_file():
        command = ["train", cdnow(), "--out", where, "--cutoff", "1997-09-28"]
        run(["model", *command])
    return where
