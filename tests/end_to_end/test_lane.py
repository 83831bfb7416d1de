"""The lane against a broker: every record once, in order, whoever reads the partition."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord

from streamer.kafka.faust_consumer import LaneThread
from streamer.kafka.lane import Lane
from streamer.kafka.port import Fetched, LaneOptions
from streamer.kafka.topics import Topic, ensure_topics
from streamer.records import LogRange, Message
from tests.support.servers.cluster import Kafka
from tests.support.servers.lane_kit import Recorder, SharedLog, join, numbered, publishing, until

PARTITIONS = 4
_names = count()


@pytest.fixture
def bootstrap(kafka: Kafka) -> str:
    return kafka.bootstrap


@pytest.fixture
async def topic(bootstrap: str) -> str:
    name = f"orders{next(_names)}"
    await ensure_topics(bootstrap, [Topic(name, PARTITIONS)])
    return name


def complete(shared: SharedLog, total: int) -> bool:
    return shared.count >= total


def assert_once_in_order(shared: SharedLog, total: int) -> None:
    assert shared.count == total
    for done in shared.applied.values():
        assert done == list(range(len(done)))


async def test_every_record_arrives_once_and_in_order(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    sink = Recorder("one", shared)
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 5000))
        async with await join(bootstrap, topic, sink, LaneOptions(batch=500)) as member:
            await until(lambda: complete(shared, 5000))
            await publisher.publish(numbered(topic, 500))
            await until(lambda: complete(shared, 5500))
            assert member.failures == []
            assert member.lane.records_dropped == 0
            await until(lambda: all(member.lane.caught_up(n) for n in range(PARTITIONS)))
    assert_once_in_order(shared, 5500)
    assert max(sink.sizes) <= 500
    assert sink.out_of_sequence == 0


async def test_the_logs_end_is_right_where_the_brokers_latest_offset_is_not(
    bootstrap: str, topic: str
) -> None:
    shared = SharedLog()
    async with publishing(bootstrap) as publisher:
        # One batch for each partition: Tansu answers "latest" with 1.
        await publisher.publish(numbered(topic, 1000))
    async with await join(bootstrap, topic, Recorder("one", shared)):
        await until(lambda: complete(shared, 1000))
    assert sum(log.end for log in shared.logs.values()) == 1000
    assert {log.start for log in shared.logs.values()} == {0}
    assert {log.partition_count for log in shared.logs.values()} == {PARTITIONS}


async def test_reading_starts_where_the_sink_says(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    sink = Recorder("one", shared)
    sink.starts = dict.fromkeys(range(PARTITIONS), 100)
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 4000))
    async with await join(bootstrap, topic, sink):
        await until(lambda: complete(shared, 4000 - 100 * PARTITIONS))
    assert {done[0] for done in shared.applied.values()} == {100}


async def test_a_partition_can_be_read_again_from_an_offset(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 2000))
    async with await join(bootstrap, topic, Recorder("one", shared)) as member:
        await until(lambda: complete(shared, 2000))
        before = list(shared.applied[2])
        shared.applied[2] = before[:10]
        await member.lane.reseek(2, 10)
        await until(lambda: complete(shared, 2000))
        assert shared.applied[2] == before


async def test_a_second_worker_takes_over_and_gives_back(bootstrap: str, topic: str) -> None:
    shared, first, second = SharedLog(), *_two_sinks()
    first.shared = second.shared = shared
    async with publishing(bootstrap) as publisher:
        stop = asyncio.Event()
        sent = 0

        async def traffic() -> None:
            nonlocal sent
            while not stop.is_set():
                await publisher.publish(numbered(topic, 50, sent))
                sent += 50
                await asyncio.sleep(0.02)

        producing = asyncio.create_task(traffic())
        async with await join(bootstrap, topic, first) as one:
            await until(lambda: shared.count > 100)
            async with await join(bootstrap, topic, second) as two:
                await until(lambda: len(one.lane.owned) == 2 and len(two.lane.owned) == 2)
                assert one.lane.owned | two.lane.owned == frozenset(range(PARTITIONS))
                seen = shared.count
                await until(lambda: shared.count > seen + 200)
            await until(lambda: len(one.lane.owned) == PARTITIONS)
            stop.set()
            await producing
            await until(lambda: complete(shared, sent))
            assert one.failures == two.failures == []
    assert_once_in_order(shared, sent)
    assert first.out_of_sequence == second.out_of_sequence == 0
    # The two partitions that stayed were never taken from the first worker.
    assert {len(gone) for gone in first.lost[:1]} == {2}


def _two_sinks() -> tuple[Recorder, Recorder]:
    return Recorder("one", SharedLog()), Recorder("two", SharedLog())


async def test_a_stuck_batch_does_not_hold_up_a_rebalance(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    stuck, second = Recorder("one", shared), Recorder("two", shared)
    stuck.hold = asyncio.Event()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 2000))
    options = LaneOptions(drain_s=0.5)
    async with (
        await join(bootstrap, topic, stuck, options) as one,
        await join(bootstrap, topic, second) as two,
    ):
        await until(lambda: len(two.lane.owned) == 2)
        # Cut off, so all of the first worker's partitions were forgotten and claimed anew.
        assert frozenset(range(PARTITIONS)) in stuck.lost
        stuck.hold.set()
        await until(lambda: complete(shared, 2000))
        assert one.failures == two.failures == []
    assert_once_in_order(shared, 2000)


class Deaf(Recorder):
    """Is told to stop while it waits, and returns as if it had not been; or waits on."""

    def __init__(self, name: str, shared: SharedLog, *, ends: bool) -> None:
        super().__init__(name, shared)
        self.ends = ends

    async def records(self, partition: int, batch: Sequence[ConsumerRecord]) -> None:
        assert self.hold is not None
        while not self.hold.is_set():
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                if self.ends:
                    return


@pytest.mark.parametrize("ends", [True, False])
async def test_a_batch_that_does_not_hear_that_it_is_cut_off_does_not_hold_up_a_rebalance_either(
    bootstrap: str, topic: str, ends: bool
) -> None:
    shared = SharedLog()
    deaf, second = Deaf("one", shared, ends=ends), Recorder("two", shared)
    deaf.hold = asyncio.Event()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 2000))
    options = LaneOptions(drain_s=0.5)
    async with (
        await join(bootstrap, topic, deaf, options) as one,
        await join(bootstrap, topic, second) as two,
    ):
        await until(lambda: len(two.lane.owned) == 2)
        assert frozenset(range(PARTITIONS)) in deaf.lost
        deaf.hold.set()
        assert one.failures == two.failures == []


class DeafClaim(Recorder):
    """Is told to stop while it claims, and returns as if it had not been."""

    async def assigned(self, logs: Mapping[int, LogRange]) -> Mapping[int, int]:
        assert self.hold is not None
        with contextlib.suppress(asyncio.CancelledError):
            await self.hold.wait()
        return await super().assigned(logs)


class OnePartition:
    """The consumer, as far as opening a partition needs it."""

    async def ranges(self, partitions: Collection[int]) -> Mapping[int, LogRange]:
        return {number: LogRange(0, 0, 1) for number in partitions}

    async def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        return dict.fromkeys(offsets, 1)

    def poke(self) -> None: ...


async def test_a_claim_that_does_not_hear_of_a_rebalance_opens_nothing() -> None:
    sink, failures = DeafClaim("one", SharedLog()), list[BaseException]()
    sink.hold = asyncio.Event()
    lane = Lane("orders", sink, failures.append)
    lane.attach(cast(Any, OnePartition()))
    await lane.settle(frozenset({0}), 1)
    await lane.open(wait_s=0.01)
    await lane.revoking()
    await until(lambda: sink.assignments)
    for _ in range(5):
        await asyncio.sleep(0)
    assert lane.owned == frozenset()
    assert lane.rebalancing_since_s is not None
    await lane.settle(frozenset({0}), 2)
    sink.hold.set()
    await lane.open(wait_s=5)
    assert lane.owned == frozenset({0})
    await lane.close()
    assert failures == []


async def test_what_waits_for_a_slow_sink_is_bounded(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    sink = Recorder("one", shared)
    sink.hold = asyncio.Event()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 8000))
    options = LaneOptions(batch=100)
    async with await join(bootstrap, topic, sink, options) as member:
        feeds = member.lane._flow.feeds
        await until(lambda: all(len(feed.waiting) >= 100 for feed in feeds.values()))
        await asyncio.sleep(0.5)
        assert all(len(feed.waiting) < 200 for feed in feeds.values())
        sink.hold.set()
        await until(lambda: complete(shared, 8000))
    assert_once_in_order(shared, 8000)


async def test_what_the_consumers_thread_has_fetched_is_not_taken_for_applied(
    bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, fetched, go_on = LaneThread.fetch_here, threading.Event(), threading.Event()

    async def held(self: LaneThread, *arguments: Any) -> list[Fetched]:
        found = await fetch(self, *arguments)
        if any(one.records for one in found):
            fetched.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(LaneThread, "fetch_here", held)
    shared = SharedLog()
    async with publishing(bootstrap) as publisher:
        await publisher.publish([Message(topic, b"one", b"%d" % n) for n in range(5)])
    async with await join(bootstrap, topic, Recorder("one", shared)) as member:
        await until(fetched.is_set)
        (number,) = [n for n, log in shared.logs.items() if log.end]
        assert not member.lane.caught_up(number)
        assert shared.count == 0
        go_on.set()
        await until(lambda: member.lane.caught_up(number))
        assert shared.count == 5


async def test_a_sink_that_raises_stops_the_lane_with_the_reason(
    bootstrap: str, topic: str
) -> None:
    sink = Recorder("one", SharedLog())
    sink.fails = True
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 100))
    async with await join(bootstrap, topic, sink) as member:
        await until(lambda: bool(member.failures))
        assert [str(error) for error in member.failures] == ["the sink is broken"]
        assert member.lane.owned == frozenset()


async def test_closing_takes_no_longer_than_draining(bootstrap: str, topic: str) -> None:
    sink = Recorder("one", SharedLog())
    sink.hold = asyncio.Event()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 1000))
    member = await join(bootstrap, topic, sink, LaneOptions(drain_s=0.5))
    await until(lambda: member.lane.behind)
    began = time.monotonic()
    await member.close()
    assert time.monotonic() - began < 3.0


async def test_a_position_beyond_the_logs_end_comes_back_to_the_sink(
    bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.kafka.faust_consumer.BEYOND_END_S", 0.2)
    shared = SharedLog()
    sink = Recorder("one", shared)
    sink.starts = {1: 10_000}
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 1000))
    async with await join(bootstrap, topic, sink) as member:
        # Asked again, with the log's true range; this sink then starts where the log does.
        await until(lambda: complete(shared, 1000))
        assert sink.assignments[-1] == {1: 0}
        assert frozenset({1}) in sink.lost
        assert member.failures == []


async def test_hints_reach_kafka_and_nothing_else_commits(bootstrap: str, topic: str) -> None:
    shared = SharedLog()
    async with publishing(bootstrap) as publisher:
        await publisher.publish(numbered(topic, 1000))
    async with await join(bootstrap, topic, Recorder("one", shared)) as member:
        await until(lambda: complete(shared, 1000))
        await member.lane.commit_hint({0: 7, 99: 1})
        assert member.lane._port is not None
        consumer = member.lane._port._thread._ensure_consumer()  # type: ignore[attr-defined]
        for number, expected in ((0, 7), (1, None)):
            tp = next(tp for tp in consumer.assignment() if tp.partition == number)
            found = await member.lane._port._thread.run_here(  # type: ignore[attr-defined]
                consumer.committed(tp)
            )
            assert found == expected
