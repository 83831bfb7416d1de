"""What the tests of the lane share: a group member without store or model, and its sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import faust
from aiokafka import ConsumerRecord

from streamer.kafka.faust_app import faust_app
from streamer.kafka.faust_consumer import install
from streamer.kafka.lane import Lane
from streamer.kafka.port import LaneOptions
from streamer.kafka.publisher import KafkaPublisher
from streamer.records import LogRange, Message
from streamer.settings import Settings


@dataclass
class SharedLog:
    """Stands for the store: how far each partition has been applied, whoever applied it."""

    applied: dict[int, list[int]] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    logs: dict[int, LogRange] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(map(len, self.applied.values()))

    def next_of(self, partition: int, start: int) -> int:
        done = self.applied.get(partition)
        return done[-1] + 1 if done else start


class Recorder:
    """A sink that applies what continues, under the ownership that the shared log grants."""

    def __init__(self, name: str, shared: SharedLog) -> None:
        self.name = name
        self.shared = shared
        self.lost: list[frozenset[int]] = []
        self.assignments: list[dict[int, int]] = []
        self.out_of_sequence = 0
        self.starts: dict[int, int] = {}
        self.hold: asyncio.Event | None = None
        self.sizes: list[int] = []
        self.fails = False

    async def assigned(self, logs: Mapping[int, LogRange]) -> Mapping[int, int]:
        self.shared.logs.update(logs)
        offsets = {
            number: self.starts.pop(number, self.shared.next_of(number, log.start))
            for number, log in logs.items()
        }
        self.shared.owners.update(dict.fromkeys(logs, self.name))
        self.assignments.append(offsets)
        return offsets

    async def revoked(self, partitions: Collection[int]) -> None:
        self.lost.append(frozenset(partitions))

    async def records(self, partition: int, batch: Sequence[ConsumerRecord]) -> None:
        if self.fails:
            raise RuntimeError("the sink is broken")
        if self.hold is not None:
            await self.hold.wait()
        self.sizes.append(len(batch))
        if self.shared.owners[partition] != self.name:
            return  # fenced
        done = self.shared.applied.setdefault(partition, [])
        if done and batch[0].offset != done[-1] + 1:
            self.out_of_sequence += 1
        done += [record.offset for record in batch]


@dataclass
class Member:
    """A worker without store and model: the lane, its sink, and why it failed if it did."""

    lane: Lane
    sink: Recorder
    failures: list[BaseException]
    app: faust.App
    stack: AsyncExitStack

    async def close(self) -> None:
        await self.stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def join(
    bootstrap: str,
    topic: str,
    sink: Recorder,
    options: LaneOptions | None = None,
) -> Member:
    """A member of the group named like the topic; returns once the group has assigned."""
    settings = Settings(
        kafka_bootstrap_servers=bootstrap,
        group=f"group-{topic}",
        orders_topic=topic,
        session_timeout_ms=2_000,
        web_port=0,
    )
    failures: list[BaseException] = []
    lane = Lane(topic, sink, failures.append, options)
    app = faust_app(settings)
    install(app, lane)
    stack = AsyncExitStack()
    stack.push_async_callback(app.stop)
    stack.push_async_callback(lane.close)
    await app.start()
    return Member(lane, sink, failures, app, stack)


@asynccontextmanager
async def publishing(bootstrap: str) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(bootstrap)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


def numbered(topic: str, count: int, first: int = 0) -> list[Message]:
    """Messages spread over the partitions by their keys."""
    return [
        Message(topic, b"customer-%d" % number, b"%d" % number)
        for number in range(first, first + count)
    ]


async def until(condition: object, within_s: float = 20.0) -> None:
    """Returns once `condition()` holds. Raises TimeoutError."""
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
