"""The lane between a scripted consumer and a sink: what is applied, and when more is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streamer.kafka.lane import Lane
from streamer.kafka.port import Fetched, LaneOptions, Vitals
from streamer.records import LogRange

BATCH = 10


class ScriptedPort:
    """A consumer of one partition with `end` records; `handing_over` holds back what was fetched,
    as a busy event loop would."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.position = 0
        self.version = 0
        self.handing_over = asyncio.Event()
        self.handing_over.set()
        self.pokes = 0

    async def fetch(
        self, partitions: Collection[int], timeout_s: float, limit: int
    ) -> list[Fetched]:
        assert list(partitions) == [0]
        first, version = self.position, self.version
        self.position = min(first + limit, self.end)
        await self.handing_over.wait()
        if first == self.position:
            await asyncio.sleep(timeout_s)
        records: list[Any] = [SimpleNamespace(offset=n) for n in range(first, self.position)]
        return [Fetched(0, version, records, self.position)]

    async def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        self.position = offsets[0]
        self.version += 1
        return {0: self.version}

    async def ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]:
        return {0: LogRange(0, self.end, 1)}

    async def commit(self, offsets: Mapping[int, int]) -> None: ...

    def end_reached(self, partition: int, version: int) -> int | None:
        return self.position if (self.position, self.version) == (self.end, version) else None

    def poke(self) -> None:
        self.pokes += 1

    def heal(self, timeout_s: float) -> Vitals:
        return Vitals()


class Sink:
    """Keeps the offsets that it is given, one list after another, as long as `free` is set."""

    def __init__(self) -> None:
        self.applied: list[int] = []
        self.lists = 0
        self.free = asyncio.Event()
        self.free.set()

    async def assigned(self, logs: Mapping[int, LogRange]) -> Mapping[int, int]:
        return dict.fromkeys(logs, 0)

    async def revoked(self, partitions: Collection[int]) -> None: ...

    async def records(self, partition: int, batch: Sequence[ConsumerRecord]) -> None:
        await self.free.wait()
        self.lists += 1
        self.applied += [record.offset for record in batch]


class Running:
    """A lane that drains partition 0."""

    def __init__(self, end: int) -> None:
        self.port, self.sink = ScriptedPort(end), Sink()
        self.failures: list[BaseException] = []
        self.lane = Lane("orders", self.sink, self.failures.append, LaneOptions(batch=BATCH))
        self._draining: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Running:
        self.lane.attach(self.port)
        await self.lane.settle(frozenset({0}), 1)
        await self.lane.open(wait_s=5)
        self._draining = asyncio.create_task(self.lane.drain(lambda: False))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._draining is not None
        self._draining.cancel()
        await self.lane.close()
        assert self.failures == []


async def turns(count: int = 2_000) -> None:
    """Lets everything run that waits for no clock."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_records_on_their_way_between_threads_are_not_taken_for_applied() -> None:
    async with Running(5) as run:
        run.port.handing_over.clear()
        await turns()
        assert (run.port.position, run.sink.applied) == (5, [])
        assert not run.lane.caught_up(0)
        run.port.handing_over.set()
        await turns()
        assert run.sink.applied == [0, 1, 2, 3, 4]
        assert run.lane.caught_up(0)


async def test_records_in_the_sink_are_not_taken_for_applied() -> None:
    async with Running(5) as run:
        run.sink.free.clear()
        await turns()
        assert run.port.position == 5
        assert not run.lane.caught_up(0)
        run.sink.free.set()
        await turns()
        assert run.lane.caught_up(0)


async def test_an_end_that_has_moved_on_is_not_reached() -> None:
    async with Running(5) as run:
        await turns()
        run.port.end = 6
        assert not run.lane.caught_up(0)


async def test_after_a_seek_nothing_is_known_until_a_fetch_has_come_back() -> None:
    async with Running(0) as run:
        assert not run.lane.caught_up(0)
        await run.lane.reseek(0, 0)
        await turns()
        assert not run.lane.caught_up(0)


@pytest.mark.parametrize("end", [BATCH, 5 * BATCH, 100 * BATCH])
async def test_one_partition_is_fetched_again_as_soon_as_there_is_room(end: int) -> None:
    async with Running(end) as run:
        await turns()
        assert run.sink.applied == list(range(end))
        assert run.sink.lists == end // BATCH
        assert run.port.pokes == 0  # there was no fetch that began without it
