"""A deployment under orders that keep coming, and a supervisor that starts ended workers anew."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from features.events.orders import Order
from streamer.orders import order_message
from streamer.records import Message
from tests.support.chaos.results import Entry
from tests.support.servers.deployment import POLL_S, Deployment, Servers, WorkerGone, WorkerProcess
from tests.support.servers.verifier import Verdict, verify

FULL: Final = os.environ.get("CHAOS_FULL") == "1"
# On two busy cores a worker takes ten seconds and more to start; nothing here measures how long.
WITHIN_S: Final = 300.0
SESSION_S: Final = 2.0
SABOTEUR: Final = ("tests.support.chaos.fault_injector",)


def size(small: int, full: int) -> int:
    return full if FULL else small


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@dataclass(slots=True)
class _Place:
    """A place for a worker, and who holds it."""

    worker: WorkerProcess
    variables: dict[str, str]


class Stage(Deployment):
    """Orders are fed from a list, in the order of event time, each once; `fed` counts them, and
    what else was put into the topic.

    A worker that ends by itself is started again while somebody waits for something, as an
    orchestrator would, without its fault; `stops` has why they ended.
    """

    fresh = True

    def __init__(
        self,
        name: str,
        servers: Servers,
        model: Path,
        directory: Path,
        orders: Sequence[Order],
        **variables: str,
    ) -> None:
        super().__init__(name, servers, model, directory, **variables)
        self.orders = list(orders)
        self.fed = 0
        self.given = 0
        self.stops: list[str] = []
        self.random = random.Random(name)
        self._places: list[_Place] = []

    # --- orders -----------------------------------------------------------------------------

    async def feed(self, count: int) -> None:
        """The next orders, acknowledged by the broker."""
        part = self.orders[self.given : self.given + count]
        self.given += len(part)
        await self.put([order_message(o, self.settings.orders_topic, "USD") for o in part])

    async def put(self, messages: Sequence[Message]) -> None:
        self.fed += len(messages)
        await self.publish(messages)

    async def configure(self, topic: str, options: Mapping[str, str]) -> None:
        """Sets options of a topic."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.kafka.bootstrap)
        await admin.start()
        try:
            found = ConfigResource(ConfigResourceType.TOPIC, topic, dict(options))
            await admin.alter_configs([found])
        finally:
            await admin.close()

    async def put_packed(self, codec: str, values: Sequence[bytes]) -> None:
        """Values of no orders, each compressed in a batch of its own."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers.kafka.bootstrap,
            compression_type=codec,
            max_request_size=2**30,
            max_batch_size=2**30,
        )
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(self.settings.orders_topic, value, key=b"packed")
                self.fed += 1
        finally:
            await producer.stop()

    async def put_bad(self, number: int) -> None:
        """A record that no rule accepts."""
        await self.put([Message(self.settings.orders_topic, b"bad-%d" % number, b"{")])

    async def feed_rest(self) -> None:
        await self.feed(len(self.orders) - self.given)

    async def under_way(self, count: int) -> None:
        """Feeds so many orders; returns when some of them are applied, and some are not yet, or
        may be not."""
        before = self.fed
        await self.feed(count)
        await self.applied(before + self.random.randrange(1, max(2, count // 2)), WITHIN_S)

    async def finished(self) -> None:
        """Everything fed is applied, judged and said."""
        await self.settled(self.fed, WITHIN_S)

    # --- workers ----------------------------------------------------------------------------

    def keep(self, plan: dict[str, Any] | None = None, **variables: str) -> WorkerProcess:
        """Starts a worker that is started again when it ends by itself; `plan`: the fault that
        the first one has."""
        worker = self.worker(**variables) if plan is None else self.sabotaged(plan, **variables)
        self._places.append(_Place(worker, variables))
        return worker

    def sabotaged(self, plan: dict[str, Any], **variables: str) -> WorkerProcess:
        """A worker with a fault, which is not started again; see `saboteur`."""
        return self.worker(*SABOTEUR, CHAOS_PLAN=json.dumps(plan), **variables)

    def let_go(self, worker: WorkerProcess) -> None:
        """It is not started again."""
        self._places = [place for place in self._places if place.worker is not worker]

    def replace(self, worker: WorkerProcess, **variables: str) -> WorkerProcess:
        """Another in the place of one that has ended."""
        place = next(place for place in self._places if place.worker is worker)
        place.variables |= variables
        place.worker = self.worker(**place.variables)
        return place.worker

    def supervise(self) -> None:
        for place in self._places:
            if not place.worker.alive:
                self.stops.append(last_words(place.worker))
                place.worker = self.worker(**place.variables)

    @property
    def kept(self) -> list[WorkerProcess]:
        return [place.worker for place in self._places]

    def owners(self) -> list[WorkerProcess]:
        return [worker for worker in self.kept if worker.alive and owns(worker)]

    async def owner(self) -> WorkerProcess:
        """A random worker that owns partitions."""
        await self.until(self.owners)
        return self.random.choice(self.owners())

    async def spread(self) -> None:
        """Returns once the workers that live have all partitions among them."""
        count = self.settings.partitions
        await self.until(lambda: sum(given(w) for w in self.workers if w.alive) == count)

    async def until(self, condition: Callable[[], object]) -> None:
        async def holds() -> bool:
            return bool(condition())

        await self._when(holds, WITHIN_S)

    def count(self, event: str) -> int:
        """How often all workers together have logged an event."""
        return sum(worker.logged(event) for worker in self.workers)

    async def _when(self, condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
        within_s = max(within_s, WITHIN_S)
        try:
            async with asyncio.timeout(within_s):
                while not await condition():
                    self.supervise()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise WorkerGone(f"not done within {within_s:g} s{self._logs()}") from None

    # --- the end ----------------------------------------------------------------------------

    async def verified(
        self,
        entry: Entry,
        *,
        known: str | None = None,
        because: str = "",
        orders: bool = True,
        models: Sequence[Path] = (),
        digest: bool = False,
    ) -> Verdict:
        """Waits until all is said, and writes into the entry what the verifier finds.

        Faults that match `known` stand in the entry with their reason, and fail nothing.
        """
        await self.finished()
        given = self.orders[: self.given] if orders else None
        verdict = await verify(self, given, models, digest=digest)
        expected = [f for f in verdict.faults if known is not None and re.search(known, f)]
        entry.faults = [f[:300] for f in verdict.faults if f not in expected]
        if expected:
            entry.known.append(f"{len(expected)} x {because}")
        entry.verified = True
        entry.records += verdict.records
        entry.warnings += verdict.warnings
        entry.duplicates += verdict.warning_copies - verdict.warnings
        assert not entry.faults, f"{len(entry.faults)} faults, the first: {entry.faults[0]}"
        return verdict


def owns(worker: WorkerProcess) -> bool:
    """Whether, as far as its log tells, the worker has partitions and reads them."""
    opened = False
    for line in worker.log:
        # Fenced: somebody else has taken what it had; what it gets back, it opens.
        if " partitions.assigned " in line or " partition.fenced " in line:
            opened = False
        elif " partition.opened " in line:
            opened = True
        elif " worker.ending" in line:
            return False
    return opened


def given(worker: WorkerProcess) -> int:
    """How many partitions the group gave it last."""
    told = [line for line in worker.log if " partitions.assigned " in line]
    return int(told[-1].split("count=")[1].split()[0]) if told else 0


def last_words(worker: WorkerProcess) -> str:
    """Why a worker ended, in its own words."""
    for line in reversed(worker.log):
        if " worker.stopped " in line:
            return line.partition(" worker.stopped ")[2]
    return "no word"
