"""Workers as processes on real servers.

`Deployment` is one installation: topics, group and keys of its own. It starts workers, which a test
then stops, kills or pauses, runs the other commands, and waits until all is applied and said.
`tests.support.servers.verifier` then looks at what they left.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streamer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from streamer.kafka.publisher import KafkaPublisher
from streamer.kafka.topics import ensure_topics, topics_to_make
from streamer.records import Message, Partition
from streamer.settings import Settings
from streamer.store.redis_store import RedisStore
from tests.support.servers.cluster import ApacheKafka
from tests.support.servers.forked import Forked

ROOT: Final = Path(__file__).resolve().parents[3]
POLL_S: Final = 0.05
END_S: Final = 60.0
# Ends a wait that would have no end: what takes longer is a fault, on however busy a machine.
WITHIN_S: Final = 180.0
_LOG_TAIL: Final = 12
# Whatever settings the caller's shell has are not meant for these workers.
_OURS: Final = re.compile(r"CLV_.*|KAFKA_BOOTSTRAP_SERVERS|REDIS_URL")
_DEFAULTS: Final = {
    # Orders of the past must not be judged by today's clock.
    "CLV_IDLE_AFTER": "off",
    # The embedded broker assigns partitions after half of it, and misses the dead after all of it.
    "CLV_SESSION_TIMEOUT": "2s",
    # Many small writes: something is always under way when a worker is killed.
    "CLV_BATCH": "50",
    "CLV_WEB_PORT": "0",
    "OMP_NUM_THREADS": "1",
}


WORKER: Final = ("streamer", "worker")


class WorkerGone(AssertionError):
    """No worker is left to do what is waited for; the message has the end of their logs."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


class WorkerProcess:
    """`python -m streamer worker`, to be treated badly. Ended with SIGKILL when the block ends.

    `program` may be another module that runs a worker, such as one with a fault in it. It is a
    fork of what has imported everything, or (`fresh`) a process of its own from the first line on.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Path,
        program: Sequence[str] = WORKER,
        *,
        fresh: bool = True,
    ) -> None:
        self._log = log
        self._process: Forked | subprocess.Popen[bytes]
        if not fresh:
            self._process = Forked(program, environ, log, log)
            return
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *program],
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> list[str]:
        """The lines that it has logged so far."""
        return self._log.read_text(errors="replace").splitlines()

    def logged(self, event: str) -> int:
        """How many times it has logged an event, such as `partition.claimed`."""
        return sum(f" {event}" in line for line in self.log)

    def kill(self) -> None:
        """SIGKILL, as a power cut or the kernel would; returns when it is gone."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: to the group it looks dead, and it does not know."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def terminate(self) -> int:
        """SIGTERM, as an orchestrator would; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within_s: float = END_S) -> int:
        """The exit code, once it has ended by itself. Raises TimeoutError."""
        return await asyncio.to_thread(self._process.wait, within_s)


@dataclass(frozen=True, slots=True)
class Servers:
    """A broker and a Redis; every key in the Redis is held against what the worker may write."""

    kafka: EmbeddedKafka | ApacheKafka
    redis: EmbeddedRedis


class Deployment:
    """One installation of the worker: its settings, its processes and what they have done."""

    fresh = False
    """Whether each process imports for itself, as where its start or memory is looked at."""

    def __init__(
        self, name: str, servers: Servers, model: Path, directory: Path, **variables: str
    ) -> None:
        """`name` begins the names of topics, group and keys; `variables` are further settings."""
        self.servers = servers
        self.workers: list[WorkerProcess] = []
        self._directory = directory
        self.environ = {k: v for k, v in os.environ.items() if not _OURS.fullmatch(k)}
        self.environ |= {
            **_DEFAULTS,
            "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap,
            "REDIS_URL": servers.redis.url,
            "CLV_MODEL": str(model),
            "CLV_GROUP": name,
            "CLV_STATE_NAMESPACE": name,
            "CLV_ORDERS_TOPIC": f"{name}-orders",
            "CLV_WARNINGS_TOPIC": f"{name}-warnings",
            "CLV_SCORES_TOPIC": f"{name}-scores",
            "CLV_DEAD_LETTER_TOPIC": f"{name}-dead-letters",
            "CLV_ERASURES_TOPIC": f"{name}-erasures",
            "CLV_ERASURE_KEY": "T" * 32,
            **variables,
        }
        self.settings = Settings.load(self.environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()

    @property
    def partitions(self) -> list[Partition]:
        topic = self.settings.orders_topic
        return [Partition(topic, number) for number in range(self.settings.partitions)]

    def worker(self, *program: str, **variables: str) -> WorkerProcess:
        """Starts another worker; `variables` differ from the deployment's."""
        log = self._directory / f"worker-{self.settings.group}-{len(self.workers)}.log"
        environ = self.environ | variables
        worker = WorkerProcess(environ, log, program or WORKER, fresh=self.fresh)
        self.workers.append(worker)
        return worker

    async def run(self, *arguments: str, without: Iterable[str] = (), **variables: str) -> Ran:
        """Runs `python -m streamer ...` to its end."""
        environ = {k: v for k, v in (self.environ | variables).items() if k not in set(without)}
        with TemporaryDirectory() as directory:
            out, err = Path(directory, "out"), Path(directory, "err")
            process = Forked(("streamer", *arguments), environ, out, err)
            try:
                code = await asyncio.to_thread(process.wait)
            except asyncio.CancelledError:
                process.kill()
                raise
            return Ran(code, out.read_text(), err.read_text())

    async def make_topics(self) -> None:
        """Makes the topics as the worker would; a worker or `produce` that comes first does it."""
        await ensure_topics(self.servers.kafka.bootstrap, topics_to_make(self.settings))

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when all are acknowledged."""
        publisher = KafkaPublisher(self.servers.kafka.bootstrap)
        await publisher.start()
        try:
            await publisher.publish(messages)
        finally:
            await publisher.close()

    async def applied(self, records: int, within_s: float = WITHIN_S) -> None:
        """Returns once so many records of the orders topic are applied, as Redis says."""
        store = self.store()
        try:
            await self._when(lambda: _applied(store, self.partitions, records), within_s)
        finally:
            await store.close()

    async def settled(self, records: int | None = None, within_s: float = WITHIN_S) -> None:
        """Returns once so many records (None: as many as there are now) are applied, every instant
        that their watermark closes is judged, and every warning said."""
        if records is None:
            records = len(await self.read(self.settings.orders_topic))
        store, lateness_ms = self.store(), self.settings.allowed_lateness_ms

        async def settled() -> bool:
            return await _applied(store, self.partitions, records) and await _quiet(
                store, self.partitions, lateness_ms
            )

        try:
            await self._when(settled, within_s)
        finally:
            await store.close()

    async def logged(self, worker: WorkerProcess, event: str, times: int = 1) -> None:
        """Returns once the worker has logged an event."""

        async def logged() -> bool:
            return worker.logged(event) >= times

        await self._when(logged, WITHIN_S)

    async def read(
        self, topic: str, keep: Callable[[ConsumerRecord], ConsumerRecord] | None = None
    ) -> list[ConsumerRecord]:
        """Every record of a topic, or what is to be kept of each, by partition and offset."""
        return await read_topic(self.servers.kafka.bootstrap, topic, keep=keep)

    def store(self) -> RedisStore:
        """What the workers keep; to be closed."""
        return RedisStore.from_url(
            self.environ["REDIS_URL"],
            cluster_id=self.settings.cluster_id or self.servers.kafka.cluster_id,
            namespace=self.settings.state_namespace,
        )

    async def _when(self, condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
        """Returns when the condition holds. Raises WorkerGone where no worker is left for it."""
        try:
            async with asyncio.timeout(within_s):
                while not await condition():
                    if not any(worker.alive for worker in self.workers):
                        raise WorkerGone(f"every worker has ended{self._logs()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise WorkerGone(f"not done within {within_s:g} s{self._logs()}") from None

    def _logs(self) -> str:
        return "".join(
            f"\n  {'alive' if worker.alive else 'ended'} {number}: {line}"
            for number, worker in enumerate(self.workers)
            for line in worker.log[-_LOG_TAIL:]
        )


async def _applied(store: RedisStore, partitions: Sequence[Partition], records: int) -> bool:
    claims = [await store.peek(partition) for partition in partitions]
    return sum((claim.next_offset or 0) for claim in claims if claim) >= records


async def _quiet(store: RedisStore, partitions: Sequence[Partition], lateness_ms: int) -> bool:
    """Whether nobody is due, and (asked after that) nothing waits to be sent."""
    for partition in partitions:
        claim = await store.peek(partition)
        if claim is None or claim.high_ts_ms is None:
            continue
        if await store.due(partition, claim.high_ts_ms - lateness_ms, 1):
            return False
        if (await store.outbox(partition, 1)).entries:
            return False
    return True


async def read_topic(
    bootstrap: str,
    topic: str,
    within_s: float = 900.0,
    keep: Callable[[ConsumerRecord], ConsumerRecord] | None = None,
) -> list[ConsumerRecord]:
    """Every record of a topic, or what is to be kept of each, by partition and offset.

    The end is the high watermark that comes with fetched records: the embedded broker's answer to
    "latest" falls short of it.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(within_s):
            while not (numbers := consumer.partitions_for_topic(topic)):
                await consumer._client.force_metadata_update()
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            found: dict[TopicPartition, list[ConsumerRecord]] = {p: [] for p in partitions}
            while not all([await _read_up(consumer, partition) for partition in partitions]):
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[partition] += map(keep, records) if keep else records
    finally:
        await consumer.stop()
    return [record for partition in partitions for record in found[partition]]


async def _read_up(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    end = consumer.highwater(partition)
    return end is not None and await consumer.position(partition) >= end
