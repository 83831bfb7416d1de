from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from features.events.orders import FreeOrders
from streamer.assemble import pipeline_of
from streamer.clock import ManualClock
from streamer.kafka.faust_app import faust_app
from streamer.kafka.lane import Lane
from streamer.pipeline.batch import Counters, Pipeline
from streamer.pipeline.claim import Fenced, LogTooShort, LostWrites
from streamer.pipeline.partition import OutOfSequence
from streamer.records import LogRange, MemoryPublisher, Partition, PublishFailed
from streamer.settings import Settings
from streamer.store.base import StoreUnavailable, TopicRecreated
from streamer.store.memory import MemoryStore
from streamer.worker.partitions import TICK_LIMIT, Partitions
from streamer.worker.runners import Runners

LOG = LogRange(start=5, end=50, partition_count=2)


class FakeRunner:
    """A runner that raises what it is told to, one call after the other."""

    instances: list[FakeRunner]

    def __init__(self, partition: Partition, *_: Any, **__: Any) -> None:
        self.partition = partition
        self.next_offset = 7
        self.watermark_ms: int | None = None
        self.counters = Counters()
        self.outbox_pending = 0
        self.raises: list[BaseException] = []
        self.claims: list[LogRange] = []
        self.processed: list[Sequence[Any]] = []
        self.ticks: list[int | None] = []
        self.pipelines: list[Any] = []
        FakeRunner.instances.append(self)

    def _maybe_raise(self) -> None:
        if self.raises:
            raise self.raises.pop(0)

    def adopt(self, pipeline: Any) -> None:
        self.pipelines.append(pipeline)

    async def claim(self, log: LogRange) -> int:
        self.claims.append(log)
        self._maybe_raise()
        if log.end < self.next_offset:
            raise LogTooShort(self.partition, self.next_offset, log.end)
        return self.next_offset

    async def process(self, records: Sequence[Any]) -> None:
        self._maybe_raise()
        self.processed.append(records)

    async def check(self) -> None:
        self._maybe_raise()

    async def tick(self, idle_watermark_ms: int | None, limit: int | None = None) -> int:
        self._maybe_raise()
        self.ticks.append(idle_watermark_ms)
        return 3


class FakeLane:
    def __init__(self) -> None:
        self.records_delivered = 0
        self.reseeks: list[tuple[int, int]] = []
        self.reopened: list[tuple[int, float]] = []
        self.at_end = True
        self.hints: list[dict[int, int]] = []
        self.log = LOG

    async def reseek(self, partition: int, offset: int) -> None:
        self.reseeks.append((partition, offset))

    def reopen(self, partition: int, after_s: float = 0.0) -> None:
        self.reopened.append((partition, after_s))

    def caught_up(self, partition: int) -> bool:
        return self.at_end

    async def commit_hint(self, offsets: dict[int, int]) -> None:
        self.hints.append(offsets)

    async def log_range(self, partition: int) -> LogRange:
        return self.log


@pytest.fixture(autouse=True)
def _fake_runners_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    FakeRunner.instances = []
    monkeypatch.setattr("streamer.worker.runners.PartitionRunner", FakeRunner)
    monkeypatch.setattr("streamer.worker.partitions.asyncio.sleep", at_once)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000_000)


@pytest.fixture
def lane() -> FakeLane:
    return FakeLane()


@pytest.fixture
async def partitions(clock: ManualClock, lane: FakeLane) -> Partitions:
    async def pipeline() -> Pipeline:
        return cast(Pipeline, None)

    partitions = Partitions(
        Settings(),
        Runners(Settings(), MemoryStore(), MemoryPublisher(), pipeline, clock=clock),
        clock,
    )
    partitions.lane = cast(Lane, lane)
    assert await partitions.assigned({0: LOG, 1: LOG}) == {0: 7, 1: 7}
    return partitions


def runner(number: int) -> FakeRunner:
    return [one for one in FakeRunner.instances if one.partition.number == number][-1]


async def test_records_are_processed_again_until_the_store_is_back(
    partitions: Partitions,
) -> None:
    runner(0).raises = [StoreUnavailable("down"), PublishFailed("no ack")]
    await partitions.records(0, cast(Any, ["record"]))
    assert runner(0).processed == [["record"]]


async def test_records_out_of_sequence_are_read_again(
    partitions: Partitions, lane: FakeLane
) -> None:
    runner(0).raises = [OutOfSequence(7, 9)]
    await partitions.records(0, cast(Any, ["record"]))
    assert lane.reseeks == [(0, 7)]


async def test_a_fenced_partition_is_dropped_and_claimed_again_after_a_session(
    partitions: Partitions, lane: FakeLane
) -> None:
    runner(0).raises = [Fenced(Partition("orders", 0))]
    await partitions.records(0, cast(Any, ["record"]))
    assert partitions.next_offsets() == {1: 7}
    assert lane.reopened == [(0, 10.0)]
    await partitions.records(0, cast(Any, ["late"]))
    assert runner(0).processed == []


async def test_a_store_that_went_back_stops_the_worker(partitions: Partitions) -> None:
    runner(0).raises = [LostWrites(Partition("orders", 0))]
    with pytest.raises(LostWrites):
        await partitions.records(0, cast(Any, ["record"]))


async def test_a_partition_that_stays_ours_keeps_its_runner(partitions: Partitions) -> None:
    await partitions.revoked([1])
    await partitions.assigned({0: LOG, 1: LOG})
    assert [one.partition.number for one in FakeRunner.instances] == [0, 1, 1]


async def test_another_partition_count_is_claimed_so_that_the_store_can_refuse(
    partitions: Partitions,
) -> None:
    await partitions.assigned({0: LogRange(5, 50, 8)})
    assert runner(0).claims == [LogRange(5, 50, 8)]


async def test_a_log_that_seems_too_short_is_looked_at_again(
    partitions: Partitions, lane: FakeLane
) -> None:
    await partitions.revoked([0])
    assert await partitions.assigned({0: LogRange(0, 3, 2)}) == {0: 7}
    lane.log = LogRange(0, 3, 2)
    await partitions.revoked([0])
    with pytest.raises(LogTooShort):
        await partitions.assigned({0: LogRange(0, 3, 2)})


async def test_the_clock_moves_a_partition_once_it_is_idle_and_read_to_its_end(
    partitions: Partitions, clock: ManualClock, lane: FakeLane
) -> None:
    clock.advance(59_000)
    await partitions.tick()
    clock.advance(2_000)
    await partitions.records(1, cast(Any, ["record"]))
    await partitions.tick()
    lane.at_end = False
    await partitions.tick()
    twice_the_lateness_ms = 2 * 3_600_000
    assert runner(0).ticks == [None, clock.now_ms() - twice_the_lateness_ms, None]
    assert runner(1).ticks == [None, None, None]
    assert partitions.scored == 18


async def test_a_tick_leaves_a_partition_alone_whose_records_are_under_way(
    partitions: Partitions,
) -> None:
    async with partitions._owned[0].busy:
        await partitions.tick()
    assert (runner(0).ticks, runner(1).ticks) == ([], [None])


async def test_records_are_taken_between_the_pieces_of_a_long_tick(
    partitions: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner(0)
    pieces = [TICK_LIMIT, TICK_LIMIT, 5]
    arriving: list[asyncio.Task[None]] = []
    processed_before: list[int] = []

    async def tick(_: int | None, limit: int | None) -> int:
        assert limit == TICK_LIMIT
        processed_before.append(len(first.processed))
        if not arriving:
            order = cast(Any, "an order")
            arriving.append(asyncio.create_task(partitions.records(0, [order])))
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn
        return pieces.pop(0)

    monkeypatch.setattr(first, "tick", tick)
    await partitions.tick()
    assert processed_before == [0, 1, 1]
    assert partitions.scored == 2 * TICK_LIMIT + 5 + 3


async def test_a_store_that_went_back_stops_a_worker_that_has_nothing_to_write(
    partitions: Partitions, lane: FakeLane
) -> None:
    runner(0).raises = [Fenced(Partition("orders", 0))]
    await partitions.check_store()
    assert [number for number, _ in lane.reopened] == [0]
    assert partitions.next_offsets() == {1: 7}
    runner(1).raises = [StoreUnavailable("away"), LostWrites(Partition("orders", 1))]
    with pytest.raises(LostWrites):
        await partitions.check_store()


async def test_hints_are_given_for_what_moved(partitions: Partitions, lane: FakeLane) -> None:
    await partitions.hint()
    await partitions.hint()
    runner(1).next_offset = 9
    await partitions.hint()
    assert lane.hints == [{0: 7, 1: 7}, {1: 9}]


async def test_a_topic_made_anew_under_a_running_worker_stops_it(
    partitions: Partitions, lane: FakeLane
) -> None:
    await partitions.check_topic()
    lane.log = replace(LOG, topic_id="one")
    await partitions.assigned({0: lane.log, 1: lane.log})
    await partitions.check_topic()
    lane.log = replace(LOG, end=5_000, topic_id="two")
    with pytest.raises(TopicRecreated, match="its id is two"):
        await partitions.check_topic()


async def test_faust_is_set_up_as_a_group_member_without_acks_leader_or_pages() -> None:
    settings = Settings.load(
        {"KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2", "CLV_SESSION_TIMEOUT": "6s"}, needs=()
    )
    conf = faust_app(settings).conf
    assert [(url.host, url.port) for url in conf.broker] == [("a", 1), ("b", 2)]
    assert conf.table_standby_replicas == 0
    assert conf.topic_disable_leader
    assert not conf.topic_allow_declare
    assert conf.broker_session_timeout == 6.0
    assert conf.consumer_auto_offset_reset == "none"
    assert not conf.web_enabled


@pytest.mark.parametrize(
    ("trained_on", "remedy"),
    [
        (("EUR", "UTC", FreeOrders.COUNT), "set CLV_CURRENCY=EUR"),
        (("USD", "Europe/Berlin", FreeOrders.COUNT), "set CLV_TIMEZONE=Europe/Berlin"),
        (("USD", "UTC", FreeOrders.IGNORE), "set CLV_FREE_ORDERS=ignore"),
    ],
)
def test_a_model_of_another_currency_zone_or_free_orders_is_refused_with_the_remedy(
    trained_on: tuple[str, str, FreeOrders], remedy: str
) -> None:
    class Manifest:
        currency, timezone, free_orders = trained_on

    class Artifact:
        manifest = Manifest()

    with pytest.raises(ValueError, match=remedy):
        pipeline_of(Settings(), cast(Any, Artifact()))
